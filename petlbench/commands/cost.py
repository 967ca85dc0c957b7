"""petlbench cost: parameters, FLOPs, memory and throughput of any method on any backbone, without data."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from petlbench.commands import options as shared

if TYPE_CHECKING:
    from petlbench.commands import Commands

EPILOG = """examples:
  petlbench cost --methods hst,lora,vpt --backbone vit_base_patch16_224
  petlbench cost --methods all --backbone mini --no-time
  petlbench cost --methods linear,hst --suite mini-coco --tasks mask_rcnn      (the whole detector)
"""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "cost", help="measure without data", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", default="all", metavar="NAME[(FIELD=VALUE,...)],...", help="(default: all)")
    shared.add_backbone(parser)
    parser.add_argument(
        "--suite", default="", metavar="NAME", help="a dense suite, whose neck and head count (default: a linear head)"
    )
    parser.add_argument("--tasks", default="", metavar="NAME,...", help="tasks of the suite (default: all)")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="images per batch (default: 32; of a dense suite: 2)"
    )
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    parser.add_argument("--no-time", dest="timed", action="store_false", help="only what can be counted")
    parser.add_argument("--format", choices=["terminal", "markdown", "latex", "csv"], default="terminal")
    shared.add_results(parser)
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench.engines import local

    local.warm_up()

    import dataclasses
    from pathlib import Path

    import msgspec
    from rich.console import Console

    from petlbench import backbone, spec, zoo
    from petlbench import table as tables
    from petlbench.cost import BATCH, DENSE_BATCH, CostJob
    from petlbench.display import ProgressDisplay
    from petlbench.errors import InputError
    from petlbench.store import Store

    if options.batch_size is not None and options.batch_size < 1:
        raise InputError(f"--batch-size {options.batch_size}: expected at least 1")
    suite, tasks = _tasks(options)
    specs = shared.methods(options.methods, options.backbone)
    store = Store(options.results)
    store.check_writable()
    jobs = []
    for each in specs:
        made = spec.make(zoo.method(each.name), each.fields, f"method {each.name}")
        backbone.require(type(made), each.name, options.backbone)
        name = zoo.name_of(each.name)
        plugins = {zoo.name_of(n): str(Path(n).resolve()) for n in (each.name, options.suite) if zoo.is_path(n)}
        jobs += [
            CostJob(
                method=name,
                fields=msgspec.to_builtins(dataclasses.asdict(made)),
                label=spec.label(name, made),
                backbone=backbone.describe(options.backbone, backbone.RANDOM),
                suite=suite,
                task=task,
                results=str(options.results.resolve()),
                plugins=plugins,
                device=shared.device(options.device),
                threads=shared.threads(options.threads),
                batch_size=options.batch_size or (DENSE_BATCH if suite else BATCH),
                precision=options.precision,
                timed=options.timed,
            )
            for task in tasks
        ]
    display = ProgressDisplay(Console(stderr=True), {job.key: None for job in jobs}, 1)
    with display:
        local.run(jobs, 1, display)
    found = [cost for job in jobs if (cost := store.get_cost(job.path)) is not None]
    print(tables.costs(found, options.format))
    return 1 if display.failed else 0


def _tasks(options: argparse.Namespace) -> tuple[str, list[str]]:
    """The dense suite that was asked for and its tasks; without one, a single nameless task."""
    from petlbench import zoo
    from petlbench.dense.suite import DenseSuite
    from petlbench.errors import InputError

    if not options.suite:
        if options.tasks:
            raise InputError(f"--tasks {options.tasks}: needs the suite that they are of, --suite NAME")
        return "", [""]
    suite, name = zoo.suite(options.suite)(), zoo.name_of(options.suite)
    if not isinstance(suite, DenseSuite):
        dense = ", ".join(each for each in zoo.suites() if issubclass(zoo.suite(each), DenseSuite))
        raise InputError(f"--suite {options.suite}: has linear heads, whose costs need no suite; valid: {dense}")
    asked = [each.strip() for each in options.tasks.split(",") if each.strip()]
    return name, [suite.task(each).name for each in asked] or [task.name for task in suite.tasks]
