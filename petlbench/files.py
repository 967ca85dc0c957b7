"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import errno
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


def create(path: Path, content: bytes) -> bool:
    """Create a file that holds its content from its first moment on; False if there is one already.

    One of all who try at once, on all machines, succeeds. Whoever is killed at it leaves nothing of this name.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=TEMPORARY)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(handle, 0o644)
            try:
                path.hardlink_to(temporary)
            except FileExistsError:
                # A network file system that repeats a request finds the name taken by the request itself.
                return os.fstat(handle).st_nlink == 2
            return True
    except FileNotFoundError:
        if path.parent.exists():  # somebody has swept
            return False
        raise
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return _create_in_steps(path, content)
    finally:
        Path(temporary).unlink(missing_ok=True)


NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What file systems without hard links answer, such as those of memory cards."""


def _create_in_steps(path: Path, content: bytes) -> bool:
    """Create a file, which is empty until it is written."""
    try:
        with path.open("xb") as file:
            try:
                file.write(content)
                file.flush()
            except BaseException:
                path.unlink(missing_ok=True)
                raise
    except FileExistsError:
        return False
    return True


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


def check_folder(folder: Path, option: str) -> None:
    """Make a folder and raise InputError, naming the option, if nothing can be written there: now rather than after
    the first hour of training.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{option} {folder}: cannot be written: {error.strerror or error}") from error


def sweep(path: Path) -> None:
    """Remove what a writer of this file that was killed has left. Only while nobody writes it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}-*{TEMPORARY}"):
        left.unlink(missing_ok=True)
