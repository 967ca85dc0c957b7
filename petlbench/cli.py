"""The command line: one file per sub-command in `petlbench/commands/`, nothing heavy imported before it is needed."""

from __future__ import annotations

import argparse
import os
import sys
import warnings

from petlbench._version import __version__
from petlbench.commands import (
    bench,
    check,
    cite,
    compare,
    cost,
    data,
    export,
    figure,
    list_,
    logs,
    merge,
    plan,
    pretrain,
    report,
    run,
    show,
    status,
    table,
    why,
)
from petlbench.errors import InputError


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 some runs failed, 2 bad input, 130 or 143 interrupted."""
    options = parser().parse_args(arguments)
    try:
        # Libraries warn about their own internals; what a user must know is said in our own lines.
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            return int(options.do(options) or 0)
    except InputError as error:
        print(f"petlbench: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has gone, as in `petlbench list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("petlbench: interrupted", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="petlbench",
        description="Compare ways of adapting a frozen Vision Transformer.",
        epilog="petlbench run --methods hst,vpt --suite mini && petlbench table",
    )
    top.add_argument("--version", action="version", version=f"petlbench {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    running = (run, plan, status, why, logs, merge)
    reading = (table, compare, figure, report, cite, export, cost, list_, show)
    for command in (*running, *reading, data, bench, check, pretrain):
        command.add(commands)
    return top
