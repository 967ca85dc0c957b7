"""The SLURM engine: one job array, a bundle of short runs per element; what is done is read from the store.

SLURM is asked with `squeue` alone what is still queued or running, since its accounting (`sacct`) is often off. A
submission is kept as a file in `submitted/` below the results, under a name that the array bears, too: so whoever comes
back, from any machine that sees both, submits nothing twice.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from petlbench import worker
from petlbench.engines import bundles
from petlbench.engines.element import FOLDER, Submission
from petlbench.engines.follow import Follower
from petlbench.engines.limits import NONE, Limits
from petlbench.engines.local import Display
from petlbench.errors import InputError
from petlbench.glance import glances
from petlbench.run import Job

OURS = ("array", "chdir", "error", "input", "job-name", "open-mode", "output", "parsable", "test-only", "wait", "wrap")
"""Settings of sbatch that this engine makes itself."""

POLLS = (1.0, 15.0)
"""Seconds between two looks at the queue, at first and after a while."""


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """An engine that submits and waits, or submits and returns."""

    results: Path
    expected: Mapping[str, float | None]
    """Seconds that a run should take, by its key; None where that is unknown."""
    settings: Mapping[str, str]
    """Settings of sbatch by their long names, as `settings` reads them; they come before what is estimated."""
    length: float = bundles.LENGTH
    """Seconds of work per element."""
    detach: bool = False
    """Return as soon as all is submitted."""
    say: Callable[[str], None]
    """Where to tell what was submitted."""

    def run(self, works: Iterable[Job], slots: int, display: Display, limits: Limits = NONE) -> None:
        """Submit what is not queued or running yet, at most `slots` elements at a time, and follow all of it.

        An interrupt ends the waiting and nothing else. Raises InputError if SLURM refuses.
        """
        check()
        jobs = list(works)
        kept = list(_kept(self.results))
        known = _queue([each.name for each in kept])
        queued = {job.key for each in kept for job in _left(each, known) if not worker.overtaken(job)}
        if queued := queued & {job.key for job in jobs}:
            self.say(f"in the queue already: {_counted(len(queued), 'run')}")
        if fresh := [job for job in jobs if job.key not in queued]:
            kept.append(self._submit(fresh, slots, limits))
        if not self.detach:
            self._follow(jobs, kept, display)
            for each in kept:  # those that ended otherwise tell what their array was about
                if all(worker.overtaken(job) for several in each.bundles for job in several):
                    each.end()

    def _submit(self, jobs: Sequence[Job], slots: int, limits: Limits) -> Submission:
        together = bundles.bundle(jobs, self.expected, self.length, _most())
        # Kept first, so that no array is ever in the queue without us knowing what it is about.
        submission = Submission.new(self.results, together, limits)
        log = submission.log("%a")
        command = shlex.join([sys.executable, "-m", "petlbench.engines.element", str(submission.path)])
        try:
            number = _ask(
                "sbatch",
                "--parsable",
                f"--job-name={submission.name}",
                f"--array=0-{len(together) - 1}%{slots}",
                f"--output={str(log.parent).replace('%', '%%')}/{log.name}",
                "--open-mode=append",
                *(f"--{option}={value}" if value else f"--{option}" for option, value in self._requests(together)),
                script=f'#!/bin/sh\nexec {command} "$SLURM_ARRAY_TASK_ID"\n',
            )
        except InputError:
            submission.path.unlink(missing_ok=True)
            raise
        what = f"{_counted(len(jobs), 'run')} in {_counted(len(together), 'array element')}"
        self.say(
            f"submitted as SLURM job {number.partition(';')[0].strip()}, {submission.name}: "
            f"{what}, at most {min(slots, len(together))} at a time"
        )
        return submission

    def _requests(self, together: Sequence[Sequence[Job]]) -> Iterator[tuple[str, str]]:
        """Settings of sbatch: what was asked for, and what the estimates say about the rest."""
        first, asked = together[0][0], self.settings
        minutes = bundles.minutes(together, self.expected)
        memory = bundles.Memory(glances(self.results).values()).mebibytes(job for jobs in together for job in jobs)
        yield from asked.items()
        if "requeue" not in asked and "no-requeue" not in asked:
            yield "requeue", ""  # started again, an element goes on where it was
        if not any(name.startswith("cpus-per-") for name in asked):
            yield "cpus-per-task", str(first.processes * first.threads)
        if first.device != "cpu" and not any(name.startswith(("gpus", "gres")) for name in asked):
            yield "gres", f"gpu:{first.processes}"
        if minutes is not None and "time" not in asked:
            yield "time", str(minutes)
        if memory is not None and not any(name.startswith("mem") for name in asked):
            yield "mem", f"{memory}M"

    def _follow(self, jobs: Iterable[Job], kept: Sequence[Submission], display: Display) -> None:
        """Tell what becomes of jobs until the store holds each, or SLURM has given it up."""
        follower = Follower(jobs, display)
        missed: set[str] = set()
        pause, longest = POLLS
        while follower.open:
            try:
                elements = _queue([each.name for each in kept])
            except InputError:  # SLURM's controller is away; whatever happens meanwhile is in the store
                elements = None
            # The queue first and the store behind it: an element that is gone has written what it had to write.
            follower.look()
            if elements is not None:
                for submission in kept:
                    for index in range(len(submission.bundles)):
                        if elements.get((submission.name, index)) == "RUNNING":
                            follower.hear(submission, index)
                left = {job.key for submission in kept for job in _left(submission, elements)}
                gone = {*follower.open} - left
                # A file system may show a record late, so nothing is given up at the first look.
                follower.give_up([follower.open[key] for key in missed & gone])
                missed = gone
            if follower.open:
                time.sleep(pause)
                pause = min(longest, pause * 1.2)


def check() -> None:
    """Raise InputError where nothing can be submitted."""
    if shutil.which("sbatch") is None or shutil.which("squeue") is None:
        raise InputError("--engine slurm: no sbatch and squeue here; runs are submitted on a machine that has them")


def settings(texts: Sequence[str]) -> dict[str, str]:
    """Read settings of sbatch: "partition=gpu,gres=gpu:1,shard:2,exclusive=" has three, since a comma that no NAME=
    follows is part of a value; NAME= without a value is a flag. Raises InputError.
    """
    found: dict[str, str] = {}
    for text in texts:
        for each in re.split(r",(?=[a-z][a-z0-9-]*=)", text):
            name, equals, value = each.partition("=")
            if not equals or not re.fullmatch(r"[a-z][a-z0-9-]*", name):
                raise InputError(f"--slurm {each}: expected NAME=VALUE,... with long options of sbatch, partition=gpu")
            if name in OURS:
                raise InputError(f"--slurm {each}: petlbench sets {name} itself, as {', '.join(OURS)}")
            found[name] = value
    return found


Element = tuple[str, int]
"""The name of an array and an index."""


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _queue(names: Sequence[str]) -> dict[Element, str]:
    """The elements of these arrays that SLURM has not ended for good, with their states."""
    if not names:
        return {}
    answer = _ask("squeue", "--noheader", "--array", f"--name={','.join(names)}", "--format=%j|%K|%T")
    rows = (line.strip().split("|") for line in answer.splitlines())
    return {(name, int(index)): state for name, index, state in rows if index.isdecimal()}


def _left(submission: Submission, elements: Mapping[Element, str]) -> Iterator[Job]:
    """The jobs of a submission that SLURM may still do."""
    for index, jobs in enumerate(submission.bundles):
        if (submission.name, index) in elements:
            yield from jobs


def _kept(results: Path) -> Iterator[Submission]:
    """Every submission to this store that may not be over."""
    for path in sorted((results / FOLDER).glob("*.json")):
        yield Submission.read(path)


def _most() -> int:
    """How many elements an array may have here."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config"), re.MULTILINE)
    return int(found[1]) if found else 1000


def _ask(*command: str, script: str = "") -> str:
    """What one of SLURM's commands answers. Raises InputError with the line in which it refuses."""
    try:
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"--engine slurm: {command[0]}: {error}") from error
    if done.returncode != 0:
        reason = " ".join(done.stderr.split()).removeprefix(f"{command[0]}: ") or f"exit code {done.returncode}"
        raise InputError(f"--engine slurm: {command[0]} says: {reason}")
    return done.stdout
