"""A process that does not outlive those who have started it, however they end: a pipe between them tells."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

TIED = "--tied"
"""Argument with which a process is told that its standard input is such a pipe."""

LOOK = 1.0
"""Seconds between two looks at the parent of this process."""


def call(module: str, arguments: list[str], log: str) -> int:
    """Run a module in a process that is tied to this one and to its parent, and return its exit code.

    What it prints is added to a file. Imports nothing but the standard library, since workers of Ray import this file.
    """
    command = [sys.executable, "-m", module, *arguments, TIED]
    parent = os.getppid()
    with (
        Path(log).open("ab") as output,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(LOOK)
            # A worker of Ray goes on when its node has died, with cores that are no longer its own. If this process is
            # killed, the system closes the pipe.
            if os.getppid() != parent and process.stdin is not None:
                process.stdin.close()


def end_with_parent() -> None:
    """End this process by SIGTERM as soon as the other end of standard input is closed."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
