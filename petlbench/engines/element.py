"""One element of a job array: does a bundle of runs on the machine that a queue or a cluster has given it.

python -m petlbench.engines.element SUBMISSION.json INDEX [--tied]

It is the local engine with one run at a time, so a run that fails, or dies, leaves its siblings alone. When the queue
takes the machine back (SIGTERM), the run in hand is ended without a record; started again, the element does what has
none yet.
"""

from __future__ import annotations

import secrets
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console

from petlbench import worker
from petlbench.display import ProgressDisplay
from petlbench.engines import local, tied
from petlbench.engines.limits import NONE, Limits
from petlbench.errors import Ended, InputError
from petlbench.files import write
from petlbench.run import Job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from petlbench.engines.local import Work

FOLDER = "submitted"
"""Where submissions are kept, below the results folder."""

PAUSE = 1.0
"""Seconds between two pieces of news."""


@dataclass(frozen=True, kw_only=True)
class News:
    """How far the run is that an element has in hand."""

    key: str
    epoch: int
    epochs: int
    loss: float | None


class Telling(ProgressDisplay):
    """A display that also writes news for those who follow the element from elsewhere."""

    def __init__(self, submission: Submission, element: int, jobs: Sequence[Job]) -> None:
        super().__init__(Console(width=160), {job.key: None for job in jobs}, 1)
        self._file = submission.news(element)
        self._told = -PAUSE

    def step(self, work: Work, *, epoch: int, epochs: int, loss: float | None) -> None:
        super().step(work, epoch=epoch, epochs=epochs, loss=loss)
        if time.monotonic() - self._told >= PAUSE:
            self._told = time.monotonic()
            news = News(key=work.key, epoch=epoch, epochs=epochs, loss=loss)
            with suppress(OSError):  # the run goes on without news
                write(self._file, msgspec.json.encode(news))

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        with suppress(OSError):
            self._file.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What was handed to a queue at once: a job array with a bundle of runs per element."""

    name: str
    """Of the job array, and of this file: by it a queue is asked what has become of the elements."""
    results: str
    bundles: list[list[Job]]
    limits: Limits = NONE
    """Of each run; which GPU it takes is for the queue to say."""

    @property
    def path(self) -> Path:
        return Path(self.results, FOLDER, f"{self.name}.json")

    def news(self, element: int) -> Path:
        """Where an element says how far it is, while it is at work."""
        return Path(self.results, FOLDER, f"{self.name}_{element}.news")

    def read_news(self, element: int) -> News | None:
        """How far an element is; None if nobody knows."""
        try:
            return msgspec.json.decode(self.news(element).read_bytes(), type=News)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def end(self) -> None:
        """Remove what those need who do it or follow it."""
        for element in range(len(self.bundles)):
            self.news(element).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def log(self, element: int | str) -> Path:
        """Where an element prints to; it is removed if all of its runs are done."""
        return Path(self.results, "logs", f"{self.name}_{element}.log")

    @staticmethod
    def new(results: Path, bundles: list[list[Job]], limits: Limits = NONE) -> Submission:
        """Make one, and keep it where elements find it."""
        name = f"petlbench-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        limits = replace(limits, gpus=())
        submission = Submission(name=name, results=str(results.resolve()), bundles=bundles, limits=limits)
        write(submission.path, msgspec.json.encode(submission))
        submission.log(0).parent.mkdir(parents=True, exist_ok=True)
        return submission

    @staticmethod
    def read(path: Path) -> Submission:
        """Raises InputError for what is none: like the records, it is untrusted."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=Submission)
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            raise InputError(f"{path}: not a submission of petlbench: {error}") from error


def main(arguments: list[str]) -> int:
    """Do the runs of an element that nobody has tried since they were submitted, and return a `worker.Exit`."""
    local.warm_up()
    submission, element = Submission.read(Path(arguments[0])), int(arguments[1])
    if tied.TIED in arguments:
        tied.end_with_parent()
    jobs = [job for job in submission.bundles[element] if not worker.overtaken(job)]
    display = Telling(submission, element, jobs)
    try:
        with display, local.interruptible():
            local.run(jobs, 1, display, submission.limits)
    except Ended:
        return worker.Exit.ENDED
    if display.failed:
        return worker.Exit.FAILED
    submission.log(element).unlink(missing_ok=True)
    return worker.Exit.DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
