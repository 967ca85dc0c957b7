"""petlbench table: what the records say, as the table of a paper. Reads only; nothing is ever trained here."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from petlbench.commands import options as shared

if TYPE_CHECKING:
    from pandas import DataFrame

    from petlbench.commands import Commands
    from petlbench.cost import Cost
    from petlbench.record import Record
    from petlbench.suite import Suite

FORMATS = ("terminal", "markdown", "latex", "csv")
SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv"}
EPILOG = """examples:
  petlbench table
  petlbench table --suite vtab --methods 'hst,vpt(tokens=50)' --tasks cifar100,dtd
  petlbench table --suite vtab --out vtab.tex
  petlbench table --suite mini --format csv --head
  petlbench table --cost --format markdown

Means are over all tasks of the table: a row that lacks one has none. --tasks shows, and averages, fewer.
"""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "table",
        help="compare what was measured",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_selection(parser)
    parser.add_argument("--cost", action="store_true", help="parameters, FLOPs, memory and speed instead of scores")
    parser.add_argument("--head", action="store_true", help="a column for the trained weights of the heads")
    parser.add_argument("--ppt", action="store_true", help="a column for the performance-parameter trade-off")
    parser.add_argument("--digits", type=int, default=1, metavar="N", help="decimals of scores (default: 1)")
    parser.add_argument("--format", choices=FORMATS, help="(default: by the ending of --out, else terminal)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there: .md, .tex, .csv or other")
    shared.add_results(parser)
    parser.set_defaults(do=do)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Which scores of which rows and columns."""
    parser.add_argument("--suite", default="", metavar="NAME", help="suite (default: the only one with records)")
    parser.add_argument("--tasks", default="", metavar="NAME,...", help="columns (default: all tasks of the suite)")
    parser.add_argument(
        "--methods",
        default="",
        metavar="NAME[(FIELD=VALUE,...)],...",
        help="rows, in this order: vpt is every vpt, 'vpt(tokens=50)' those with 50 tokens (default: all)",
    )
    parser.add_argument("--metric", default="", metavar="NAME", help="score to show (default: each task's own)")
    parser.add_argument(
        "--mix-data", action="store_true", help="let runs on different data share a table; the caption says so"
    )


def do(options: argparse.Namespace) -> int:
    from petlbench.errors import InputError
    from petlbench.files import write

    if not 0 <= options.digits <= 9:
        raise InputError(f"--digits {options.digits}: expected 0 to 9")
    make = _costs if options.cost else _scores
    options.format = options.format or SUFFIXES.get(options.out.suffix if options.out else "", "terminal")
    if options.out is None:
        print(make(options))
        return 0
    with contextlib.redirect_stdout(io.StringIO()):  # so that a terminal's styles do not get into the file
        text = make(options)
    try:
        write(options.out, f"{text}\n".encode())
    except OSError as error:
        raise InputError(f"--out {options.out}: cannot be written: {error.strerror or error}") from error
    print(f"wrote {options.out}", file=sys.stderr)
    return 0


def _scores(options: argparse.Namespace) -> str:
    from petlbench import table

    records, suite, choice = selected(options)
    return table.scores(
        records, suite, options.format, digits=options.digits, head=options.head, ppt=options.ppt, **choice
    )


def selected(options: argparse.Namespace) -> tuple[list[Record], Suite, dict[str, Any]]:
    """The records and the suite that the options of `add_selection` choose, and how to choose among their rows."""
    from petlbench import provenance, spec, zoo
    from petlbench.errors import InputError, unknown
    from petlbench.store import Store

    records = list(Store(options.results).records())
    present = sorted({record.run.suite for record in records})
    if not present:
        raise InputError(f"--results {options.results}: no records there yet; `petlbench run` makes them")
    if not options.suite and len(present) > 1:
        raise InputError(f"--suite is needed, as {options.results} has records of several: {', '.join(present)}")
    suite = options.suite or present[0]
    if zoo.name_of(suite) not in present:
        raise unknown("suite with records", suite, present)
    if suite not in zoo.suites() and not zoo.is_path(suite):
        raise InputError(f"--suite {suite}: not in the zoo, so name its file, such as --suite ./{suite}.py")
    methods = spec.parse(options.methods) if options.methods else []
    files = _files([suite, *(each.name for each in methods)])
    choice: dict[str, Any] = {
        "tasks": shared.names(options.tasks),
        "methods": methods,
        "metric": options.metric,
        "mix_data": options.mix_data,
        "is_stale": lambda record: bool(provenance.changed(record, files)),
    }
    return [record for record in records if record.run.suite == zoo.name_of(suite)], zoo.suite(suite)(), choice


def _costs(options: argparse.Namespace) -> str:
    from petlbench import spec, table, zoo
    from petlbench.store import Store

    store = Store(options.results)
    methods = spec.parse(options.methods) if options.methods else []
    suite = zoo.name_of(options.suite)
    records = [record for record in store.records() if suite in ("", record.run.suite)]
    return table.costs(
        store.costs(), options.format, records, methods=methods, is_stale=_is_stale(each.name for each in methods)
    )


def costs_there(options: argparse.Namespace) -> DataFrame | None:
    """All costs of the store, or None if there are none."""
    from petlbench import frame, spec
    from petlbench.store import Store

    there = list(Store(options.results).costs())
    methods = spec.parse(options.methods) if options.methods else []
    return frame.costs(there, is_stale=_is_stale(each.name for each in methods)) if there else None


def _is_stale(names: Iterable[str]) -> Callable[[Cost], bool]:
    """Whether code has changed since a cost was measured; `names` of methods, some of which may be paths."""
    from petlbench import provenance
    from petlbench.errors import InputError

    files = _files(names)

    def is_stale(cost: Cost) -> bool:
        try:
            return cost.code != provenance.fingerprint(files.get(cost.method, cost.method))
        except InputError:  # the method is gone
            return True

    return is_stale


def _files(names: Iterable[str]) -> dict[str, str]:
    """Those of the names that are paths, by the name that records know them under."""
    from petlbench import zoo

    return {zoo.name_of(name): str(Path(name).resolve()) for name in names if zoo.is_path(name)}
