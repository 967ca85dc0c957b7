"""petlbench compare: who is ahead of whom, and whether the records are enough to say so. Reads only."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from petlbench.commands import options as shared
from petlbench.commands import table as tables

if TYPE_CHECKING:
    from petlbench.commands import Commands

EPILOG = """examples:
  petlbench compare --suite vtab
  petlbench compare --suite vtab --methods hst,vpt,lora --reference hst
  petlbench compare --suite mini --format csv

Rows without a score on every task are left out; --tasks compares on fewer. docs/statistics.md defines every number.
"""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="ranks, intervals and tests, and in words what they allow to claim",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tables.add_selection(parser)
    parser.add_argument(
        "--reference",
        default="",
        metavar="NAME",
        help="test the others against this row only, chosen before the numbers were seen (default: all pairs)",
    )
    parser.add_argument(
        "--format", choices=("terminal", "markdown", "csv"), default="terminal", help="(default: terminal)"
    )
    shared.add_results(parser)
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench import caption, frame, ranking, typeset

    records, suite, choice = tables.selected(options)
    found = frame.scores(records, suite, **choice)
    names = dict(zip(frame.names(found), caption.labels(found.mean.index), strict=True))
    reference = next((short for short, full in names.items() if full == options.reference), options.reference)
    made = caption.named(ranking.compare(found, reference), names)
    if options.format == "csv":
        print(ranking.csv(made))
        return 0
    write = typeset.markdown if options.format == "markdown" else typeset.terminal
    said = [f"- {each}" for each in ranking.sentences(made)]
    ranks = ranking.ranking_table(made)
    ranks = replace(ranks, caption=f"{caption.caption(found)}\n\n{ranks.caption}")
    parts = [write(ranks), write(ranking.pairs_table(made)), "\n".join(said)]
    print("\n\n".join(parts))
    return 0
