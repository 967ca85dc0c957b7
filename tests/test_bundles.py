"""What shares a place in a queue, and what is asked for it."""

from collections.abc import Callable, Sequence

import pytest

from petlbench.engines import bundles
from petlbench.plan import plan
from petlbench.record import Record
from petlbench.request import Request
from petlbench.run import Job

RequestFor = Callable[..., Request]


@pytest.fixture
def jobs(request_for: RequestFor) -> list[Job]:
    """Five runs."""
    return [each.job for each in plan(request_for("linear", tasks=("day",), seeds=range(5)))]


def sizes(jobs: list[Job], seconds: Sequence[float | None], length: float, most: int = 99) -> list[int]:
    """How many runs are in each bundle."""
    found = bundles.bundle(jobs, {job.key: each for job, each in zip(jobs, seconds, strict=True)}, length, most)
    assert [job for several in found for job in several] == jobs  # all of them, in their order
    return [len(several) for several in found]


@pytest.mark.parametrize(
    ("seconds", "length", "most", "expected"),
    [
        ([10, 10, 10, 10, 10], 30, 99, [3, 2]),
        ([10, 10, 10, 10, 10], 60, 99, [5]),
        ([10, 25, 10, 10, 10], 30, 99, [1, 1, 3]),
        ([10, 99, 10, 10, 10], 30, 99, [1, 1, 3]),  # what is longer than a bundle should be, is one
        ([10, 10, None, 10, 10], 30, 99, [2, 1, 2]),  # what nobody knows, too
        ([None] * 5, 30, 99, [1, 1, 1, 1, 1]),
        ([None] * 5, 30, 2, [2, 3]),  # unless the queue takes no more
        ([99] * 5, 30, 4, [1, 1, 1, 2]),
    ],
)
def test_short_runs_share_a_bundle(
    jobs: list[Job], seconds: list[float | None], length: float, most: int, expected: list[int]
) -> None:
    assert sizes(jobs, seconds, length, most) == expected


def test_no_runs_are_no_bundles() -> None:
    assert bundles.bundle([], {}, 30, 9) == []


def test_the_time_that_is_asked_for_is_twice_that_of_the_longest_bundle_and_ten_minutes(jobs: list[Job]) -> None:
    expected: dict[str, float | None] = {job.key: 60.0 * number for number, job in enumerate(jobs)}
    assert bundles.minutes([jobs[:2], jobs[2:4], jobs[4:]], expected) == 2 * (2 + 3) + 10
    assert bundles.minutes([jobs], expected | {jobs[0].key: None}) is None


def test_the_memory_that_is_asked_for_is_that_of_the_most_similar_runs_and_some(
    do: Callable[..., list[Record]], request_for: RequestFor
) -> None:
    (record,) = do("linear", tasks=("day",))
    assert record.peak_memory_bytes is not None
    peak = record.peak_memory_bytes / 2**20
    memory = bundles.Memory([record])
    (again,) = (each.job for each in plan(request_for("linear", tasks=("day",), seeds=(1,))))
    (other,) = (each.job for each in plan(request_for("full", tasks=("night",))))
    (larger,) = (each.job for each in plan(request_for("full", tasks=("day",), overrides={"batch_size": 16})))
    assert memory.mebibytes([again, other]) == pytest.approx(1.5 * peak + 1024, abs=1)
    assert memory.mebibytes([again, larger]) is None  # nothing like it has been measured
    assert bundles.Memory([]).mebibytes([again]) is None
