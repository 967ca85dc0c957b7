"""petlbench cite: the BibTeX of everything in a table, each entry once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from petlbench.commands import options as shared
from petlbench.commands import table as tables

if TYPE_CHECKING:
    from petlbench.commands import Commands
    from petlbench.method import Paper

EPILOG = """examples:
  petlbench cite > petlbench.bib
  petlbench cite --suite vtab --methods hst,vpt --with published=hst,noah --out vtab.bib

The keys are those that `petlbench table --with published --format latex` cites.
"""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "cite",
        help="the BibTeX of everything in a table",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--suite", default="", metavar="NAME", help="suite (default: the only one with records)")
    parser.add_argument("--tasks", default="", metavar="NAME,...", help="columns (default: all tasks of the suite)")
    parser.add_argument(
        "--methods", default="", metavar="NAME,...", help="rows, as for `petlbench table` (default: all)"
    )
    tables.add_published(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there rather than to the screen")
    shared.add_results(parser)
    parser.set_defaults(do=do, metric="", mix_data=True)


def do(options: argparse.Namespace) -> int:
    from petlbench.errors import InputError
    from petlbench.files import write

    papers = dict(_papers(options))
    found = dict.fromkeys(paper.bibtex for paper in papers.values() if paper)
    without = sorted(name for name, paper in papers.items() if paper is None)
    comment = [f"% no entry: {', '.join(without)}"] if without else []
    text = "\n\n".join([*found, *comment])
    if options.out is None:
        print(text)
        return 0
    try:
        write(options.out, f"{text}\n".encode())
    except OSError as error:
        raise InputError(f"--out {options.out}: cannot be written: {error.strerror or error}") from error
    print(f"wrote {options.out}", file=sys.stderr)
    return 0


def _papers(options: argparse.Namespace) -> Iterator[tuple[str, Paper | None]]:
    """The suite's paper, those of the methods, measured or published, and those of the published sources, by name."""
    from petlbench import frame, published, spec, zoo

    if options.also:
        rows, measured = tables.chosen(options)
    else:
        rows, measured = None, tables.selected(options)
    if measured:
        records, suite, choice = measured
        labels = list(dict.fromkeys(frame.runs(records, suite, **choice)["method"]))
        paths = {zoo.name_of(each.name): each.name for each in spec.parse(options.methods)} if options.methods else {}
        yield zoo.name_of(options.suite) or records[0].run.suite, suite.paper
        for label in labels:
            name = spec.parse(label)[0].name
            yield name, _paper(paths.get(name, name))
    if rows:
        if not measured and rows.in_zoo:
            yield options.suite, zoo.suite(options.suite).paper
        names = dict.fromkeys(spec.parse(method)[0].name for method in rows.axes["method"])
        for name in names:
            yield name, _paper(name)
        for name in dict.fromkeys(rows.axes["source"]):
            yield f"published numbers of {name}", published.sources()[name].paper


def _paper(method: str) -> Paper | None:
    """None for folklore, for a method that only a publication has, and for a file that is gone."""
    from petlbench import zoo
    from petlbench.errors import InputError

    try:
        return zoo.method(method).paper
    except InputError:
        return None
