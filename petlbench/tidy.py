"""Removes what the killed have left in a store: locks, logs of runs that are done, and halves of files.

A run that is done again removes its own. This is for those that were killed with their record written, since nobody
does these again. What lives is left alone, and so is whatever a store does not hold.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from petlbench import lock
from petlbench.errors import InputError
from petlbench.files import TEMPORARY
from petlbench.record import Record
from petlbench.store import decode

OLD = 86400.0
"""Seconds after which nobody is still writing a file, and after which a machine that gives no sign of life is off."""

RUNS = "*/*/*"
"""Where records and locks lie."""
PLACES = (RUNS, "plans/*", "submitted/*", "weights/*/*/*", "checkpoints/*/*", "pictures/*/*/*/*")
"""Where files are written."""

RECORD = re.compile(r".+-([0-9a-f]{12})\.json")
LOCK = re.compile(rf"\.?(.+-[0-9a-f]{{12}}{re.escape(lock.SUFFIX)})([.-].*)?")
"""A file of a lock, or one that was about to become it."""
HALF = re.compile(rf"\..+-[a-z0-9_]{{8}}{re.escape(TEMPORARY)}")


def tidy(root: Path) -> None:
    """Look through a results folder, which need not exist."""
    records, locks = dict[str, Path](), set[Path]()
    for path in root.glob(RUNS):
        if found := RECORD.fullmatch(path.name):
            records[found[1]] = path
        elif found := LOCK.fullmatch(path.name):
            locks.add(path.with_name(found[1]))
    for path in locks:
        _let_go(path)
    for log in root.glob("logs/*.log"):
        record = records.get(log.stem)
        with suppress(OSError, InputError):
            if record and not lock.beside(record).exists() and decode(record, Record).status == "done":
                log.unlink(missing_ok=True)
    for place in PLACES:
        for path in root.glob(place):
            if HALF.fullmatch(path.name):
                with suppress(OSError):  # it was finished meanwhile
                    if lock.age(path.stat().st_mtime, path.parent) > OLD:
                        path.unlink()


def _let_go(path: Path) -> None:
    """Remove the lock of the dead: whoever holds a lock removes what others have left of it."""
    with suppress(lock.HeldError, OSError), lock.hold(path, lambda: None, quiet=OLD, watch=0):
        pass
