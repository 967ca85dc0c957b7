"""petlbench figure: pictures for a paper, of the rows that `petlbench table` would show."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from petlbench.commands import options as shared
from petlbench.commands import table as tables

if TYPE_CHECKING:
    from petlbench.commands import Commands

KINDS = ("scatter", "ranks", "heat", "groups", "radar", "curves")
EPILOG = """kinds:
  scatter  mean score against a cost (--x), and the Pareto front
  ranks    average ranks, and which of them do not differ (critical difference)
  heat     gain over full fine-tuning, task by task
  groups   bars per group of tasks
  radar    a web of tasks, for a few methods
  curves   training loss over epochs, for a few methods

examples:
  petlbench figure --suite mini --out zoo.pdf
  petlbench figure --suite vtab --kind ranks --columns 1 --out ranks.pdf
  petlbench figure --suite mini --x throughput --out speed.png
"""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "figure",
        help="accuracy against costs, ranks, gains, groups, curves",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tables.add_selection(parser)
    parser.add_argument("--kind", choices=KINDS, default="scatter", help="what to draw (default: scatter)")
    parser.add_argument(
        "--x",
        choices=("weights", "flops", "memory", "throughput", "stored"),
        help="cost in a scatter; all but weights need `petlbench cost` (default: weights)",
    )
    parser.add_argument(
        "--columns", type=int, choices=(1, 2), default=2, help="width: one column, 3.3 in, or two, 7 in (default: 2)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="write there: .pdf, .png or .svg")
    shared.add_results(parser)
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench import caption, figures, frame, spec, zoo
    from petlbench.errors import InputError

    if options.x and options.kind != "scatter":
        raise InputError(f"--x {options.x}: only --kind scatter has a cost, not {options.kind}")
    records, suite, choice = tables.selected(options)
    files = {zoo.name_of(each.name): each.name for each in choice["methods"]}
    strange: dict[str, None] = {}

    def family(label: str) -> str:
        """Nobody needs to name the files of other people's methods: what is not in the zoo has a colour of its own."""
        (each,) = spec.parse(label)
        if each.name not in files and (zoo.is_path(each.name) or not zoo.is_known(zoo.METHODS, each.name)):
            strange[each.name] = None
            return figures.OTHER
        return zoo.method(files.get(each.name, each.name)).family

    found = frame.scores(records, suite, **choice)
    notes = figures.draw(
        options.kind,
        found,
        options.out,
        columns=options.columns,
        family=family,
        x=options.x or "weights",
        costs=tables.costs_there(options) if options.x not in (None, "weights") else None,
        records=records,
    )
    notes += [
        f"method {name} is not in the zoo: its family is shown if its file is named, as in --methods ...,./{name}.py"
        for name in strange
    ]
    print("\n".join([caption.caption(found), *notes, f"wrote {options.out}"]), file=sys.stderr)
    return 0
