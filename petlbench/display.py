"""What a person sees while runs are under way: one line per run in hand, the whole, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from petlbench.record import Record

if TYPE_CHECKING:
    from petlbench.engines.local import Result, Work


@contextmanager
def telling(console: Console) -> Iterator[Callable[[str], None]]:
    """Something to tell progress to: one line that changes on a terminal, a line for each text elsewhere."""
    if not console.is_terminal:
        yield lambda text: console.print(text, style="dim", highlight=False, markup=False, soft_wrap=True)
        return
    with console.status("planning") as status:
        yield status.update


class ProgressDisplay:
    """A live display on a terminal, and one line per finished run anywhere (also in a log file).

    `expected` holds how long each piece of work should take, in seconds, where that is known from earlier runs;
    it is corrected by what the finished ones really took.
    """

    def __init__(self, console: Console, expected: Mapping[str, float | None], slots: int) -> None:
        self.console = console
        self.expected, self.slots = dict(expected), slots
        self.done = self.failed = 0
        self._made = time.monotonic()
        self._took: list[tuple[float | None, float]] = []
        self._began: dict[str, tuple[TaskID, float]] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._whole = self._progress.add_task("all", total=len(self.expected), note="")

    def __enter__(self) -> ProgressDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @property
    def elapsed(self) -> float:
        """Seconds since the display was made."""
        return time.monotonic() - self._made

    def start(self, work: Work) -> None:
        row = self._progress.add_task(str(work), total=None, note="starting")
        self._began[work.key] = row, time.monotonic()

    def wait(self, work: Work, why: str) -> None:
        row, _ = self._began[work.key]
        self._progress.update(row, note=why)

    def step(self, work: Work, *, epoch: int, epochs: int, loss: float | None) -> None:
        row, _ = self._began[work.key]
        note = "" if loss is None else f"loss {loss:.3f}"
        self._progress.update(row, completed=epoch, total=epochs, note=note)
        self._progress.update(self._whole, note=self._left())

    def finish(self, work: Work, result: Result | None, seconds: float) -> None:
        row, _ = self._began.pop(work.key)
        self._progress.remove_task(row)
        self._took.append((self.expected.pop(work.key), seconds))
        self._progress.advance(self._whole)
        self._progress.update(self._whole, note=self._left())
        good = result is not None and getattr(result, "status", "done") == "done"
        self.done += good
        self.failed += not good
        line = Text("done    " if good else "failed  ", style="green" if good else "red")
        line.append(f"{work}  {_outcome(work, result)}  ({seconds:.1f} s)", style="default")
        self.console.print(line, soft_wrap=True)

    def _left(self) -> str:
        """Time left: what was expected of the rest, scaled by how the finished ones compare with expectation."""
        known = [(guess, took) for guess, took in self._took if guess]
        if known:
            scale = sum(took for _, took in known) / sum(guess for guess, _ in known)
        elif self._took:
            scale = 1.0
        else:
            scale = 0.0
        typical = sum(took for _, took in self._took) / len(self._took) if self._took else None
        rest = [guess * (scale or 1.0) if guess else typical for guess in self.expected.values()]
        if not rest or any(seconds is None for seconds in rest):
            return ""
        now = time.monotonic()
        under_way = sum(now - began for _, began in self._began.values())
        seconds = max(0.0, sum(filter(None, rest)) - under_way) / self.slots
        return f"{clock(seconds)} left"


def clock(seconds: float) -> str:
    """A duration as people write it: 1:05, 12:40, 3:20:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _outcome(work: Work, result: Result | None) -> str:
    if result is None:
        return f"no record, see logs/{work.key}.log in the results folder"
    if isinstance(result, Record):
        if result.status == "done":
            return ", ".join(f"{metric} {value:.1f} %" for metric, value in result.scores.items())
        return f"{result.reason}" + (f" (log: {result.log})" if result.log else "")
    parameters = result.counts.method_parameters
    return f"{parameters:,} trainable parameters"
