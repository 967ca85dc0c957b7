"""petlbench figure: accuracy against trained weights, for the rows that `petlbench table` would show."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from petlbench.commands import options as shared
from petlbench.commands import table as tables

if TYPE_CHECKING:
    from petlbench.commands import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "figure",
        help="accuracy against trained weights",
        epilog="petlbench figure --suite mini --out zoo.pdf",
    )
    tables.add_selection(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="write there: .pdf, .png or .svg")
    shared.add_results(parser)
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench import figure, frame, spec, zoo

    records, suite, choice = tables.selected(options)
    files = {zoo.name_of(each.name): each.name for each in choice["methods"]}

    def family(label: str) -> str:
        (each,) = spec.parse(label)
        return zoo.method(files.get(each.name, each.name)).family

    figure.draw(frame.scores(records, suite, **choice), family, options.out)
    print(f"wrote {options.out}", file=sys.stderr)
    return 0
