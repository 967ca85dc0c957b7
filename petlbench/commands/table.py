"""petlbench table: what the records say, as the table of a paper. Reads only; nothing is ever trained here."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from petlbench.commands import options as shared

if TYPE_CHECKING:
    from pandas import DataFrame

    from petlbench.commands import Commands
    from petlbench.cost import Cost
    from petlbench.frame import Scores
    from petlbench.published import Rows
    from petlbench.record import Record
    from petlbench.suite import Suite
    from petlbench.typeset import Table

FORMATS = ("terminal", "markdown", "latex", "html", "csv")
SUFFIXES = {".md": "markdown", ".tex": "latex", ".html": "html", ".csv": "csv", ".txt": "terminal"}
OF_SCORES = ("tasks", "metric", "mix_data", "head", "ppt", "ties", "digits", "also", "delta")
"""Options that mean nothing to a table of costs."""
OF_MEASURED = ("head", "ppt", "ties")
"""Those that mean nothing to a table of differences."""
EPILOG = """examples:
  petlbench table
  petlbench table --suite vtab --methods 'hst,vpt(tokens=50)' --tasks cifar100,dtd
  petlbench table --suite vtab --out vtab.tex
  petlbench table --suite mini --format csv --head
  petlbench table --cost --format markdown
  petlbench table --suite vtab --with published=hst,noah       (published rows, also where nothing was measured)
  petlbench table --suite vtab --delta                         (measured minus published, where they compare)
  petlbench table --suite vtab --columns params,tasks,mean_groups --sort mean_groups --out vtab.html
  petlbench table --cost --columns params,flops,train_memory_bytes --sort flops
  petlbench table --suite vtab --caption 'Ours on VTAB-1K.' --label vtab-main --out vtab.tex

--columns and --sort know params, head, ppt and the columns of --format csv by their names there. A group, such as
natural, is all of its columns, and tasks are all tasks. The best comes first, or last with --sort NAME:worst.

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
    parser.add_argument(
        "--columns", default="", metavar="NAME,...", help="these, in this order (default: as papers do)"
    )
    parser.add_argument(
        "--sort", default="", metavar="NAME", help="rows by this column (default: by name, or --methods)"
    )
    parser.add_argument("--caption", default="", metavar="TEXT", help="above the table; the default becomes a note")
    parser.add_argument("--label", default="", metavar="NAME", help="for LaTeX's \\ref{tab:NAME} (default: the suite)")
    parser.add_argument(
        "--ties",
        choices=("test", "digits"),
        help="what shares the best place: what no test over seeds tells apart (default), or what prints alike",
    )
    parser.add_argument("--digits", type=int, metavar="N", help="decimals of scores (default: 1)")
    add_published(parser)
    parser.add_argument(
        "--delta",
        action="store_true",
        help="measured minus published, where task, method, architecture and scored checkpoint are the same",
    )
    parser.add_argument("--format", choices=FORMATS, help="(default: by the ending of --out, else terminal)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there: .md, .tex, .html, .csv or .txt")
    shared.add_results(parser)
    parser.set_defaults(do=do)


def add_selection(
    parser: argparse.ArgumentParser, metavar: str = "NAME", suite: str = "suite (default: the only one with records)"
) -> None:
    """Which scores of which rows and columns; `suite` explains --suite."""
    parser.add_argument("--suite", default="", metavar=metavar, help=suite)
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


def add_published(parser: argparse.ArgumentParser) -> None:
    """Published rows beside the measured ones."""
    parser.add_argument(
        "--with",
        dest="also",
        default="",
        metavar="published[=SOURCE,...]",
        help="published numbers of the same suite, set apart and cited: of all sources or of these",
    )


def do(options: argparse.Namespace) -> int:
    from petlbench.errors import InputError
    from petlbench.files import write

    _refuse(options)
    options.ties, options.digits = options.ties or "test", 1 if options.digits is None else options.digits
    if not 0 <= options.digits <= 9:
        raise InputError(f"--digits {options.digits}: expected 0 to 9")
    make = _costs if options.cost else _scores
    options.format = options.format or _format(options.out)
    _check(options)
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


def _refuse(options: argparse.Namespace) -> None:
    """Raise InputError for an option that means nothing beside another one."""
    from petlbench.errors import InputError

    if options.delta and options.metric:
        raise InputError(f"--metric {options.metric}: not with --delta, which compares each task's own")
    kinds = {"cost": (OF_SCORES, "shows no scores"), "delta": (OF_MEASURED, "shows differences and marks none")}
    for kind, (names, why) in kinds.items():
        for name in names:
            value = getattr(options, name)
            given = value is True or str(value) not in ("", "None", "False")  # --digits 0 is given
            if getattr(options, kind) and given:
                option = {"also": "--with"}.get(name, f"--{name.replace('_', '-')}")
                said = option if value is True else f"{option} {value}"
                raise InputError(f"{said}: not with --{kind}, which {why}")


def _format(out: Path | None) -> str:
    """The format that the ending of a file says. Raises InputError for one that says none."""
    from petlbench.errors import InputError

    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out {out}: valid endings: {', '.join(SUFFIXES)}; for others choose a --format")
    return SUFFIXES[out.suffix.lower()] if out else "terminal"


def _check(options: argparse.Namespace) -> None:
    """Wishes that a format cannot fulfil. Raises InputError."""
    from petlbench.errors import InputError

    for name in ("columns", "sort", "caption", "label"):
        if options.format == "csv" and getattr(options, name):
            raise InputError(
                f"--{name} {getattr(options, name)}: not with --format csv, which holds everything as it is"
            )
    if options.label and options.format != "latex":
        raise InputError(f"--label {options.label}: only LaTeX has labels; see --format latex")
    if options.label and not all(letter.isalnum() or letter in "-_:." for letter in options.label):
        raise InputError(f"--label {options.label}: expected letters, digits, '-', '_', ':' and '.'")


def _written(tables: Iterable[Table], options: argparse.Namespace) -> str:
    """The tables as the options want them."""
    from petlbench import table
    from petlbench.arrange import Wishes, arranged

    wishes = Wishes(
        columns=tuple(shared.names(options.columns)),
        shown=tuple(name for name in ("head", "ppt") if getattr(options, name)),
        sort=options.sort,
        caption=options.caption,
        label=options.label,
    )
    return table.text([arranged(each, wishes) for each in tables], options.format)


def _scores(options: argparse.Namespace) -> str:
    from petlbench import frame, table

    if options.delta:
        return _delta(options)
    if options.also:
        return _with_published(options)
    records, suite, choice = selected(options)
    found = frame.scores(records, suite, **choice)
    return table.scores_csv(found) if options.format == "csv" else _written([_table(found, options)], options)


def _table(found: Scores, options: argparse.Namespace) -> Table:
    """With every column there is; `arranged` leaves out what nobody asks for."""
    from petlbench import table

    return table.scores_table(found, options.digits, head=True, ppt=True, ties=options.ties)


def _delta(options: argparse.Namespace) -> str:
    from petlbench import delta, zoo

    records, suite, choice = selected(options)
    name = zoo.name_of(options.suite) or records[0].run.suite
    asked = (records, suite, name, shared.sources(options.also) if options.also else [])
    try:
        if options.format == "csv":
            return delta.csv(*asked, **choice)
        return _written([delta.table(*asked, options.digits, **choice)], options)
    except delta.IncomparableError as reason:
        return str(reason)


def _with_published(options: argparse.Namespace) -> str:
    import pandas as pd

    from petlbench import comparison, frame, table

    rows, measured = chosen(options)
    found = frame.scores(measured[0], measured[1], **measured[2]) if measured else None
    if options.format == "csv":
        parts = [comparison.flat(rows)] if rows else []
        both = [table.scores_frame(found).assign(source="measured"), *parts] if found else parts
        return pd.concat(both, ignore_index=True).to_csv(index=False).rstrip("\n")
    if found is None:
        assert rows is not None  # `chosen` has found one of the two
        return _written([comparison.published_table(options.suite, rows, options.digits, groups=True)], options)
    made = _table(found, options)
    return _written([comparison.beside(found, made, rows, options.digits) if rows else made], options)


def chosen(options: argparse.Namespace) -> tuple[Rows | None, tuple[list[Record], Suite, dict[str, Any]] | None]:
    """The published rows that the options ask for, and what `selected` gives; one of them may be nothing.

    Raises InputError for a method that is in neither.
    """
    from petlbench import published, spec, zoo
    from petlbench.errors import InputError, unknown
    from petlbench.selection import has_any
    from petlbench.store import Store

    sources = shared.sources(options.also)
    present = {record.run.suite for record in Store(options.results).records()}
    if not options.suite and len(present) != 1:
        raise InputError(f"--suite is needed: {options.results} has records of {len(present) or 'no'} suites")
    name = zoo.name_of(options.suite) or next(iter(present))
    measured = None
    if name in present:
        methods, options.methods = options.methods, ""
        records, suite, choice = selected(options)
        options.methods = methods
        choice["methods"] = [each for each in spec.parse(methods) if has_any(records, each)] if methods else []
        measured = None if methods and not choice["methods"] else (records, suite, choice)
    asked = spec.parse(options.methods) if options.methods else []
    numbers = published.load(sources)
    called = set(zip(numbers["method"], numbers["id"], strict=True))
    printed = [each for each in asked if any(published.means(each, *names) for names in called)]
    for each in asked:
        if each not in printed and not (measured and each in measured[2]["methods"]):
            raise unknown("method, measured or published,", str(each), {id for _, id in called})
    suite_here = zoo.suite(options.suite or name)() if zoo.is_path(options.suite) or name in zoo.suites() else None
    if asked and not printed:
        return None, measured
    return published.rows(name, suite_here, sources, shared.names(options.tasks), printed), measured


def selected(options: argparse.Namespace) -> tuple[list[Record], Suite, dict[str, Any]]:
    """The records and the suite that the options of `add_selection` choose, and how to choose among their rows."""
    from petlbench import provenance, spec, zoo
    from petlbench.errors import InputError, unknown
    from petlbench.store import Store

    records = list(Store(options.results).records())
    present = suites(options.results, records)
    if not options.suite and len(present) > 1:
        raise InputError(f"--suite is needed, as {options.results} has records of several: {', '.join(present)}")
    suite = options.suite or present[0]
    if zoo.name_of(suite) not in present:
        raise unknown("suite with records", suite, present)
    if not zoo.is_path(suite) and not zoo.is_known(zoo.BENCHMARKS, suite):
        raise InputError(f"--suite {suite}: not in the zoo, so name its file, such as --suite ./{suite}.py")
    methods = spec.parse(options.methods) if options.methods else []
    files = paths([suite, *(each.name for each in methods)])
    choice: dict[str, Any] = {
        "tasks": shared.names(options.tasks),
        "methods": methods,
        "metric": options.metric,
        "mix_data": options.mix_data,
        "is_stale": lambda record: bool(provenance.changed(record, files)),
    }
    return [record for record in records if record.run.suite == zoo.name_of(suite)], zoo.suite(suite)(), choice


def _costs(options: argparse.Namespace) -> str:
    from petlbench import frame, spec, table, zoo
    from petlbench.store import Store

    store = Store(options.results)
    methods = spec.parse(options.methods) if options.methods else []
    files = paths(each.name for each in methods)
    suite = zoo.name_of(options.suite)
    records = [record for record in store.records() if suite in ("", record.run.suite)]
    found = frame.costs(store.costs(), records, methods=methods, is_stale=lambda cost: is_stale_cost(cost, files))
    return table.costs_csv(found) if options.format == "csv" else _written(table.cost_tables(found), options)


def costs_there(options: argparse.Namespace) -> DataFrame | None:
    """All costs of the store, or None if there are none."""
    from petlbench import frame, spec
    from petlbench.store import Store

    there = list(Store(options.results).costs())
    files = paths(each.name for each in (spec.parse(options.methods) if options.methods else []))
    return frame.costs(there, is_stale=lambda cost: is_stale_cost(cost, files)) if there else None


def is_stale_cost(cost: Cost, files: dict[str, str]) -> bool:
    """Whether code that can change a cost has changed since; `files` says where methods given by path lie."""
    from petlbench import provenance, zoo
    from petlbench.errors import InputError

    if cost.method not in files and zoo.is_path(cost.method):  # never import a file because a cost names it
        return True
    try:
        return bool(provenance.changed_cost(cost, files.get(cost.method, cost.method)))
    except InputError:  # the method is gone
        return True


def suites(results: Path, records: Iterable[Record] | None = None) -> list[str]:
    """The suites that have records, which are those of the folder if none are given. Raises InputError for none."""
    from petlbench.errors import InputError
    from petlbench.store import Store

    present = {record.run.suite for record in (Store(results).records() if records is None else records)}
    if not present:
        raise InputError(f"--results {results}: no records there yet; `petlbench run` makes them")
    return sorted(present)


def paths(names: Iterable[str]) -> dict[str, str]:
    """Those of the names that are paths, by the name that records know them under."""
    from petlbench import zoo

    return {zoo.name_of(name): str(Path(name).resolve()) for name in names if zoo.is_path(name)}
