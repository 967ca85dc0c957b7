"""What is told of runs that happen elsewhere: when they begin, how far they are, how they end."""

from collections.abc import Callable

import pytest
from queued import Display

from petlbench import worker
from petlbench.engines import element
from petlbench.engines.element import Submission, Telling
from petlbench.engines.follow import Follower
from petlbench.plan import plan
from petlbench.request import Request
from petlbench.run import Job


@pytest.fixture
def jobs(request_for: Callable[..., Request]) -> list[Job]:
    """Two runs."""
    return [each.job for each in plan(request_for("linear", tasks=("day",), seeds=(0, 1)))]


@pytest.fixture
def submission(jobs: list[Job], request_for: Callable[..., Request]) -> Submission:
    """Both runs in one element."""
    return Submission.new(request_for().results, [jobs])


def test_the_epochs_of_an_element_are_told_to_who_follows_it(
    jobs: list[Job], submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(element, "PAUSE", 0.0)
    display = Display()
    follower = Follower(jobs, display)
    follower.hear(submission, 0)
    assert display.started == [str(jobs[0])]
    with Telling(submission, 0, jobs) as telling:
        telling.start(jobs[0])
        for epoch in (1, 2):
            telling.step(jobs[0], epoch=epoch, epochs=9, loss=1 / epoch)
            follower.hear(submission, 0)
        assert display.steps == [(str(jobs[0]), 1, 9, 1.0), (str(jobs[0]), 2, 9, 0.5)]
        worker.work(jobs[0])
        follower.look()
        assert display.results == ["done"]
        follower.hear(submission, 0)  # the last that was heard is of a run that is over
        assert display.started == [str(jobs[0]), str(jobs[1])]
        telling.start(jobs[1])
        telling.step(jobs[1], epoch=3, epochs=9, loss=float("nan"))
        follower.hear(submission, 0)
        assert display.steps[2:] == [(str(jobs[1]), 3, 9, None)]
    assert list(submission.path.parent.iterdir()) == [submission.path]


def test_news_come_at_intervals(jobs: list[Job], submission: Submission) -> None:
    with Telling(submission, 0, jobs) as telling:
        telling.start(jobs[0])
        telling._told = float("inf")
        telling.step(jobs[0], epoch=1, epochs=9, loss=None)
        assert submission.read_news(0) is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[]", b'{"key": 1}', b'{"key": "x", "epoch": 1, "epochs": 2}']
)
def test_news_that_cannot_be_read_are_none(submission: Submission, content: bytes) -> None:
    submission.news(0).write_bytes(content)
    assert submission.read_news(0) is None


def test_a_submission_that_is_over_leaves_nothing(jobs: list[Job], submission: Submission) -> None:
    submission.news(0).write_bytes(b"of an element that was killed")
    submission.end()
    assert list(submission.path.parent.iterdir()) == []
