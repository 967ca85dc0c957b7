"""petlbench plan: what `run` would do, what is done already, and how long the rest will take."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING

from petlbench.commands import options as shared

if TYPE_CHECKING:
    from petlbench.commands import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "plan",
        help="what would run, what is done, how long it will take",
        epilog="petlbench plan --methods hst,vpt --suite mini --seeds 0,1,2",
    )
    shared.add_request(parser)
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: cores / threads; 1 on a GPU)")
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench.engines import local

    local.warm_up()

    import sys

    from rich.console import Console
    from rich.table import Table

    from petlbench.display import clock, telling
    from petlbench.plan import plan

    request = shared.request(options)
    with telling(Console(stderr=True)) as progress:
        planned = plan(request, progress)
    slots = options.jobs or (1 if request.device != "cpu" else local.slots(request.threads))
    table = Table("run", "epochs", "state", "time", "record", box=None, header_style="bold", pad_edge=False)
    for each in planned:
        run = each.job.run
        seconds = "?" if each.seconds is None else clock(each.seconds)
        path = "" if each.state == "waiting" else str(run.path)
        table.add_row(str(run), str(run.recipe.total_epochs), each.waits_for or each.state, seconds, path)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    states = Counter(each.state for each in planned)
    todo = [each for each in planned if each.state in ("new", "failed", "waiting")]
    known = [each.seconds for each in todo if each.seconds is not None]
    console.print(f"\n{len(planned)} runs: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
    if todo and len(known) == len(todo):
        console.print(f"about {clock(sum(known) / slots)} to go, {slots} at a time, judged by the runs done here")
    elif todo:
        console.print("how long it will take is known once the first run of the suite on this backbone is done")
    return 0
