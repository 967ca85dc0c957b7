"""petlbench list: what there is."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from petlbench.commands import Commands

KINDS = ("methods", "suites", "tasks", "backbones")


def add(commands: Commands) -> None:
    parser = commands.add_parser("list", help="methods, suites, tasks and backbones", epilog="petlbench list methods")
    parser.add_argument("what", nargs="?", choices=KINDS, help="(default: methods and suites, a line each)")
    parser.add_argument("--methods", action="store_true", help="the same as `list methods`: what is known of each")
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench import zoo

    show = {
        "methods": _methods,
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


def _methods() -> None:
    import sys

    from rich.console import Console
    from rich.table import Table

    from petlbench import catalog, zoo

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("method", "family", "year", "backbones", "folds", "weights", "paper"):
        table.add_column(name, justify="right" if name == "weights" else "left", no_wrap=name != "paper")
    for each in catalog.entries():
        paper = each.paper
        row = (each.name, each.family, str(paper.year) if paper else "", ", ".join(each.backbones))
        table.add_row(*row, "yes" if each.folds else "", f"{each.weights:,}", paper.title if paper else "")
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print(
        "\nweights: trained ones of a ViT-B/16, without the head; folds: merges into the backbone after training"
    )
    for name in zoo.families():
        console.print(f"{name}:NAME  {zoo.summary(zoo.METHODS, name)}", highlight=False)
    console.print("more of each: petlbench show METHOD", highlight=False)


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
