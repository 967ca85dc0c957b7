"""The worker: does one job in a process of its own and writes the record. Every engine starts this.

python -m petlbench.worker JOB.json
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path

import msgspec
import torch

from petlbench import cost, kept, lock, zoo
from petlbench.attempt import Attempt
from petlbench.cost import Cost, CostJob
from petlbench.crew import Crew, Loss
from petlbench.engines.limits import lift
from petlbench.errors import Ended, InputError
from petlbench.files import sweep, writing
from petlbench.meters import energy
from petlbench.record import Record, Status
from petlbench.run import Job
from petlbench.store import Store
from petlbench.trial import DivergedError, Report, silent

CHECKPOINTS = "checkpoints"
"""Where trials keep them, below the results folder, each in a folder that begins with the key of its run."""


class Exit(IntEnum):
    """How a worker ends: its exit code, for whatever engine has started it."""

    DONE = 0
    FAILED = 1
    """The record says why, unless there is none: then the process has failed before it could write one."""
    UNREADABLE = 2
    """There is no such job."""
    ELSEWHERE = 3
    """Left alone, and no failure: others are at this run, or have done it since it was planned."""
    ENDED = 75
    """Ended by SIGTERM. Nothing is recorded; whoever starts the job again does the run. (EX_TEMPFAIL of sysexits.h)"""


def main(arguments: list[str]) -> int:
    """Do the job in the named file and return an exit code of `Exit`."""
    try:
        job = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=Job)
    except (OSError, IndexError, msgspec.MsgspecError) as error:
        print(f"petlbench.worker: needs the file of a job: {error}", file=sys.stderr)
        return Exit.UNREADABLE
    code = do(job)
    if code is Exit.ELSEWHERE:
        print(f"petlbench.worker: {job}: left alone, {elsewhere(job) or 'it was done meanwhile'}")
    return code


def do(job: Job | CostJob, report: Report = silent, log: str = "") -> Exit:
    """Do a job of either kind, unless others do, and store what comes of it.

    With `log`, a path below the results folder, all that this process prints from then on goes there; the file is
    removed if the job was done. Called in the main thread, SIGTERM ends the job; see `Ended`.
    """
    record = Path(job.results, job.path)
    code: Exit | None = None
    try:
        with _ending(), lock.hold(lock.beside(record), _taken_over):
            if overtaken(job):
                return Exit.ELSEWHERE
            sweep(record)
            if log:
                _print_to(Path(job.results, log))
            code = Exit.DONE if _do(job, report, log) else Exit.FAILED
            if code is Exit.DONE:
                _clear(job, log)
            return code
    except lock.HeldError:
        return Exit.ELSEWHERE
    except (InputError, OSError) as error:  # the store cannot be written; whatever else fails is in the record
        print(f"petlbench.worker: {job}: {_line(error)}", file=sys.stderr, flush=True)
        return Exit.FAILED
    except Ended:
        if code is not None:  # it was done already
            return code
        print("ended by SIGTERM; the run can be started again", flush=True)
        return Exit.ENDED


def _clear(job: Job | CostJob, log: str) -> None:
    """Remove what is of no use once a job is done: its log, and checkpoints of older code that never came to an end."""
    if log:
        Path(job.results, log).unlink(missing_ok=True)
    for left in Path(job.results, CHECKPOINTS).glob(f"{job.key}-*"):
        shutil.rmtree(left, ignore_errors=True)


def elsewhere(job: Job | CostJob) -> str:
    """Who else is at a job, in words; empty if nobody is."""
    owner = lock.owner(lock.beside(Path(job.results, job.path)))
    return f"in hand on {owner}" if owner else ""


def overtaken(job: Job | CostJob) -> bool:
    """Whether a run has another record than when it was planned: then somebody has tried it since."""
    if not isinstance(job, Job):
        return False
    record = Store(Path(job.results)).get(job.run)
    return record is not None and record.stamp != job.replaces


def stored(job: Job | CostJob) -> Record | Cost | None:
    """What the store holds of a job."""
    store = Store(Path(job.results))
    return store.get(job.run) if isinstance(job, Job) else store.get_cost(job.path)


def lost(job: Job | CostJob, reason: str, log: str, status: Status = "failed") -> Record | None:
    """Record, in the place of a worker that died, that a run failed. A cost that failed leaves no record.

    Raises lock.HeldError if others have the run by now, and InputError if the store cannot be written. A record that
    the worker or they have written stays.
    """
    if not isinstance(job, Job):
        return None
    store = Store(Path(job.results))
    path = store.root / job.path
    with writing(path), lock.hold(lock.beside(path), _taken_over):
        if overtaken(job):
            return store.get(job.run)
        record = _record(Attempt(job, silent), status, reason, log)
        store.put(record)
        return record


def settle(job: Job | CostJob, log: str) -> None:
    """Remove what a worker has left that died with its record written: its lock, and its log if the run is done."""
    with suppress(lock.HeldError, OSError), lock.hold(lock.beside(Path(job.results, job.path)), _taken_over):
        if getattr(stored(job), "status", "") == "done":
            _clear(job, log)


def work(job: Job, report: Report = silent, log: str = "") -> Record:
    """Do a job and store its record, whatever happens short of the death of the process.

    The other processes of a run that several train come and go here: see `petlbench.crew`.
    """

    def mourn(loss: Loss) -> None:
        Store(Path(job.results)).put(_record(attempt, *loss, log))

    torch.set_num_threads(job.threads)
    attempt = Attempt(job, report)
    status: Status = "done"
    reason = ""
    crew = Crew(job, mourn)
    try:
        with crew, energy(torch.device(job.device)) as used:
            attempt.run()
        attempt.joules = used.joules if job.processes == 1 else None  # of one GPU
        if job.save_weights:
            reason = _keep(attempt)
    except DivergedError as error:
        status, reason = "diverged", str(error)
    except Exception as error:
        lift()
        status, reason = crew.loss or verdict(error)
        if not isinstance(error, InputError):
            traceback.print_exc()
    record = _record(attempt, status, reason, log)
    Store(Path(job.results)).put(record)
    return record


def verdict(error: Exception) -> tuple[Status, str]:
    """What a record says of an error."""
    return "oom" if _is_out_of_memory(error) else "failed", _line(error)


def _record(attempt: Attempt, status: Status, reason: str, log: str) -> Record:
    return dataclasses.replace(attempt.record(status, reason, log), processes=attempt.job.processes)


def _do(job: Job | CostJob, report: Report, log: str) -> bool:
    if isinstance(job, Job):
        return work(job, report, log).status == "done"
    Store(Path(job.results)).put_cost(job.path, cost.work(job))
    return True


@contextmanager
def _ending() -> Iterator[None]:
    """Let SIGTERM raise `Ended`, once: what has been asked to end is not disturbed while it does."""
    if threading.current_thread() is not threading.main_thread():  # where Python does not let us
        yield
        return

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Ended

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _taken_over() -> None:
    print("this process slept for so long that others have taken the run over; it ends", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


def _print_to(log: Path) -> None:
    """Send all that this process prints, whether from Python or not, into a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)


def _is_out_of_memory(error: Exception) -> bool:
    """Those who run out of memory say so in many ways: the CPU allocator of torch, for one, with a RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error).lower()
    return any(words in said for words in ("allocate memory", "out of memory", "bad_alloc"))


def _keep(attempt: Attempt) -> str:
    """Keep what was trained; where that cannot be, the run is as good as it was, and its record says why."""
    job, run, trial = attempt.job, attempt.job.run, attempt.trial
    assert trial is not None, "whatever has run has a trial"
    method, suite = (
        zoo.method(job.plugins.get(run.method, run.method)),
        zoo.suite(job.plugins.get(run.suite, run.suite)),
    )
    try:
        kept.keep(job, method, suite, trial.encoder, trial.head, trial.found)
    except (InputError, OSError) as error:
        return f"its weights were not kept: {_line(error)}"
    return ""


def _line(error: BaseException) -> str:
    """An error in one line, as it stands in the record and on the screen."""
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}".rstrip(": ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
