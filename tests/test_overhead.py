"""`petlbench bench overhead`: both ways train the same numbers, and what is printed follows from what was timed."""

import math
import re

import pytest

from petlbench import cli, overhead
from petlbench.overhead import Pair


def test_both_ways_come_to_the_same_losses_and_both_are_timed() -> None:
    found = overhead.steps("mini", batch=4, number=2, epochs=2, turns=2, device="cpu")  # raises where losses differ
    assert len(found.bare) == len(found.harness) == 2
    assert all(math.isfinite(each) and each > 0 for each in (*found.bare, *found.harness))


def test_other_losses_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    train = overhead._Bare.train
    monkeypatch.setattr(overhead._Bare, "train", lambda bare: [2 * loss for loss in train(bare)])
    with pytest.raises(AssertionError, match="not close"):
        overhead.steps("mini", batch=4, number=2, epochs=2, turns=1, device="cpu")


def test_a_ratio_is_that_of_one_turn() -> None:
    pair = Pair(bare=[1.0, 10.0], harness=[1.5, 10.0])
    assert pair.ratios == [1.5, 1.0]
    assert pair.differences == [0.5, 0.0]


def test_the_command_prints_medians_and_how_far_they_spread(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Pair(bare=[0.1, 0.1, 0.1], harness=[0.101, 0.102, 0.099])
    monkeypatch.setattr(overhead, "steps", lambda *_, **__: step)
    monkeypatch.setattr(overhead, "start", lambda turns: Pair(bare=[4.0], harness=[4.5]))
    assert cli.main(["bench", "overhead", "--device", "cpu"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[2] == "a training step, CPU time 0.1000 0.1010 +1.00 % (-1.00 to +2.00)"
    assert lines[3] == "from process start to training, CPU time 4.0000 4.5000 +0.50 s (+0.50 to +0.50)"


@pytest.mark.slow
def test_a_worker_is_timed_up_to_the_moment_it_trains() -> None:
    found = overhead.start(1)
    assert len(found.harness) == len(found.bare) == 1
    assert min(*found.harness, *found.bare) > 0.1  # seconds; nobody imports torch faster


@pytest.mark.parametrize("option", ["--batch-size", "--steps", "--epochs", "--turns"])
def test_mistakes_are_named(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "overhead", option, "0"]) == 2
    assert re.search(f"{option} 0: expected at least 1", capsys.readouterr().err)
