"""Who shares the best place: what a test over seeds cannot tell apart, and printed digits where there is no test."""

import math

import numpy as np
import pandas as pd
import pytest
from recorded import record, row
from scipy import stats
from tiny import Tiny

from petlbench import frame, statistics, table, ties
from petlbench.record import Record


def places(records: list[Record], **options: object) -> list[int]:
    """The marks of the column `day`."""
    made = table.scores_table(frame.scores(records, Tiny(), tasks=["day"]), **options)  # type: ignore[arg-type]
    assert made.columns[-1].name == "day"
    return [cells[-1].place for cells in made.rows]


def notes(records: list[Record], **options: object) -> str:
    made = table.scores_table(frame.scores(records, Tiny(), tasks=["day"]), **options)  # type: ignore[arg-type]
    return " ".join(made.notes)


def rows(**scores: list[float]) -> list[Record]:
    return [each for label, of_seeds in scores.items() for each in row(label, day=of_seeds)]


def test_for_two_methods_it_is_the_paired_t_test() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 5))
    margin = statistics.least_significant_difference(scores)
    for shift in (0.99, 1.01):
        other = scores[0] - shift * margin + (scores[1] - scores[1].mean()) - (scores[0] - scores[0].mean())
        assert (stats.ttest_rel(scores[0], other).pvalue < 0.05) == (shift > 1)


def test_for_several_methods_it_is_tukeys_test_on_what_blocks_leave() -> None:
    """By hand: three methods on four seeds, where the seeds add 0, 1, 2, 3 and what is left is +-0.5."""
    left = 0.5 * np.array([[1, -1, 1, -1], [-1, 1, -1, 1], [0, 0, 0, 0]])
    scores = np.array([[10], [12], [20]]) + np.arange(4) + left
    deviation = math.sqrt(8 * 0.25 / (2 * 3))
    q = 4.339  # studentised range, 3 groups, 6 degrees of freedom, 0.05: any table of it
    assert statistics.least_significant_difference(scores) == pytest.approx(q * deviation / math.sqrt(4), rel=1e-3)


def test_what_cannot_be_told_apart_from_the_best_shares_its_place_and_leaves_no_second() -> None:
    records = rows(bitfit=[90, 91, 92], lora=[90.5, 90.4, 92.3], vpt=[70, 71, 72.5])
    assert places(records) == [1, 1, 0]
    assert places(records, ties="digits") == [2, 1, 0]
    assert "cannot tell apart from the best at the level 0.05" in notes(records)
    assert "by printed digits, not by a test" in notes(records, ties="digits")


def test_a_difference_that_every_seed_shows_is_one_however_much_the_seeds_differ() -> None:
    assert places(rows(bitfit=[50, 60, 70], lora=[49, 59.1, 68.9], vpt=[30, 40, 50])) == [1, 2, 0]


def test_the_second_place_is_shared_likewise() -> None:
    assert places(rows(bitfit=[90, 91, 92], lora=[80, 81.2, 82], vpt=[80.1, 81, 82])) == [1, 2, 2]


def test_what_prints_alike_shares_its_place_whatever_the_test_says() -> None:
    assert places(rows(bitfit=[90.01, 90.01, 90.01], lora=[90.04, 90.04, 90.04], vpt=[80, 80, 80])) == [1, 1, 0]


@pytest.mark.parametrize(
    "records",
    [
        rows(bitfit=[90, 91], lora=[90.5, 90.1]),
        rows(bitfit=[90, 91, 92], lora=[90.5, 90.4]),
        [*rows(bitfit=[90, 91, 92]), *(record("lora", "day", 90.5, seed) for seed in (3, 4, 5))],
    ],
    ids=["two seeds", "seeds missing", "other seeds"],
)
def test_without_three_seeds_of_all_rows_printed_digits_decide_and_a_note_says_so(records: list[Record]) -> None:
    assert sorted(places(records)) == [1, 2]
    assert "by printed digits: to test for ties takes 3 seeds of all rows" in notes(records)


def test_a_table_with_both_kinds_of_columns_says_how_many() -> None:
    records = [*row("lora", day=[80, 81, 82], night=70), *row("vpt", day=[60, 61, 62], night=60)]
    made = table.scores_table(frame.scores(records, Tiny(), tasks=["day", "night"]))
    assert "In 2 of 3 columns, whose rows share too few seeds, by printed digits." in made.notes[0]


LOUD = {"vpt": [90, 90.6, 89.4], "linear": [86, 86.5, 85.5], "lora": [59.0, 29, 89]}


def test_a_row_that_makes_the_others_tie_by_its_scatter_is_named() -> None:
    assert places(rows(**LOUD)) == [1, 1, 1]
    said = "lora scatters far more than the others, so the joint test tells little apart: see petlbench table --ties "
    assert notes(rows(**LOUD)).count(said) == 1
    assert "scatters" not in notes(rows(**LOUD), ties="digits")
    two = notes(rows(**LOUD, bitfit=[80, 80.3, 80.5], hst=[85, 85.4, 85.1], ssf=[50.0, 20, 70]))
    assert "lora and ssf scatter far more than the others, so" in two


@pytest.mark.parametrize(
    "scores",
    [
        {**LOUD, "lora": [59.0, 54, 64]},
        {**LOUD, "lora": [59.0, 29, 89], "linear": [90.2, 89.9, 89.5]},
        {"vpt": [90, 90.6, 89.4], "lora": [59.0, 29, 89]},
        {"vpt": [100, 100, 100], "linear": [100, 100, 100], "lora": [99.0, 99.5, 98]},
    ],
    ids=["ten times is not more", "they tie without it", "two rows", "they print alike"],
)
def test_a_row_that_scatters_is_not_named_where_that_changes_nothing(scores: dict[str, list[float]]) -> None:
    assert "scatters" not in notes(rows(**scores))


def test_a_note_says_in_which_columns_a_row_scatters() -> None:
    calm = {"vpt": [90, 90.6, 89.4], "linear": [86, 86.5, 85.5], "lora": [80, 80.6, 79.6]}
    records = [each for name in LOUD for each in row(name, day=LOUD[name], night=calm[name])]
    made = table.scores_table(frame.scores(records, Tiny(), tasks=["day", "night"]))
    assert made.notes[1].startswith("lora scatters far more than the others in day, mean of tasks, so the joint test ")
    assert "-{}-ties digits" in table.scores(records, Tiny(), "latex", tasks=["day"])  # no dash of LaTeX's


def test_rows_that_scatter_alike_are_hardly_ever_noisy() -> None:
    drawn = np.random.default_rng(0).normal(size=(1000, 5, 3))
    index = pd.MultiIndex.from_product([list("abcde"), range(3)], names=["method", "seed"])
    assert sum(bool(ties.noisy(pd.Series(each.ravel(), index))) for each in drawn) <= 1


def test_one_row_alone_is_not_marked_and_nothing_is_said_of_marks() -> None:
    assert places(rows(lora=[80, 81, 82])) == [0]
    assert "best" not in notes(rows(lora=[80, 81, 82]))
