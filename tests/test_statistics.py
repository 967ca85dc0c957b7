"""Statistics, held against Demsar's worked examples (JMLR 7, 2006), scipy, and what can be done by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from petlbench import statistics
from petlbench.statistics import Interval

# Demsar's table 6: AUC of four ways of tuning C4.5 on 14 data sets. The two 0.975 of "voting" are ranked 2 and 3 there.
C45 = [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.0, 0.940, 0.619, 0.972, 0.957]
C45_M = [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.0, 0.962, 0.666, 0.981, 0.978]
C45_CF = [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.0, 0.965, 0.614, 0.9751, 0.946]
C45_M_CF = [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.0, 0.962, 0.669, 0.975, 0.970]
DEMSAR = np.array([C45, C45_M, C45_CF, C45_M_CF])


def test_average_ranks_are_those_of_the_textbook() -> None:
    assert statistics.average_ranks(DEMSAR).round(3).tolist() == [3.143, 2.0, 2.893, 1.964]


def test_friedman_and_nemenyi_are_those_of_the_textbook() -> None:
    found = statistics.friedman(DEMSAR)
    assert (round(found.chi_square, 2), round(found.f, 2)) == (9.28, 3.69)
    assert found.p == pytest.approx(stats.f.sf(3.69, 3, 39), abs=1e-3)
    assert round(found.critical_difference, 2) == 1.25


@pytest.mark.parametrize(
    ("methods", "q"),
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)],
)
def test_critical_values_are_those_of_the_textbook(methods: int, q: float) -> None:
    tasks = 19
    expected = q * math.sqrt(methods * (methods + 1) / (6 * tasks))
    assert statistics.critical_difference(methods, tasks) == pytest.approx(expected, rel=5e-4)


def test_friedman_without_ties_is_that_of_scipy() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 19))
    assert statistics.friedman(scores).chi_square == pytest.approx(stats.friedmanchisquare(*scores).statistic)


def test_methods_that_every_task_ranks_alike_differ_and_equal_ones_do_not() -> None:
    assert statistics.friedman(np.arange(3.0)[:, None] + np.arange(11.0)).p == 0
    assert statistics.friedman(np.ones((3, 11))).p == 1


def test_wilcoxons_ranks_are_those_of_the_textbook() -> None:
    found = statistics.paired(np.array(C45_M), np.array(C45))
    assert (found.ahead, found.behind, found.tied, found.tasks) == (10, 2, 2, 14)
    assert found.rank_sum == 93 - 12
    assert found.p < 0.05  # Demsar: T = 12 is below the critical value 21


def test_wilcoxon_is_exact_for_few_tasks() -> None:
    six = statistics.paired(np.array([1.0, 2, 3, 4, 5, 6]), np.zeros(6))
    assert six.p == pytest.approx(2 / 2**6)
    assert statistics.smallest_p(6) == 2 / 2**6
    assert statistics.paired(np.ones(4), np.ones(4)).p == 1


def test_differences_that_differ_in_their_last_digit_tie() -> None:
    one, other = np.array([80.2, 60.2, 40.0]), np.array([80.1, 60.1, 40.1])
    assert statistics.paired(one, other).rank_sum == 2 + 2 - 2


@pytest.mark.parametrize(("comparisons", "tasks"), [(1, 6), (3, 7), (10, 9), (45, 11)])
def test_fewer_tasks_than_these_can_never_be_significant(comparisons: int, tasks: int) -> None:
    assert statistics.tasks_needed(comparisons) == tasks
    assert comparisons * 2 / 2**tasks < 0.05 <= comparisons * 2 / 2 ** (tasks - 1)


def test_holm_multiplies_the_smallest_most_and_never_falls() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ([1.0, 1.5, 2.5, 4.0], [(0, 2), (2, 3)]),
        ([1.0, 3.0, 5.0], []),
        ([1.0, 1.1, 1.2], [(0, 2)]),
    ],
)
def test_cliques_are_the_largest_sets_within_the_critical_difference(
    ranks: list[float], expected: list[tuple[int, int]]
) -> None:
    assert statistics.cliques(ranks, 1.6) == expected


def test_the_interquartile_mean_drops_a_quarter_at_either_end_of_all_runs() -> None:
    assert statistics.interquartile_mean(np.array([[0.0, 40, 50, 60], [10, 20, 30, 1000]])).value == 35
    # Of six runs, a quarter is one and a half: one is dropped, as in rliable.
    assert statistics.interquartile_mean(np.array([[0.0, 10, 20], [30, 40, 90]])).value == 25


def test_the_interval_is_that_of_scipys_bootstrap_for_one_task() -> None:
    scores = np.random.default_rng(1).normal(50, 3, size=(40, 1))
    found = statistics.interquartile_mean(scores)
    expected = stats.bootstrap(
        (scores[:, 0],),
        lambda x, axis: stats.trim_mean(x, 0.25, axis=axis),
        n_resamples=5000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.1)


def test_seeds_are_drawn_within_their_task_only() -> None:
    """Tasks that differ widely, seeds that do not: an interval that mixed tasks would not be a point."""
    found = statistics.interquartile_mean(np.array([[10.0, 50, 90, 95]] * 3))
    assert found == Interval(70, 70, 70)


def test_two_seeds_have_no_interval_and_none_has_no_value() -> None:
    two = statistics.interquartile_mean(np.array([[10.0, 20], [11, 21]]))
    assert two.value == 15.5
    assert math.isnan(two.low)
    assert math.isnan(statistics.interquartile_mean(np.empty((0, 4))).value)


def test_probability_of_improvement_is_mann_whitneys_u_over_all_pairs_of_runs() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.integers(0, 5, (3, 4)).astype(float), rng.integers(0, 5, (3, 6)).astype(float)
    expected = [stats.mannwhitneyu(a, b).statistic / 24 for a, b in zip(one, other, strict=True)]
    found = statistics.probability_of_improvement(list(one), list(other))
    assert found.value == pytest.approx(np.mean(expected))
    assert found.low <= found.value <= found.high


def test_tasks_may_differ_in_their_seeds() -> None:
    found = statistics.probability_of_improvement([np.array([3.0]), np.array([1.0, 5])], [np.array([2.0])] * 2)
    assert found.value == (1 + 0.5) / 2


def test_equal_runs_give_equal_intervals() -> None:
    scores = np.random.default_rng(4).normal(size=(5, 19))
    assert statistics.interquartile_mean(scores) == statistics.interquartile_mean(scores)
