"""A process that does not outlive the one which has started it, however that ends: a pipe between them tells."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

TIED = "--tied"
"""Argument with which a process is told that its standard input is such a pipe."""


def call(module: str, arguments: list[str], log: str) -> int:
    """Run a module in a process that is tied to this one, with its output in a file; return its exit code.

    Imports nothing but the standard library, since workers of Ray import this file.
    """
    command = [sys.executable, "-m", module, *arguments, TIED]
    with open(log, "ab") as output:  # noqa: PTH123 - what Ray hands over are plain texts
        # The pipe is ours to the end. If we are killed, the system closes it.
        return subprocess.call(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT)


def end_with_parent() -> None:
    """End this process by SIGTERM as soon as the other end of standard input is closed."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
