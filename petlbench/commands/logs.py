"""petlbench logs: what the worker of a run has printed."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, BinaryIO

from petlbench.commands import options as shared

if TYPE_CHECKING:
    from petlbench.commands import Commands

SECONDS = 0.5
"""Between two looks of -f."""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "logs", help="what a run that failed or is under way has printed", epilog="petlbench logs 5f0c -f"
    )
    parser.add_argument("run", metavar="RUN", help="its key, the beginning of it, or the path of its record")
    parser.add_argument("-f", "--follow", action="store_true", help="go on printing until the run has ended")
    shared.add_results(parser)
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench import lock, overview
    from petlbench.errors import InputError

    place = overview.find(options.results, options.run)
    path = options.results / "logs" / f"{place.key}.log"
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(
            f"run {place.key}: has no log ({place.state}): logs are there while a run is under way, and after it failed"
        ) from error
    with file:
        _copy(file)
        while options.follow and lock.owner(lock.beside(options.results / place.path)):
            time.sleep(SECONDS)
            _copy(file)
        _copy(file)
    return 0


def _copy(file: BinaryIO) -> None:
    """Print what has been added. What could steer a terminal is shown and not done: a log is somebody else's text."""
    text = file.read().decode(errors="replace")
    steering = {ord(char): f"\\x{ord(char):02x}" for char in map(chr, (*range(32), 127, *range(128, 160)))}
    sys.stdout.write(text.translate({code: shown for code, shown in steering.items() if chr(code) not in "\n\t\r"}))
    sys.stdout.flush()
