"""petlbench status: what is done, under way, failed and left, told by the store alone."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING

from petlbench.commands import options as shared

if TYPE_CHECKING:
    from rich.console import Group

    from petlbench.commands import Commands
    from petlbench.overview import Overview

EPILOG = """examples:
  petlbench status
  petlbench status --results /shared/results --watch

Works on any machine that sees the results folder, whichever started the runs. `petlbench why RUN` tells more of one.
"""
STATES = ("done", "running", "stale", "failed", "oom", "diverged")
SECONDS = 2.0
"""Between two looks of --watch."""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "status",
        help="what is done, under way, failed and left",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--watch", action="store_true", help="look again every two seconds, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="for programs")
    shared.add_results(parser)
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench import overview
    from petlbench.errors import InputError

    if options.json and options.watch:
        raise InputError("--watch: not with --json, which is written once")
    found = overview.read(options.results)
    if options.json:
        import json

        print(json.dumps(_facts(found), indent=1))
        return 0

    import sys
    import time

    from rich.console import Console
    from rich.live import Live

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    if not options.watch:
        console.print(_page(found))
        return 0
    with Live(_page(found), console=console) as live:
        while True:
            time.sleep(SECONDS)
            live.update(_page(overview.read(options.results)))


def _facts(found: Overview) -> dict[str, object]:
    return {
        "counts": [
            {"suite": suite, "method": method, **{state: counts[state] for state in STATES}}
            for (suite, method), counts in found.counts().items()
        ],
        "running": [
            {"run": place.name, "key": place.key, "host": place.owner.host, "since": place.owner.since}
            for place in found.running
            if place.owner
        ],
        "plans": [
            {
                "title": plan.title,
                "written": plan.written,
                "runs": len(plan.items),
                "left": [item.name for item in found.left(plan)],
            }
            for plan in found.plans
        ],
        "unreadable": found.unreadable,
    }


def _page(found: Overview) -> Group:
    """What a person sees."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("suite", no_wrap=True)
    table.add_column("method", max_width=60, overflow="fold")
    for name in STATES:
        table.add_column(name, justify="right", no_wrap=True)
    for (suite, method), counts in found.counts().items():
        table.add_row(Text(suite), Text(method), *(str(counts[state] or "") for state in STATES))
    return Group(table, *(Text(line) for line in _lines(found)))


def _lines(found: Overview) -> list[str]:
    total = Counter(place.state for place in found.places.values())
    said = ", ".join(f"{total[state]} {state}" for state in STATES if total[state])
    lines = ["", f"{sum(total.values())} runs: {said}" if said else "no runs"]
    lines += [f"running  {place.key}  {place.name}  {place.owner}" for place in found.running]
    for plan in found.plans:
        left = found.left(plan)
        under_way = sum(item.record in found.places and bool(found.places[item.record].owner) for item in left)
        rest = (
            f"{len(left)} of {len(plan.items)} left, {under_way} under way" if left else f"all {len(plan.items)} done"
        )
        lines.append(f"planned {plan.written[:16].replace('T', ' ')}  {plan.title}: {rest}")
    return lines + [f"cannot be read: {path}: {reason}" for path, reason in found.unreadable.items()]
