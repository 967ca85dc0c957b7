"""petlbench run: train, score and measure whatever is not in the results yet."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from petlbench.commands import options as shared

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from petlbench.commands import Commands
    from petlbench.cost import CostJob
    from petlbench.engines import Engine

EPILOG = """examples:
  petlbench run --methods linear,vpt,hst --suite mini
  petlbench run --methods 'vpt(tokens=50),lora(rank=4)' --suite mini --tasks digits --seeds 0,1,2
  petlbench run --methods hst,vpt,lora --suite mini --protocol tuned --trials 12
  petlbench run --methods hst,./my_method.py --suite vtab --data-root DATA --backbone vit_base_patch16_224.augreg_in21k
  petlbench run --methods all --suite mini --engine slurm --slurm partition=cpu,account=me --jobs 50 --detach

The same command again does only what is missing. Failed runs are tried again; runs whose code has changed since
(stale) only with --rerun stale.
"""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "run",
        help="train and score what is missing",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shared.add_request(parser)
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: cores / threads; one per GPU)")
    parser.add_argument(
        "--time-limit", metavar="TIME", help="end a run that takes longer, such as 90s, 30m, 2h (default: none)"
    )
    parser.add_argument(
        "--memory-limit", metavar="SIZE", help="main memory that a run may allocate, such as 8G (default: no limit)"
    )
    parser.add_argument("--rerun", choices=["stale", "all"], help="do runs again that are done: stale ones, or all")
    parser.add_argument(
        "--no-cost", dest="cost", action="store_false", help="do not measure speed and memory afterwards"
    )
    parser.add_argument(
        "--engine",
        choices=["local", "slurm", "ray"],
        default="local",
        help="where: this machine (default), a SLURM job array, or a Ray cluster; see docs/running.md",
    )
    parser.add_argument(
        "--bundle", type=float, metavar="MIN", help="minutes of short runs that slurm and ray do as one (default: 30)"
    )
    slurm = parser.add_argument_group("with --engine slurm")
    slurm.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help="long options of sbatch, such as partition=gpu,account=me,time=60; NAME= alone is a flag; may be repeated",
    )
    slurm.add_argument("--detach", action="store_true", help="submit and return; the same command comes back to it")
    ray = parser.add_argument_group("with --engine ray")
    ray.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="of a running cluster (default: the one this machine is part of); local: start one here for these runs",
    )
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench.engines import local

    _check(options)
    if options.engine == "local":
        local.warm_up()

    from rich.console import Console

    from petlbench import agenda
    from petlbench.display import ProgressDisplay, clock, telling
    from petlbench.errors import Ended, InputError
    from petlbench.plan import Planned, cost_jobs, plan
    from petlbench.store import Store
    from petlbench.tidy import tidy

    console = Console(stderr=True)
    request = shared.request(options)
    if options.jobs is not None and options.jobs < 1:
        raise InputError(f"--jobs {options.jobs}: expected at least 1")
    Store(request.results).check_writable()
    tidy(request.results)
    again = {"stale": ("stale",), "all": ("stale", "done")}.get(options.rerun, ())
    limits = shared.limits(options, request.device)
    together = request.processes
    here = local.slots(request.threads * together) if request.device == "cpu" else len(limits.gpus) // together or 1

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    def work(planned: list[Planned], what: str, costs: list[CostJob]) -> ProgressDisplay | int:
        """Do what is missing of these runs, then the costs; the exit code if that was interrupted."""
        todo = [each for each in planned if each.state in ("new", "failed", *again)]
        kept = [each for each in planned if each.state == "stale" and each not in todo]
        done = sum(each.state != "waiting" for each in planned) - len(todo)
        if done:
            console.print(f"{done} of {len(planned)} {what} are done already", highlight=False)
        if kept:
            console.print(f"{len(kept)} of them are stale: their code has changed since; --rerun stale does them again")
        expected = {each.job.key: each.seconds for each in todo}
        slots = options.jobs or (here if options.engine == "local" else max(1, len(todo)))
        display = ProgressDisplay(console, expected | {each.key: None for each in costs}, slots)
        engine = _engine(options, request.results, expected, say)
        try:
            with display, local.interruptible():
                engine.run((each.job for each in todo), slots, display, limits)
                local.run(costs, 1, display)  # alone, so that nothing disturbs the clock
        except (KeyboardInterrupt, Ended) as error:
            left = len(todo) + len(costs) - display.done
            console.print(
                f"interrupted: {display.done} finished are kept, {left} left; the same command goes on from here"
            )
            return 143 if isinstance(error, Ended) else 130  # 128 and the number of the signal
        return display

    with telling(console) as progress:
        planned = plan(request, progress)
    if planned:
        agenda.put(request.results, planned)
    if trials := [each for each in planned if each.job.run.is_trial]:
        if isinstance(ended := work(trials, "trials", []), int):
            return ended
        planned = plan(request)
        agenda.put(request.results, planned)  # now that the settings of the final runs are known
        planned = [each for each in planned if not each.job.run.is_trial]
        if options.detach and any(each.waits_for.startswith("after") for each in planned):
            say("the runs with the chosen settings come when the trials are done: give the same command again then")
            return 0
    waiting = [each for each in planned if each.state == "waiting"]
    for each in waiting:
        console.print(
            f"{each.job}: cannot be run, {each.waits_for}", style="red", highlight=False, markup=False, soft_wrap=True
        )
    # Speed is that of a machine which is known and does nothing else, so a cluster's is for `petlbench cost` there.
    costs = cost_jobs(planned) if options.cost and options.engine == "local" else []
    display = work(planned, "runs", costs)
    if isinstance(display, int):
        return display
    if display.done or display.failed:
        where = shlex.quote(str(request.results))
        say(
            f"{display.done} done, {display.failed} failed in {clock(display.elapsed)}; "
            f"records in {request.results}; see them with: petlbench table --results {where}"
        )
    return 1 if display.failed or waiting else 0


def _check(options: argparse.Namespace) -> None:
    """Raise InputError for an option of an engine that was not asked for, and for an engine that cannot be had here:
    before the plan, which takes a while the first time and is written down."""
    from petlbench.errors import InputError

    for name, engines in (("slurm", "slurm"), ("detach", "slurm"), ("address", "ray"), ("bundle", "slurm or ray")):
        if getattr(options, name) and options.engine not in engines.split(" or "):
            raise InputError(f"--{name}: only with --engine {engines}")
    if options.bundle is not None and options.bundle <= 0:
        raise InputError(f"--bundle {options.bundle:g}: expected minutes, more than 0")
    if options.engine == "slurm":
        from petlbench.engines import slurm

        slurm.check()
        slurm.settings(options.slurm)
    if options.engine == "ray":
        from petlbench.engines import ray

        ray.check(options.address)


def _engine(
    options: argparse.Namespace, results: Path, expected: dict[str, float | None], say: Callable[[str], None]
) -> Engine:
    """The engine that was asked for. Raises InputError if it cannot be had here."""
    from petlbench.engines import bundles, local

    length = 60 * options.bundle if options.bundle else bundles.LENGTH
    if options.engine == "slurm":
        from petlbench.engines import slurm

        return slurm.Slurm(
            results=results,
            expected=expected,
            settings=slurm.settings(options.slurm),
            length=length,
            detach=options.detach,
            say=say,
        )
    if options.engine == "ray":
        from petlbench.engines import ray

        return ray.Ray(results=results, expected=expected, address=options.address, length=length, say=say)
    return local
