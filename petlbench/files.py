"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import glob
import os
import tempfile
from pathlib import Path

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


def sweep(path: Path) -> None:
    """Remove what a writer of this file that was killed has left. Only while nobody writes it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}-*{TEMPORARY}"):
        left.unlink(missing_ok=True)
