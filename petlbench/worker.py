"""The worker: does one job in a process of its own and writes the record. Every engine starts this.

python -m petlbench.worker JOB.json
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import msgspec
import torch

from petlbench import cost, kept, zoo
from petlbench.attempt import Attempt
from petlbench.cost import Cost, CostJob
from petlbench.errors import InputError
from petlbench.meters import energy
from petlbench.record import Record, Status
from petlbench.run import Job
from petlbench.store import Store
from petlbench.trial import DivergedError, Report, silent


def main(arguments: list[str]) -> int:
    """Do the job in the named file; 0 if its record says `done`, 1 if not."""
    try:
        job = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=Job)
    except (OSError, IndexError, msgspec.MsgspecError) as error:
        print(f"petlbench.worker: needs the file of a job: {error}", file=sys.stderr)
        return 2
    return 0 if work(job).status == "done" else 1


def do(job: Job | CostJob, report: Report = silent, log: str = "") -> None:
    """Do a job of either kind and store what comes of it."""
    if isinstance(job, Job):
        work(job, report, log)
    else:
        Store(Path(job.results)).put_cost(job.path, cost.work(job))


def stored(job: Job | CostJob) -> Record | Cost | None:
    """What the store holds of a job."""
    store = Store(Path(job.results))
    return store.get(job.run) if isinstance(job, Job) else store.get_cost(job.path)


def lost(job: Job | CostJob, reason: str, log: str) -> Record | None:
    """Record, in the place of a worker that died, that a run failed. A cost that failed leaves no record."""
    if not isinstance(job, Job):
        return None
    record = Attempt(job, silent).record("failed", reason, log)
    Store(Path(job.results)).put(record)
    return record


def work(job: Job, report: Report = silent, log: str = "") -> Record:
    """Do a job and store its record, whatever happens short of the death of the process."""
    torch.set_num_threads(job.threads)
    attempt = Attempt(job, report)
    status: Status = "done"
    reason = ""
    try:
        with energy(torch.device(job.device)) as used:
            attempt.run()
        attempt.joules = used.joules
        if job.save_weights:
            reason = _keep(attempt)
    except (torch.OutOfMemoryError, MemoryError) as error:
        status, reason = "oom", _line(error)
        traceback.print_exc()
    except DivergedError as error:
        status, reason = "diverged", str(error)
    except Exception as error:
        # The CPU allocator of torch has no exception type of its own.
        status = "oom" if "can't allocate memory" in str(error) else "failed"
        reason = _line(error)
        if not isinstance(error, InputError):
            traceback.print_exc()
    record = attempt.record(status, reason, log)
    Store(Path(job.results)).put(record)
    return record


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
