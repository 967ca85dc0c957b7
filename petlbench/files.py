"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from petlbench.errors import InputError

TEMPORARY = ".tmp"


def write(path: Path, content: bytes) -> None:
    """Write a file so that whoever looks, whenever the power fails, sees the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=TEMPORARY)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make an InputError of what the system says when a file cannot be written, on a full disk for one."""
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        raise InputError(
            f"{path}: cannot be written: {said}; what is finished is kept, the same command goes on"
        ) from error


def sweep(path: Path) -> None:
    """Remove what a writer of this file that was killed has left. Only while nobody writes it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}-*{TEMPORARY}"):
        left.unlink(missing_ok=True)
