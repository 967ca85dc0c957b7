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
"""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "cost", help="measure without data", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", default="all", metavar="NAME[(FIELD=VALUE,...)],...", help="(default: all)")
    shared.add_backbone(parser)
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="images per batch (default: 32)")
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
    from petlbench.cost import CostJob
    from petlbench.display import ProgressDisplay
    from petlbench.errors import InputError
    from petlbench.store import Store

    if options.batch_size < 1:
        raise InputError(f"--batch-size {options.batch_size}: expected at least 1")
    specs = shared.methods(options.methods, options.backbone)
    store = Store(options.results)
    store.check_writable()
    jobs = []
    for each in specs:
        made = spec.make(zoo.method(each.name), each.fields, f"method {each.name}")
        backbone.require(type(made), each.name, options.backbone)
        name = zoo.name_of(each.name)
        jobs.append(
            CostJob(
                method=name,
                fields=msgspec.to_builtins(dataclasses.asdict(made)),
                label=spec.label(name, made),
                backbone=backbone.describe(options.backbone, backbone.RANDOM),
                results=str(options.results.resolve()),
                plugins={name: str(Path(each.name).resolve())} if zoo.is_path(each.name) else {},
                device=shared.device(options.device),
                threads=shared.threads(options.threads),
                batch_size=options.batch_size,
                precision=options.precision,
                timed=options.timed,
            )
        )
    display = ProgressDisplay(Console(stderr=True), {job.key: None for job in jobs}, 1)
    with display:
        local.run(jobs, 1, display)
    found = [cost for job in jobs if (cost := store.get_cost(job.path)) is not None]
    print(tables.costs(found, options.format))
    return 1 if display.failed else 0
