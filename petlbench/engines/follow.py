"""Following runs that happen elsewhere: what the store says about them becomes what the display tells."""

from __future__ import annotations

import time
from collections.abc import Iterable

from petlbench import worker
from petlbench.engines.element import Submission
from petlbench.engines.local import Display
from petlbench.run import Job


class Follower:
    """Knows which jobs are still open, and tells the display when one begins and ends."""

    def __init__(self, jobs: Iterable[Job], display: Display) -> None:
        self.open = {job.key: job for job in jobs}
        self._display = display
        self._began: dict[str, float] = {}

    def at_first_of(self, jobs: Iterable[Job]) -> None:
        """Take the first of these jobs that is open for under way: they are done one after another."""
        job = next((job for job in jobs if job.key in self.open), None)
        if job is not None:
            self._begin(job)

    def hear(self, submission: Submission, element: int) -> None:
        """Tell how far an element is that is at work."""
        self.at_first_of(submission.bundles[element])
        news = submission.read_news(element)
        job = self.open.get(news.key) if news else None
        if news and job:
            self._begin(job)
            self._display.step(job, epoch=news.epoch, epochs=news.epochs, loss=news.loss)

    def look(self) -> None:
        """Finish the jobs that have a record by now."""
        for job in [job for job in self.open.values() if worker.overtaken(job)]:
            self._finish(job)

    def give_up(self, jobs: Iterable[Job]) -> None:
        """Finish those of these jobs that are open, with a record or without one, since nobody does them any more."""
        for job in jobs:
            if job.key in self.open:
                self._finish(job)

    def _begin(self, job: Job) -> None:
        if job.key not in self._began:
            self._began[job.key] = time.monotonic()
            self._display.start(job)

    def _finish(self, job: Job) -> None:
        del self.open[job.key]
        result = worker.stored(job) if worker.overtaken(job) else None
        self._begin(job)
        began = self._began.pop(job.key)
        seconds = getattr(result, "seconds", {}).get("total", time.monotonic() - began)
        self._display.finish(job, result, seconds)
