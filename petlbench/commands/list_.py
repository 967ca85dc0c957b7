"""petlbench list: what there is."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from petlbench.commands import Commands

KINDS = ("methods", "suites", "tasks", "backbones")


def add(commands: Commands) -> None:
    parser = commands.add_parser("list", help="methods, suites, tasks and backbones", epilog="petlbench list methods")
    parser.add_argument("what", nargs="?", choices=KINDS, help="(default: methods and suites)")
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench import zoo

    show = {
        "methods": _methods,
        "suites": lambda: _print({name: zoo.summary(zoo.BENCHMARKS, name) for name in zoo.suites()}),
        "tasks": _tasks,
        "backbones": _backbones,
    }
    if options.what:
        show[options.what]()
    else:
        print("methods")
        show["methods"]()
        print("\nsuites")
        show["suites"]()
    return 0


def _methods() -> None:
    from petlbench import zoo

    rows = {name: zoo.summary(zoo.METHODS, name) for name in zoo.methods()}
    _print(rows | {f"{name}:NAME": zoo.summary(zoo.METHODS, name) for name in zoo.families()})


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
