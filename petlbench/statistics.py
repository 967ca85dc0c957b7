"""What a comparison may claim: ranks, intervals and tests, and below how many tasks or seeds they are silent.

Every function takes plain arrays and follows one source: Demsar (JMLR 7, 2006) for tests over tasks, rliable (Agarwal
et al., arXiv 2108.13264) for intervals over seeds. See docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

ALPHA = 0.05
"""Level of every test; intervals cover 1 - ALPHA."""
FRIEDMAN_TASKS = 11
"""Demsar's rule of thumb for the distribution that Friedman's and Nemenyi's tests assume: more than ten tasks."""
INTERVAL_SEEDS = 3
"""A resample of n seeds has (n - 1) / n of their variance: with two, half of it is gone."""
TIE_SEEDS = 3
"""The fewest seeds that say how scores scatter well enough to test for ties."""
RESAMPLES = 2_000
"""Of a bootstrap."""


@dataclass(frozen=True)
class Interval:
    """A number and where it lies with 95 % confidence, as far as seeds decide."""

    value: float
    low: float = math.nan
    """NaN, as `high`, where there are fewer than `INTERVAL_SEEDS` seeds."""
    high: float = math.nan


@dataclass(frozen=True)
class Friedman:
    """Whether the average ranks of several methods differ at all, and by how much two must, to differ."""

    chi_square: float
    f: float
    """Iman and Davenport's correction of it, less conservative."""
    p: float
    """Of `f`."""
    critical_difference: float
    """Nemenyi's, at the level `ALPHA`."""


@dataclass(frozen=True)
class Paired:
    """Two methods on the same tasks."""

    ahead: int
    """Tasks on which the first one scores higher."""
    behind: int
    tied: int
    rank_sum: float
    """Wilcoxon's positive ranks less the negative ones: above zero if the first one is ahead."""
    p: float
    """Of Wilcoxon's signed-rank test, two-sided, not corrected."""

    @property
    def tasks(self) -> int:
        return self.ahead + self.behind + self.tied


def average_ranks(scores: Array) -> Array:
    """Mean over tasks of the rank on each; 1 is the best, and equal scores share the mean of their ranks.

    `scores` (methods, tasks), higher is better.
    """
    return np.asarray(stats.rankdata(-_exact(scores), axis=0).mean(axis=1))


def friedman(scores: Array) -> Friedman:
    """Friedman's test and Nemenyi's critical difference for `scores` (methods, tasks), as Demsar's section 3.2.2."""
    methods, tasks = scores.shape
    ranks = average_ranks(scores)
    spread = float((ranks**2).sum()) - methods * (methods + 1) ** 2 / 4
    chi_square = max(0.0, 12 * tasks / (methods * (methods + 1)) * spread)
    rest = tasks * (methods - 1) - chi_square
    f = (tasks - 1) * chi_square / rest if rest > 1e-9 else math.inf  # every task ranks the methods alike
    p = float(stats.f.sf(f, methods - 1, (methods - 1) * (tasks - 1)))
    return Friedman(chi_square, f, p, critical_difference(methods, tasks))


def least_significant_difference(scores: Array) -> float:
    """Tukey: means over seeds that are further apart differ at the level `ALPHA`, whichever two of the rows they are.

    `scores` (methods, seeds), every method with the same seeds. The spread is what is left after the means of methods
    and of seeds (randomised blocks), pooled over the methods; for two of them this is the paired t-test.
    """
    methods, seeds = scores.shape
    left = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0, keepdims=True) + scores.mean()
    freedom = (methods - 1) * (seeds - 1)
    return _tukey(methods, freedom) * math.sqrt(float((left**2).sum()) / freedom / seeds)


@cache
def _tukey(methods: int, freedom: int) -> float:
    """Critical value of the studentised range."""
    return float(stats.studentized_range.ppf(1 - ALPHA, methods, freedom))


def critical_difference(methods: int, tasks: int, alpha: float = ALPHA) -> float:
    """Nemenyi: average ranks that are further apart differ at the level `alpha`."""
    q = stats.studentized_range.ppf(1 - alpha, methods, np.inf) / math.sqrt(2)
    return float(q) * math.sqrt(methods * (methods + 1) / (6 * tasks))


def cliques(ranks: Sequence[float], critical: float) -> list[tuple[int, int]]:
    """The largest sets of methods whose ranks differ by less than the critical difference.

    `ranks` in rising order; each set is the positions of its first and last member, and has at least two.
    """
    found: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = max(place for place, other in enumerate(ranks) if other - rank < critical)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def paired(one: Array, other: Array) -> Paired:
    """Wilcoxon's signed-rank test of the scores (tasks,) of two methods.

    Exact where scipy has it exact. Half of the ranks of tied tasks counts for each side, as Demsar has it.
    """
    difference = _exact(np.asarray(one) - np.asarray(other))
    ahead, behind = int((difference > 0).sum()), int((difference < 0).sum())
    ranks = stats.rankdata(np.abs(difference))
    p = 1.0 if not (ahead or behind) else float(stats.wilcoxon(difference, zero_method="zsplit").pvalue)
    rank_sum = float((np.sign(difference) * ranks).sum())
    return Paired(ahead, behind, len(difference) - ahead - behind, rank_sum, p)


def smallest_p(tasks: int, comparisons: int = 1) -> float:
    """The least p of Wilcoxon's test after Holm: that of tasks which all agree, as 2 of 2^tasks do by chance."""
    return comparisons * 2.0 ** (1 - tasks)


def tasks_needed(comparisons: int = 1) -> int:
    """The fewest tasks on which Wilcoxon's test can reach `ALPHA`: 6 for one pair of methods, 11 for 45 pairs."""
    return next(tasks for tasks in range(1, 1000) if smallest_p(tasks, comparisons) < ALPHA)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction: the smallest of m values times m, the next times m - 1, and so on, never falling."""
    corrected, largest = [0.0] * len(p), 0.0
    for place, index in enumerate(sorted(range(len(p)), key=lambda each: p[each])):
        largest = max(largest, min(1.0, p[index] * (len(p) - place)))
        corrected[index] = largest
    return corrected


def interquartile_mean(scores: Array) -> Interval:
    """Mean of the middle half of all runs of one method, over seeds and tasks alike; `scores` (seeds, tasks)."""

    def of(tasks: Sequence[Array]) -> Array:
        return np.asarray(stats.trim_mean(np.concatenate(tasks), 0.25, axis=0))

    return _interval(of, list(scores.T))


def probability_of_improvement(one: Sequence[Array], other: Sequence[Array]) -> Interval:
    """How likely a run of one method scores higher than a run of the other, on a task drawn at random.

    `one` and `other` hold the scores (seeds,) of every task; an equal score counts half.
    """

    def of(tasks: Sequence[Array]) -> Array:
        pairs = zip(tasks[: len(one)], tasks[len(one) :], strict=True)
        return np.asarray(np.mean([_wins(first, second) for first, second in pairs], axis=0), np.float64)

    return _interval(of, [*one, *other])


def _wins(first: Array, second: Array) -> Array:
    """Share of the pairs of runs that the first wins, Mann-Whitney's U by their number; both are (seeds, resamples)."""
    return np.asarray((np.sign(first[:, None] - second[None, :]).mean(axis=(0, 1)) + 1) / 2)


def _interval(of: Callable[[Sequence[Array]], Array], samples: Sequence[Array]) -> Interval:
    """A statistic of several samples (seeds,) and its percentile interval, by a bootstrap that draws within each.

    `of` takes the samples as (seeds, resamples). The draws start from a fixed seed: equal runs give equal text.
    """
    samples = [_exact(sample) for sample in samples]
    if not all(map(len, samples)):
        return Interval(math.nan)
    value = float(of([sample[:, None] for sample in samples])[0])
    if min(map(len, samples)) < INTERVAL_SEEDS:
        return Interval(value)
    rng = np.random.default_rng(0)
    drawn = of([sample[rng.integers(len(sample), size=(len(sample), RESAMPLES))] for sample in samples])
    low, high = np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(value, float(low), float(high))


def _exact(scores: Array) -> Array:
    """Without the last digits, which differ where nothing else does: 80.2 - 80.1 and 60.2 - 60.1 tie."""
    return np.asarray(np.round(scores, 9), np.float64)
