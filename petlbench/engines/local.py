"""The local engine: one fresh process per run, N at a time, on this machine.

A fresh process gives clean memory figures and contains every crash, but importing torch and timm takes seconds. So the
processes are forked from a server that has only done the imports (Python's own forkserver): it holds no threads,
no data and no CUDA context, and a run starts within a fraction of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Protocol

from petlbench.engines.limits import NONE, Limits, killed_for_memory
from petlbench.errors import Ended
from petlbench.lock import HeldError

if TYPE_CHECKING:
    from petlbench.cost import Cost, CostJob
    from petlbench.record import Record
    from petlbench.run import Job

    Work = Job | CostJob
    Result = Record | Cost


GRACE = 20.0
"""Seconds that a worker has to save what it wants to save, once it has been asked to end."""
POLL = 1.0
"""Seconds between two looks at a run that is in other hands."""
UNLIMITED = 86400.0
"""Seconds between two looks at a run without a limit of time, unless it has news."""


class Display(Protocol):
    """What the engine tells while runs are under way."""

    def start(self, work: Work) -> None: ...

    def wait(self, work: Work, why: str) -> None: ...

    def step(self, work: Work, *, epoch: int, epochs: int, loss: float | None) -> None: ...

    def finish(self, work: Work, result: Result | None, seconds: float) -> None: ...


def warm_up() -> None:
    """Start the server in the background; called first, its imports overlap with those of this process."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        from multiprocessing import forkserver

        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, "1")  # no thread pools in the server; workers set torch's own number
        context().set_forkserver_preload(["petlbench.worker", "petlbench.cost"])
        forkserver.ensure_running()


def run(works: Iterable[Work], slots: int, display: Display, limits: Limits = NONE) -> None:
    """Do all work, `slots` at a time. What comes of it lies in the store; a process that dies leaves a failed record.

    What others are at, on this machine or another that sees the store, is left to them, and looked at again until it
    is done. On an interrupt (Ctrl-C, or SIGTERM under `interruptible`) the processes under way are ended, without a
    record, and the interrupt goes on.
    """
    from petlbench import worker

    waiting = iter(works)
    elsewhere: list[Work] = []
    active: list[_Child] = []

    def begin(work: Work) -> None:
        if worker.overtaken(work):
            display.finish(work, result := worker.stored(work), _seconds(result))
        elif owner := worker.elsewhere(work):
            display.wait(work, owner)
            elsewhere.append(work)
        else:
            with undisturbed():  # by an interrupt, after which nobody would know of this child
                active.append(_Child(work, limits, _free(limits.gpus, active, processes(work))))

    try:
        while True:
            while len(active) < slots and (work := next(waiting, None)) is not None:
                display.start(work)
                begin(work)
            if not active and not elsewhere:
                return
            connection.wait(
                [child.process.sentinel for child in active] + [child.news for child in active if child.open],
                timeout=min([*([POLL] if elsewhere else []), *(child.left() for child in active)], default=None),
            )
            for child in list(active):
                child.keep_to_limit()
                for epoch, epochs, loss in child.read():
                    display.step(child.work, epoch=epoch, epochs=epochs, loss=loss)
                if not child.process.is_alive():
                    active.remove(child)
                    try:
                        result = child.result()
                    except HeldError as error:
                        display.wait(child.work, str(error))
                        elsewhere.append(child.work)
                    else:
                        display.finish(child.work, result, time.perf_counter() - child.started)
            again, elsewhere[:] = elsewhere[: slots - len(active)], elsewhere[slots - len(active) :]
            for work in again:  # those at the end of the line come first the next time
                begin(work)
    finally:
        _end(active)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM, with which schedulers end what they have started, end this command as Ctrl-C does: by `Ended`."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the second one ends us at once
        raise Ended

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until something short is over. In the main thread only; others meet no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before: dict[int, Any] = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


def _end(active: list[_Child]) -> None:
    """End workers: each may save what it wants to for a while. A second interrupt kills them at once."""
    try:
        for child in active:
            child.process.terminate()
        end = time.monotonic() + GRACE
        for child in active:
            child.process.join(max(0.0, end - time.monotonic()))
    finally:
        for child in active:
            child.process.kill()
        for child in active:
            child.process.join()


def processes(work: Work) -> int:
    """How many processes train together; a cost is measured by one."""
    return getattr(work, "processes", 1)


def _free(gpus: Sequence[str], active: Sequence[_Child], count: int = 1) -> list[str]:
    """So many GPUs, those with the fewest workers; none where they are not told apart."""
    taken = Counter(gpu for child in active for gpu in child.gpus)
    return sorted(gpus, key=lambda gpu: taken[gpu])[:count]


def _seconds(result: Result | None) -> float:
    """How long others took."""
    return result.seconds.get("total", 0.0) if result is not None and hasattr(result, "seconds") else 0.0


@dataclass
class _Child:
    """A process that does one piece of work."""

    work: Work
    limits: Limits
    gpus: Sequence[str]
    process: BaseProcess = field(init=False)
    news: connection.Connection = field(init=False)
    started: float = field(default_factory=time.perf_counter)
    open: bool = True
    is_over: bool = False
    """Whether it was asked to end at its limit."""

    def __post_init__(self) -> None:
        self.killed = killed_for_memory()
        self.news, theirs = context().Pipe(duplex=False)
        arguments = (self.work, theirs, self.log, self.limits, self.gpus)
        self.process = context().Process(target=_child, args=arguments, name=str(self.work))
        self.process.start()
        theirs.close()

    @property
    def log(self) -> str:
        """Where it prints to, below the results folder."""
        return f"logs/{self.work.key}.log"

    def left(self) -> float:
        """Seconds until something has to be done about its limit of time."""
        if self.limits.seconds is None:
            return UNLIMITED
        end = self.started + self.limits.seconds + (GRACE if self.is_over else 0)
        return max(0.0, end - time.perf_counter())

    def keep_to_limit(self) -> None:
        """Ask it to end at its limit, and kill it if it has not done so a while later."""
        if self.left() > 0:
            return
        if self.is_over:
            self.process.kill()
        else:
            self.process.terminate()
            self.is_over = True

    def read(self) -> Iterator[tuple[int, int, float | None]]:
        try:
            while self.open and self.news.poll():
                yield self.news.recv()
        except (EOFError, OSError):
            self.open = False

    def result(self) -> Result | None:
        """What the worker stored; for a worker that died before it could, a failed record is stored in its stead.

        Raises HeldError if others have the run.
        """
        from petlbench import worker

        self.process.join()
        code = self.process.exitcode
        if code == worker.Exit.DONE:
            return worker.stored(self.work)
        if worker.overtaken(self.work):
            worker.settle(self.work, self.log)
            return worker.stored(self.work)
        if code == worker.Exit.ELSEWHERE:
            raise HeldError
        if self.is_over:
            return worker.lost(self.work, f"ended at its limit of {self.limits.seconds:g} s (--time-limit)", self.log)
        if code == worker.Exit.ENDED:
            return None
        if self._was_killed_for_memory():
            return worker.lost(self.work, "killed by the system, whose memory ran out", self.log, "oom")
        return worker.lost(self.work, _death(code), self.log)

    def _was_killed_for_memory(self) -> bool:
        """The kernel tells that it has killed somebody meanwhile, and we know somebody who was killed."""
        return self.process.exitcode == -signal.SIGKILL and killed_for_memory() > self.killed


def _child(work: Work, news: connection.Connection, log: str, limits: Limits, gpus: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the engine ends its workers itself
    threading.Thread(target=_die_with_parent, daemon=True).start()

    limits.apply(gpus)

    from petlbench import worker

    def report(*, epoch: int, epochs: int, loss: float | None) -> None:
        with suppress(OSError):
            news.send((epoch, epochs, loss))

    sys.exit(worker.do(work, report, log))


def _die_with_parent() -> None:
    """A worker whose engine was killed has nobody to work for: it leaves no record behind and no process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = ", by a person or because memory ran out" if name == "SIGKILL" else ""
        return f"the worker was killed by {name}{hint}"
    return f"the worker ended with exit code {code} before it could write its record"


def context() -> ForkServerContext | SpawnContext:
    """How processes are started: from the server where there can be one (not on Windows)."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("forkserver")
    return multiprocessing.get_context("spawn")


def slots(threads: int, cores: Callable[[], int | None] = os.cpu_count) -> int:
    """Runs at a time that the cores can carry, with so many threads each."""
    return max(1, (cores() or 1) // threads)
