"""petlbench plan: what `run` would do, what is done already, and what the rest takes in hours and bytes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from petlbench.commands import options as shared

if TYPE_CHECKING:
    from rich.table import Table

    from petlbench.commands import Commands
    from petlbench.outlook import Outlook
    from petlbench.plan import Planned

LONG = 100
"""Runs from which on a plan is printed by method rather than run by run."""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "plan",
        help="what would run, what is done, how long it will take",
        epilog="petlbench plan --methods hst,vpt --suite mini --seeds 0,1,2 --budget 20h",
    )
    shared.add_request(parser)
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: cores / threads; 1 on a GPU)")
    parser.add_argument("--budget", metavar="TIME", help="say which runs are over within 20h (or 90m, 2d)")
    parser.add_argument("--json", action="store_true", help="print every run and all figures as JSON")
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench.engines import limits, local
    from petlbench.errors import InputError

    budget = limits.seconds(options.budget) if options.budget else None
    if options.budget and budget is None:
        raise InputError(f"--budget {options.budget}: expected a number and s, m, h or d, such as 20h")
    local.warm_up()

    import sys

    from rich.console import Console

    from petlbench.display import telling
    from petlbench.outlook import outlook
    from petlbench.plan import plan

    if options.jobs is not None and options.jobs < 1:
        raise InputError(f"--jobs {options.jobs}: expected at least 1")
    request = shared.request(options)
    with telling(Console(stderr=True)) as progress:
        planned = plan(request, progress)
    cores = request.threads * request.processes
    slots = options.jobs or (1 if request.device != "cpu" else local.slots(cores))
    found = outlook(planned, request.suite, slots, budget)
    if options.json:
        print(_json(planned, found))
        return 0
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(_runs(planned, found) if len(planned) <= LONG else _methods(planned))
    console.print()
    for line in _summary(found, budget):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return 0


def _runs(planned: Sequence[Planned], found: Outlook) -> Table:
    """One row per run."""
    from petlbench.estimate import WORDS

    budgeted = found.fits is not None
    length = "steps" if any(each.job.run.recipe.steps for each in planned) else "epochs"
    table = _table("run", length, "state", "time", "judged by", *(["fits"] if budgeted else []), "record")
    fitting = _fitting(planned, found.fits)
    for each in planned:
        run, waits = each.job.run, each.state == "waiting"
        words = "" if each.state in ("done", "stale") else WORDS[each.basis]
        fits = ["yes" if run.key in fitting else ""] if budgeted else []
        state = each.waits_for or each.state
        path = "" if waits else str(run.path)
        long = f"{run.recipe.steps:,}" if run.recipe.steps else str(run.recipe.total_epochs)
        table.add_row(str(run), long, state, _clock(each.seconds), words, *fits, path)
    return table


def _methods(planned: Sequence[Planned]) -> Table:
    """One row per method: a plan of thousands of runs is not read run by run."""
    from collections import Counter

    from petlbench.estimate import WORDS
    from petlbench.outlook import TODO

    states = [
        state for state in ("new", "waiting", "failed", "stale", "done") if any(p.state == state for p in planned)
    ]
    table = _table("method", "runs", *states, "time to go", "judged by")
    by_label: dict[str, list[Planned]] = {}
    for each in planned:
        by_label.setdefault(each.job.run.label, []).append(each)
    for label, runs in by_label.items():
        counts: Counter[str] = Counter(each.state for each in runs)
        todo = [each for each in runs if each.state in TODO]
        words = ", ".join(WORDS[basis] for basis in dict.fromkeys(each.basis for each in todo))
        known = [each.seconds for each in todo if each.seconds is not None]
        time = _clock(sum(known)) if known or not todo else "?"
        table.add_row(label, str(len(runs)), *(str(counts[state]) for state in states), time, words)
    return table


def _summary(found: Outlook, budget: float | None) -> Iterable[str]:
    """The plan in a few sentences."""
    from petlbench.display import clock
    from petlbench.estimate import WORDS

    runs = sum(found.states.values())
    yield f"{runs} runs: " + ", ".join(f"{count} {state}" for state, count in found.states.items())
    if not found.todo:
        return
    unknown = found.bases.get("unknown", 0)
    if unknown == found.todo:
        yield (
            "how long it will take is known once the first run on this backbone is done, "
            "or from: petlbench cost --methods ... --backbone ..."
        )
    else:
        hours = found.device_seconds / 3600
        on_gpus = f"{hours * found.processes:.2g} GPU-hours"
        device = on_gpus if found.device != "cpu" else f"{hours * found.cores:.2g} core-hours"
        rest = f", and {unknown} runs whose time is unknown" if unknown else ""
        yield f"about {clock(found.wall_seconds)} to go, {found.slots} at a time ({device}){rest}"
        yield "times are " + ", ".join(f"{WORDS[basis]} ({count})" for basis, count in found.bases.items())
    space = [("records", found.record_bytes), ("pictures", found.picture_bytes)]
    space += [("decoded images", found.image_bytes), ("weights", found.weight_bytes)]
    total = sum(size for _, size in space)
    parts = ", ".join(f"{what} {_size(size)}" for what, size in space if size)
    short = "" if total < found.free_bytes else "; THERE IS NOT ENOUGH"
    yield f"disk: about {_size(total)} ({parts}); {_size(found.free_bytes)} are free{short}"
    if budget is not None and found.fits is not None and found.fit_seconds is not None:
        if unknown == found.todo:
            yield f"in {clock(budget)}, nobody knows how many are over: no time is known"
            return
        yield (
            f"in {clock(budget)}, {found.fits} of {found.todo} runs are over, the first in the order of the plan "
            f"(after {clock(found.fit_seconds)})"
        )


def _json(planned: Sequence[Planned], found: Outlook) -> str:
    """Runs and figures for programs; times in seconds, sizes in bytes."""
    import json
    from dataclasses import asdict

    fitting = _fitting(planned, found.fits)
    rows = []
    for each in planned:
        run, waits = each.job.run, each.state == "waiting"
        row: dict[str, Any] = {
            name: getattr(run, name) for name in ("suite", "task", "method", "label", "seed", "protocol")
        }
        row |= {"trial": run.is_trial, "overrides": run.overrides, "epochs": run.recipe.total_epochs}
        row |= {"steps": run.recipe.steps} if run.recipe.steps else {}
        row |= {"state": each.state, "waits_for": each.waits_for, "seconds": each.seconds, "basis": each.basis}
        row |= {"key": None if waits else run.key, "path": None if waits else run.path.as_posix()}
        rows.append(row | ({"fits": run.key in fitting} if found.fits is not None else {}))
    return json.dumps({"runs": rows, **asdict(found)}, indent=1)


def _fitting(planned: Sequence[Planned], fits: int | None) -> set[str]:
    from petlbench.outlook import TODO

    return {each.job.run.key for each in [each for each in planned if each.state in TODO][: fits or 0]}


def _table(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, box=None, header_style="bold", pad_edge=False)


def _clock(seconds: float | None) -> str:
    from petlbench.display import clock

    return "?" if seconds is None else clock(seconds)


def _size(size: float) -> str:
    """Bytes as people write them: 830 kB, 2.4 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
