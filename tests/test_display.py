"""What a person sees while runs are under way."""

import io
from collections.abc import Callable
from dataclasses import replace as with_

import pytest
from rich.console import Console

from petlbench.display import ProgressDisplay, clock
from petlbench.plan import plan
from petlbench.record import Record
from petlbench.request import Request
from petlbench.run import Job


@pytest.fixture
def jobs(request_for: Callable[..., Request]) -> list[Job]:
    return [each.job for each in plan(request_for("linear", tasks=("day", "night", "left")))]


@pytest.fixture
def record(do: Callable[..., list[Record]]) -> Record:
    return do("linear", tasks=("right",))[0]


def show(jobs: list[Job], expected: float | None = None, slots: int = 1) -> tuple[ProgressDisplay, io.StringIO]:
    printed = io.StringIO()
    console = Console(file=printed, width=60)
    return ProgressDisplay(console, {job.key: expected for job in jobs}, slots), printed


def test_a_finished_run_is_one_line_with_its_score_however_narrow_the_terminal(jobs: list[Job], record: Record) -> None:
    display, printed = show(jobs)
    with display:
        display.start(jobs[0])
        display.step(jobs[0], epoch=1, epochs=2, loss=0.5)
        display.finish(jobs[0], with_(record, scores={"accuracy": 87.25}), seconds=3.21)
    assert "done    tiny/day linear seed 0  accuracy 87.2 %  (3.2 s)\n" in printed.getvalue()
    assert (display.done, display.failed) == (1, 0)


def test_a_failed_run_says_why_and_where_its_log_is(jobs: list[Job], record: Record) -> None:
    display, printed = show(jobs)
    with display:
        display.start(jobs[0])
        display.finish(jobs[0], with_(record, status="failed", reason="it [broke]", log="logs/x.log"), seconds=1)
    assert "failed  tiny/day linear seed 0  it [broke] (log: logs/x.log)  (1.0 s)\n" in printed.getvalue()
    assert (display.done, display.failed) == (0, 1)


@pytest.mark.parametrize(
    ("expected", "slots", "left"),
    [(None, 1, "0:20 left"), (None, 2, "0:10 left"), (5.0, 1, "0:20 left")],  # 10 s where 5 s were expected
)
def test_the_time_left_follows_what_finished_runs_took(
    jobs: list[Job], record: Record, expected: float | None, slots: int, left: str
) -> None:
    display, _ = show(jobs, expected, slots)
    display.start(jobs[0])
    display.finish(jobs[0], record, seconds=10.0)
    assert display._left() == left


def test_without_anything_to_go_by_no_time_is_promised(jobs: list[Job]) -> None:
    assert show(jobs)[0]._left() == ""


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00"), (65, "1:05"), (760, "12:40"), (12_000, "3:20:00")])
def test_durations_are_written_as_people_do(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
