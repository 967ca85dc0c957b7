"""Locks: one holder at a time, dead ones succeeded by exactly one, and no clock that is believed."""

import errno
import multiprocessing
import os
import platform
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from petlbench import lock

HOUR = 3600.0


def unexpected() -> None:
    raise AssertionError("the lock was taken over")


def leave(path: Path, age: float = 0.0, **facts: object) -> None:
    """Leave a lock file as its owner would have."""
    path.write_bytes(msgspec.json.encode({"token": "f00d", "host": "elsewhere", "pid": 1, "place": "a boot"} | facts))
    os.utime(path, (time.time() - age,) * 2)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return lock.beside(tmp_path / "suite/method/task-s0-0123456789ab.json")


def test_a_lock_has_one_holder_and_leaves_nothing_behind(path: Path) -> None:
    with lock.hold(path, unexpected):
        assert path.name == "task-s0-0123456789ab.lock"
        with pytest.raises(lock.HeldError, match=f"process {os.getpid()}, since "), lock.hold(path, unexpected):
            pass
    assert list(path.parent.iterdir()) == []
    with lock.hold(path, unexpected):
        pass


def test_who_holds_a_lock_can_be_asked(path: Path) -> None:
    assert lock.owner(path) is None
    with lock.hold(path, unexpected):
        owner = lock.owner(path)
        assert owner is not None
        assert owner.pid == os.getpid()
    assert lock.owner(path) is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc (Linux)")
@pytest.mark.parametrize("age", [0.0, 9 * HOUR, -9 * HOUR])
def test_on_one_machine_the_process_decides_and_no_clock(path: Path, age: float) -> None:
    path.parent.mkdir(parents=True)
    mine = lock._me()
    leave(path, age, pid=mine.pid, place=mine.place, born=mine.born)
    with pytest.raises(lock.HeldError), lock.hold(path, unexpected):
        pass
    leave(path, age, pid=mine.pid, place=mine.place, born="another process had the same number once")
    with lock.hold(path, unexpected):
        pass
    leave(path, age, pid=dead_pid(), place=mine.place, born=mine.born)
    assert lock.owner(path) is None
    with lock.hold(path, unexpected):
        assert len(list(path.parent.iterdir())) == 2  # the dead one's file, and its successor
        with pytest.raises(lock.HeldError), lock.hold(path, unexpected):
            pass
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(platform.machine() != "x86_64", reason="ends a thread by the number of a system call")
def test_a_process_lives_as_long_as_one_of_its_threads(path: Path) -> None:
    """A killed process is a zombie by its first thread, while others may not have ended and still hold files."""
    program = "import ctypes, threading as t; t.Thread(target=t.Event().wait).start(); ctypes.CDLL(None).syscall(60, 0)"
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        facts = Path(f"/proc/{process.pid}/stat")
        assert wait_until(lambda: facts.read_text().rpartition(")")[2].split()[0] == "Z")
        path.parent.mkdir(parents=True)
        born = facts.read_text().rpartition(")")[2].split()[19]
        leave(path, pid=process.pid, place=lock._me().place, born=born)
        with pytest.raises(lock.HeldError), lock.hold(path, unexpected):
            pass
    finally:
        process.kill()
        process.wait()
    with lock.hold(path, unexpected):
        pass


def test_a_holder_elsewhere_whose_file_is_young_lives(path: Path) -> None:
    path.parent.mkdir(parents=True)
    leave(path, age=5)
    with pytest.raises(lock.HeldError, match="in hand on elsewhere, process 1"), lock.hold(path, unexpected, watch=0.1):
        pass
    assert lock.owner(path) is not None


@pytest.mark.parametrize("age", [HOUR, -HOUR])
def test_a_holder_elsewhere_whose_clock_differs_but_who_gives_signs_of_life_is_left_alone(
    path: Path, age: float
) -> None:
    """Either our clock or theirs was set by an hour: dates say nothing, but that they change does."""
    path.parent.mkdir(parents=True)
    leave(path, age)
    ended = threading.Event()

    def live() -> None:
        beats = 0
        while not ended.wait(0.01):
            beats += 1
            os.utime(path, (time.time() - age + beats,) * 2)

    heart = threading.Thread(target=live)
    heart.start()
    try:
        with pytest.raises(lock.HeldError), lock.hold(path, unexpected, watch=2.0):
            pass
    finally:
        ended.set()
        heart.join()


@pytest.mark.parametrize("age", [HOUR, -HOUR])
def test_a_holder_elsewhere_who_gives_no_sign_of_life_is_succeeded(path: Path, age: float) -> None:
    path.parent.mkdir(parents=True)
    leave(path, age)
    with lock.hold(path, unexpected, watch=0.1):
        pass
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"token": "../../x"}', b'{"token": ""}', b"[]"])
def test_a_lock_file_with_nonsense_in_it_is_one_whose_owner_is_unknown(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(lock.HeldError, match="in hand on an unknown machine"), lock.hold(path, unexpected):
        pass
    os.utime(path, (time.time() - HOUR,) * 2)
    with lock.hold(path, unexpected, watch=0.1):
        pass
    assert list(path.parent.iterdir()) == []


def test_a_lock_that_succeeds_itself_is_left_alone(path: Path) -> None:
    path.parent.mkdir(parents=True)
    leave(path, HOUR)
    leave(path.with_name(f"{path.name}.f00d"), HOUR)
    with pytest.raises(lock.HeldError), lock.hold(path, unexpected, watch=0.1):
        pass
    assert lock.owner(path) is None


@pytest.mark.parametrize("attempt", range(10))
def test_the_dead_have_one_successor_however_many_want_to_be_it(path: Path, attempt: int) -> None:
    path.parent.mkdir(parents=True)
    leave(path, HOUR, token="dead")
    leave(path.with_name(f"{path.name}.dead"), HOUR, token="alsodead")
    inside: list[int] = []
    together: list[int] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        with suppress(lock.HeldError), lock.hold(path, unexpected, watch=0.02):
            inside.append(1)
            together.append(len(inside))
            time.sleep(0.001)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(together) == {1}
    assert list(path.parent.iterdir()) == []


def _count(path: Path, counter: Path, times: int) -> None:
    """Raise a number in a file under the lock, in a way that loses counts where two do it at once."""
    for _ in range(times):
        while True:
            try:
                with lock.hold(path, unexpected):
                    number = int(counter.read_text())
                    time.sleep(0.0005)
                    counter.write_text(str(number + 1))
                break
            except lock.HeldError:
                time.sleep(0.0005)


def test_processes_that_take_turns_never_meet(path: Path, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    spawn = multiprocessing.get_context("forkserver")
    processes = [spawn.Process(target=_count, args=(path, counter, 40)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert counter.read_text() == "160"


def test_what_the_killed_have_left_beside_a_lock_is_removed_by_its_holder(path: Path) -> None:
    path.parent.mkdir(parents=True)
    for name in (f".{path.name}-x1.tmp", f".{path.name}.f00d-x2.tmp", f"{path.name}.f00d"):
        (path.parent / name).touch()
    others = path.parent / ".task-s0-0123456789ab.json-x3.tmp"
    others.touch()
    with lock.hold(path, unexpected):
        assert set(path.parent.iterdir()) == {path, others}


def test_a_file_system_without_hard_links_has_locks_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with lock.hold(path, unexpected):
        assert lock.owner(path) is not None
        with pytest.raises(lock.HeldError), lock.hold(path, unexpected):
            pass
    assert list(path.parent.iterdir()) == []


TOIL = """
import fcntl, json, os, random, sys, time
from contextlib import suppress
from pathlib import Path
from petlbench import files, lock
folder, turns = Path(sys.argv[1]), int(sys.argv[2])
while turns:
    file = folder / f"{random.randrange(4)}.json"
    with suppress(lock.HeldError), lock.hold(lock.beside(file), lambda: None, beat=1, quiet=5, watch=2):
        turns -= 1
        files.sweep(file)
        with file.with_suffix(".inside").open("a+") as inside:
            try:
                fcntl.flock(inside, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with its process, so it never lies
            except BlockingIOError:
                inside.seek(0)
                other = inside.read()
                (folder / "two have met").write_text(f"{os.getpid()} met {Path(f'/proc/{other}/stat').read_text()}")
            inside.truncate(0)
            inside.write(str(os.getpid()))
            inside.flush()
            number = json.loads(file.read_bytes())["number"] if file.exists() else 0
            files.write(file, json.dumps({"number": number + 1, "rest": "x" * 20000}).encode())
"""


@pytest.mark.slow
def test_holders_that_are_killed_at_any_moment_leave_whole_files_and_are_succeeded_one_at_a_time(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kills = int(os.environ.get("PETLBENCH_KILLS", "40"))
    moments, numbers = random.Random(0), dict[Path, int]()

    def start(turns: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", TOIL, str(tmp_path), str(turns)])

    def at_work() -> subprocess.Popen[bytes] | None:
        """A process that holds a lock."""
        for path in tmp_path.glob("*.lock*"):
            with suppress(OSError, msgspec.MsgspecError):
                pid = msgspec.json.decode(path.read_bytes())["pid"]
                if found := [process for process in toiling if process.pid == pid]:
                    return found[0]
        return None

    toiling = [start(-1) for _ in range(4)]
    request.addfinalizer(lambda: [process.kill() or process.wait() for process in toiling])
    for _ in range(kills):
        time.sleep(moments.uniform(0, 0.02))
        victim = wait_for(at_work)
        victim.kill()
        victim.wait()
        toiling[toiling.index(victim)] = start(-1)
        for file in tmp_path.glob("?.json"):
            now = msgspec.json.decode(file.read_bytes())["number"]  # whole, at any moment
            assert now >= numbers.get(file, 0), "what was written is gone"
            numbers[file] = now
    for process in toiling:
        process.kill()
        process.wait()
    assert start(60).wait() == 0
    met = tmp_path / "two have met"
    assert not met.exists(), met.read_text()
    left = {path.name for path in tmp_path.iterdir()} - {f"{number}.inside" for number in range(4)}
    assert left == {f"{number}.json" for number in range(4)}


class Interrupt(BaseException):
    """What a signal raises in these tests, as Ctrl-C does."""


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """Raises `Interrupt` in the main thread, wherever that is."""

    def raise_it(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, raise_it)
    yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def test_an_interrupt_of_who_waits_for_a_lock_leaves_it_as_it_was(
    path: Path, interrupt: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir(parents=True)
    leave(path, HOUR)
    died = lock._died

    def interrupted(*arguments: Any) -> bool:
        interrupt()
        return died(*arguments)

    monkeypatch.setattr(lock, "_died", interrupted)
    with pytest.raises(Interrupt), lock.hold(path, unexpected, watch=HOUR):
        pass
    assert wait_until(lambda: not any(isinstance(thread, lock._Holder) for thread in threading.enumerate()))
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("step", ["_take", "_sweep", "_let_go"])
def test_an_interrupt_at_any_step_leaves_no_lock(
    path: Path, interrupt: Callable[[], None], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    real = getattr(lock, step)

    def interrupted(*arguments: Any) -> Any:
        interrupt()
        return real(*arguments)

    monkeypatch.setattr(lock, step, interrupted)
    with pytest.raises(Interrupt), lock.hold(path, unexpected):
        time.sleep(0 if step == "_let_go" else 30)  # until it is interrupted
    assert wait_until(lambda: not any(isinstance(thread, lock._Holder) for thread in threading.enumerate()))
    assert list(path.parent.iterdir()) == []


SLOW = """
import os, signal, sys, time
from pathlib import Path
from petlbench import lock
let_go = lock._let_go
def slowly(*arguments):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)
    let_go(*arguments)
lock._let_go = slowly
try:
    with lock.hold(Path(sys.argv[1]), lambda: None):
        pass
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_process_that_is_interrupted_while_it_lets_go_does_not_end_before_it_has(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SLOW, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "interrupted\n"
    assert list(path.parent.iterdir()) == []


@pytest.fixture
def taken_over(path: Path) -> Iterator[threading.Event]:
    """A lock that somebody takes over from us, who are alive; and the event that tells us so."""
    told = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(lock.hold(path, told.set, beat=0.01))
        token = msgspec.json.decode(path.read_bytes())["token"]
        leave(path.with_name(f"{path.name}.{token}"), token="beef")
        yield told


def test_a_holder_that_slept_is_told_that_others_took_over_and_leaves_their_lock(
    taken_over: threading.Event, path: Path
) -> None:
    assert taken_over.wait(30)


def test_what_others_took_over_stays_theirs(path: Path) -> None:
    with lock.hold(path, unexpected):
        token = msgspec.json.decode(path.read_bytes())["token"]
        leave(path.with_name(f"{path.name}.{token}"), token="beef")
    assert lock.owner(path) is not None
    with pytest.raises(lock.HeldError), lock.hold(path, unexpected):
        pass


def test_signs_of_life_renew_the_date(path: Path) -> None:
    with lock.hold(path, unexpected, beat=0.01):
        os.utime(path, (0, 0))
        assert wait_until(lambda: path.stat().st_mtime > 0)


def wait_for(look: Callable[[], subprocess.Popen[bytes] | None], seconds: float = 300) -> subprocess.Popen[bytes]:
    """What a look finds in the end. One look is enough: the next may not find it any more."""
    end = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)
    return found


def wait_until(true: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.005)
    return found
