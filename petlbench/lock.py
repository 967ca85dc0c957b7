"""Locks in a shared folder: a run is in the hands of one worker, whatever engines and machines work on one store.

A lock is a file that whoever wants it creates with its name in it (by a hard link, which file systems decide for all
machines, NFS among them), and whose date its holder renews. It is never taken from a holder that lives:

* A holder on this machine lives as long as its process does; no clock is asked.
* One elsewhere is suspected when its file is old by the clock of the file system, which stamps both the file and what
  it is compared with. A clock that was set makes young files look old, so a suspect is watched for some beats of our
  own monotonic clock, and given up if none came.

A dead holder's lock is not removed, since two who find it dead could each remove the other's new one. It is succeeded:
by the file LOCK.TOKEN, where TOKEN is the dead one's own, so that one of them only can create it. Successors can be
succeeded, too; the end of the chain holds the lock. Whoever lets go removes the first file first: as long as that one
stands, no part of its chain is missing.
"""

from __future__ import annotations

import dataclasses
import datetime
import glob
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from petlbench import files

SUFFIX = ".lock"

BEAT = 10.0
"""Seconds between two signs of life."""
QUIET = 6 * BEAT
"""Age in seconds, by the clock of the file system, at which the holder of a lock is suspected to be dead."""
WATCH = 3 * BEAT
"""Seconds without a sign of life, by our own clock, after which a suspect is taken for dead."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who holds a lock."""

    token: str
    """Random, of this holding of this lock only."""
    host: str = ""
    """For people only: names of machines need not be unique."""
    pid: int = 0
    place: str = ""
    """What `pid` means something in: one start of one system, and one name space of its processes."""
    born: str = ""
    """When the process started, as its system counts; numbers of processes are used again."""
    since: str = ""
    """When the lock was taken, UTC, ISO 8601, by the clock of its machine. For people only."""

    def __str__(self) -> str:
        return f"{self.host or 'an unknown machine'}, process {self.pid}, since {self.since or 'an unknown time'}"


class HeldError(Exception):
    """The lock is in other hands."""

    def __init__(self, owner: Owner | None = None) -> None:
        super().__init__(f"in hand on {owner}" if owner else "in other hands a moment ago")


def beside(record: Path) -> Path:
    """The lock of the run whose record has this path."""
    return record.with_suffix(SUFFIX)


@contextmanager
def hold(
    path: Path, lost: Callable[[], None], *, beat: float = BEAT, quiet: float = QUIET, watch: float = WATCH
) -> Iterator[None]:
    """Hold the lock and keep it alive; raises HeldError if somebody else does.

    `lost` is called, in another thread, when the lock was taken over: this process was asleep for so long that others
    took it for dead, and it has to stop. Also raises OSError for a folder that cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = _Holder(path, lost, beat, quiet, watch)
    try:
        holder.start()
        holder.decided.wait()
        if holder.refusal is not None:
            raise holder.refusal
        yield
    finally:
        holder.ended.set()
        if holder.ident is not None:
            holder.gone.wait()  # after a `join` that is interrupted, Python takes the thread for ended


class _Holder(threading.Thread):
    """Takes a lock, gives signs of life, and lets it go at the end.

    All of that happens in this one thread, since what a signal raises (Ctrl-C, `Ended`) comes up in the main thread,
    between any two of its steps. Nor does Python end before this thread has let go.
    """

    def __init__(self, path: Path, lost: Callable[[], None], beat: float, quiet: float, watch: float) -> None:
        super().__init__()
        self.path, self.lost, self.beat, self.quiet, self.watch = path, lost, beat, quiet, watch
        self.decided, self.ended, self.gone = threading.Event(), threading.Event(), threading.Event()
        self.refusal: Exception | None = None

    def run(self) -> None:
        try:
            self._hold()
        finally:
            self.gone.set()

    def _hold(self) -> None:
        try:
            mine = _me()
            chain = _take(self.path, mine, self.quiet, self.watch, self.ended)
            _sweep(chain, mine)
        except Exception as error:  # for the thread that wants the lock
            self.refusal = error
            return
        finally:
            self.decided.set()
        try:
            _live(chain, mine, self.ended, self.lost, self.beat)
        finally:
            self.ended.wait()
            _let_go(chain, mine)


def owner(path: Path, quiet: float = QUIET) -> Owner | None:
    """Who holds the lock, judged at one glance: None if nobody does, or who does looks dead."""
    link, chain = _read(path), [path]
    found = link
    while link is not None and _successor(path, link) not in chain:
        found = link
        chain.append(_successor(path, link))
        link = _read(chain[-1])
    if found is None or _is_dead(found.owner) or (not _is_here(found.owner) and age(found.seen, path.parent) > quiet):
        return None
    return found.owner


@dataclass(frozen=True)
class _Link:
    """One file of a lock as it was seen."""

    owner: Owner
    seen: float
    """Its date: the last sign of life of its owner, in seconds by the clock of the file system."""


def _take(path: Path, mine: Owner, quiet: float, watch: float, ended: threading.Event) -> list[Path]:
    """Take the lock, or succeed the dead, and return its files from the first to our own."""
    while True:
        chain, links = [path], list[_Link]()
        while not files.create(chain[-1], msgspec.json.encode(mine)):
            link = _read(chain[-1])
            if link is None:  # it was let go meanwhile
                break
            if _successor(path, link) in chain or not _died(chain[-1], link, quiet, watch, ended):
                raise HeldError(link.owner)
            links.append(link)
            chain.append(_successor(path, link))
        else:
            # If the first file is still the one we began with, the whole chain stood all the time: it is ours. If not,
            # the lock was let go while we looked, and what we created is the successor of nothing.
            first = _read(path)
            if not links or (first is not None and first.owner.token == links[0].owner.token):
                return chain
            chain[-1].unlink(missing_ok=True)


def _let_go(chain: list[Path], mine: Owner) -> None:
    """Remove the lock, unless somebody has succeeded us, who then holds it and removes it."""
    tombstone, last = _named(chain[0], mine), dataclasses.replace(mine, token=secrets.token_hex(8))
    with suppress(OSError):  # the folder is gone, or cannot be written any more
        try:
            is_ours = files.create(tombstone, msgspec.json.encode(last))
        except OSError:  # a full disk still has room for a name
            is_ours = files.create(tombstone, b"")
        if is_ours:  # from here on, nobody can succeed us
            for file in [*chain, tombstone]:
                file.unlink(missing_ok=True)


def _live(chain: list[Path], mine: Owner, ended: threading.Event, lost: Callable[[], None], beat: float) -> None:
    """Give signs of life, and notice when others have not seen them."""
    while not ended.wait(beat):
        with suppress(OSError):  # a file system that is away comes back, or we are succeeded
            if _named(chain[0], mine).exists() or not chain[-1].exists():
                lost()
                return
            os.utime(chain[-1])  # by the clock of the file system, not ours


def _sweep(chain: list[Path], mine: Owner) -> None:
    """Remove what those have left who were killed while they reached for this lock, which we hold, or let it go."""
    path = chain[0]
    with suppress(OSError):
        for left in path.parent.glob(f".{glob.escape(path.name)}*{files.TEMPORARY}"):
            left.unlink(missing_ok=True)
        links = set(path.parent.glob(f"{glob.escape(path.name)}.*"))
        if _named(path, mine) not in links:  # or we were succeeded, and what we do not know may be another's
            for left in links.difference(chain):
                left.unlink(missing_ok=True)


def _read(path: Path) -> _Link | None:
    """One file of a lock, or None if there is none. Opening it asks the file system anew, where a look might not."""
    try:
        with path.open("rb") as file:
            facts, content = os.fstat(file.fileno()), file.read(4096)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        found = msgspec.json.decode(content, type=Owner)
        if not found.token.isalnum():  # it becomes part of a name
            raise ValueError(found.token)
    except (msgspec.MsgspecError, ValueError):
        # Nobody of ours wrote that, or a file system without hard links was left half-way. Nobody renews its date.
        found = Owner(token=f"{facts.st_ino:x}x{facts.st_mtime_ns:x}")
    return _Link(found, facts.st_mtime)


def _successor(path: Path, link: _Link) -> Path:
    return _named(path, link.owner)


def _named(path: Path, owner: Owner) -> Path:
    """The file of a lock that succeeds an owner."""
    return path.with_name(f"{path.name}.{owner.token}")


def _died(path: Path, link: _Link, quiet: float, watch: float, ended: threading.Event) -> bool:
    """Whether the owner of a file is dead. Takes `watch` seconds where that can only be suspected, and is given up,
    with no for an answer, when nobody wants to know any more."""
    if _is_here(link.owner):
        return _is_dead(link.owner)
    if abs(age(link.seen, path.parent)) < quiet:
        return False
    end = time.monotonic() + watch
    while time.monotonic() < end:
        if ended.wait(watch / 10) or _read(path) != link:
            return False
    return True


def age(seen: float, folder: Path) -> float:
    """Seconds since a date, by the clock that made it, that of the file system; by ours where we cannot write."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.utime(file.fileno())
            return os.fstat(file.fileno()).st_mtime - seen
    except OSError:
        return time.time() - seen


def _me() -> Owner:
    return Owner(
        token=secrets.token_hex(8),
        host=socket.gethostname(),
        pid=os.getpid(),
        place=_place(),
        born=_born(),
        since=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _place() -> str:
    """This start of this system and this name space of processes; empty where the system does not say (not Linux)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - it leads to no path
    except OSError:
        return ""


def _is_here(owner: Owner) -> bool:
    """Whether we can see the owner's process if it lives."""
    return bool(owner.place) and owner.place == _place()


def _is_dead(owner: Owner) -> bool:
    """Whether the owner's process, on this machine, has ended for sure."""
    return _is_here(owner) and not _runs(owner.pid, owner.born)


def _runs(pid: int, born: str) -> bool:
    """Whether the process that was born then is alive; a zombie is not, once all of its threads have ended."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return _is_hidden(pid)
    state, threads, start = facts[0], int(facts[17]), facts[19]
    return start == born and (state not in "ZX" or threads > 1)


def _is_hidden(pid: int) -> bool:
    """Whether a process that /proc does not show is somebody else's: some systems hide those."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _born() -> str:
    """When this process was started, in ticks since the system was; empty where the system does not say."""
    try:
        return Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
