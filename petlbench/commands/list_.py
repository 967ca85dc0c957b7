"""petlbench list: what there is."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from petlbench.catalog import Entry
    from petlbench.commands import Commands

KINDS = ("methods", "suites", "tasks", "backbones")


def add(commands: Commands) -> None:
    parser = commands.add_parser("list", help="methods, suites, tasks and backbones", epilog="petlbench list methods")
    parser.add_argument("what", nargs="?", choices=KINDS, help="(default: methods and suites, a line each)")
    parser.add_argument("--methods", action="store_true", help="the same as `list methods`: what is known of each")
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="add what `petlbench cost` measured there on a ViT-B/16 to methods"
    )
    parser.add_argument("--format", choices=["terminal", "markdown"], default="terminal", help="of the list of methods")
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench import zoo

    show: dict[str, Callable[[], None]] = {
        "methods": partial(_methods, options.results, options.format),
        "suites": lambda: _print({name: zoo.summary(zoo.BENCHMARKS, name) for name in zoo.suites()}),
        "tasks": _tasks,
        "backbones": _backbones,
    }
    what = "methods" if options.methods else options.what
    if what:
        show[what]()
    else:
        print("methods")
        _names()
        print("\nsuites")
        show["suites"]()
    return 0


def _names() -> None:
    from petlbench import zoo

    rows = {name: zoo.summary(zoo.METHODS, name) for name in zoo.methods()}
    _print(rows | {f"{name}:NAME": zoo.summary(zoo.METHODS, name) for name in zoo.families()})


def _methods(results: Path | None, form: str) -> None:
    import tabulate

    from petlbench import catalog, zoo

    rows = [_facts(each, form) | _costs(each.name, results) for each in catalog.entries()]
    numbers = ("weights", "lines", "GFLOPs", "folded", "saved (MiB)")
    right = ["right" if name in numbers else "left" for name in rows[0]]
    tabulate.PRESERVE_WHITESPACE = True
    print(tabulate.tabulate(rows, "keys", "github" if form == "markdown" else "simple", colalign=right))
    print("\nweights: those trained of a ViT-B/16, head left out; printed: millions of them in publications, and the")
    print("fields they hold for; folds: can be merged into the backbone; lines: length of the file", end="")
    print("" if results is None else "; GFLOPs of one image; saved for backward")
    for name in zoo.families():
        print(f"{name}:NAME  {zoo.summary(zoo.METHODS, name)}")
    print("more of each: petlbench show METHOD")


def _facts(each: Entry, form: str) -> dict[str, str]:
    printed = ", ".join(f"{millions:.2f}{fields and f' ({fields})'}" for fields, millions in each.printed.items())
    paper = each.paper
    return {
        "method": f"[{each.name}](../methods/{each.name}.py)" if form == "markdown" else each.name,
        "family": each.family,
        "paper": f"{paper.authors.split(' and ')[0].split()[-1]} {paper.year}" if paper else "",
        "backbones": ", ".join(each.backbones),
        "folds": "yes" if each.folds else "",
        "weights": f"{each.weights:,}",
        "printed": printed,
        "lines": str(each.lines),
    }


def _costs(method: str, results: Path | None) -> dict[str, str]:
    """What was measured of a method with its default fields, in the order of the table of costs."""
    from petlbench import catalog
    from petlbench.store import Store
    from petlbench.table import significant

    if results is None:
        return {}
    found = [c for c in Store(results).costs() if (c.label, c.backbone.name) == (method, catalog.REFERENCE)]
    if not found:
        return dict.fromkeys(("GFLOPs", "folded", "saved (MiB)"), "")
    counts = found[-1].counts
    return {
        "GFLOPs": significant(counts.flops / 1e9, 4),
        "folded": significant(counts.flops_folded / 1e9, 4),
        "saved (MiB)": significant(counts.saved_bytes / 2**20),
    }


def _tasks() -> None:
    from petlbench import zoo

    for name in zoo.suites():
        print(name)
        tasks = zoo.suite(name).tasks
        _print(
            {
                task.name: f"{task.group:12} {task.classes:4} classes {task.test:6} test images  {task.note}"
                for task in tasks
            }
        )


def _backbones() -> None:
    from petlbench import backbone

    for name in backbone.names():
        print(f"  {name}")


def _print(rows: dict[str, str]) -> None:
    width = max(map(len, rows), default=0)
    for name, text in rows.items():
        print(f"  {name:{width}}  {text}")
