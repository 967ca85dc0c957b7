"""Methods against each other: who ranks where, who is ahead of whom, and in words what may be claimed of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import pandas as pd
from pandas import DataFrame

from petlbench import frame, statistics
from petlbench.errors import InputError, unknown
from petlbench.frame import Scores, is_mean
from petlbench.selection import AXES, SCORED
from petlbench.statistics import ALPHA, FRIEDMAN_TASKS, INTERVAL_SEEDS, Array, Friedman, Interval
from petlbench.typeset import MISSING, Cell, Column, Table

MANY = 45
"""Pairs that a table shows: all those of ten methods."""


@dataclass(frozen=True)
class Comparison:
    """The rows of a table that have a score on every task of it, compared."""

    tasks: list[str]
    methods: DataFrame
    """By name, the best average rank first: rank (average over tasks), mean, iqm (interquartile mean) with iqm_low and
    iqm_high, and seeds (how many there are on every task; iqm is theirs). Percent."""
    pairs: DataFrame
    """method, other; ahead, behind and tied (tasks); p (Wilcoxon) and p_holm, NaN where no p could reach the level;
    improvement (probability that a run of the method beats one of the other) with improvement_low and _high."""
    friedman: Friedman | None
    """None for two methods or fewer than `FRIEDMAN_TASKS` tasks."""
    left_out: dict[str, list[str]]
    """Rows that lack tasks, with these tasks."""
    suite: str
    metric: str
    stale: int
    """Runs whose code has changed since."""


def compare(found: Scores, reference: str = "") -> Comparison:
    """Compare all pairs of rows, or all rows with `reference`, the name of one of them.

    Raises InputError if fewer than two rows have a score on every task, or the reference is none of them.
    """
    tasks = [column for column in found.columns if not is_mean(column)]
    scores = (
        found.mean[tasks].set_axis(frame.names(found).tolist(), axis=0).set_axis([name for _, name in tasks], axis=1)
    )
    missing = {name: [str(task) for task in scores.columns[row.isna()]] for name, row in scores.iterrows()}
    complete = scores.dropna()
    if len(complete) < 2:
        raise InputError(
            f"{len(complete)} of {len(scores)} methods have a score on every task and two are needed; see --tasks"
        )
    runs = _runs(found, list(map(str, scores.columns)))
    of_every_task = {name: runs[name].dropna().to_numpy() for name in map(str, complete.index)}
    rows = DataFrame(
        {
            "method": complete.index,
            "rank": statistics.average_ranks(complete.to_numpy()),
            "mean": complete.mean(axis=1).to_numpy(),
            **_columns("iqm", [statistics.interquartile_mean(each) for each in of_every_task.values()]),
            "seeds": [len(each) for each in of_every_task.values()],
        }
    ).sort_values("rank", kind="stable", ignore_index=True)
    if reference and reference not in complete.index:
        raise unknown("--reference", reference, map(str, complete.index))
    names = list(map(str, rows["method"]))
    chosen = [(reference, name) for name in names if name != reference] if reference else list(combinations(names, 2))
    enough = len(rows) > 2 and len(tasks) >= FRIEDMAN_TASKS
    return Comparison(
        tasks=list(map(str, scores.columns)),
        methods=rows,
        pairs=_pairs(complete, runs, chosen),
        friedman=statistics.friedman(complete.to_numpy()) if enough else None,
        left_out={str(name): lacking for name, lacking in missing.items() if lacking},
        suite=str(found.runs["suite"].iloc[0]),
        metric=", ".join(sorted(set(found.runs["metric"]) - {""})),
        stale=int((found.runs["state"] == "stale").sum()),
    )


def sentences(made: Comparison) -> list[str]:
    """What may be said: of all methods together, then of the one that ranks best, or the reference, and each other."""
    said = (_sentence(made, pair) for _, pair in _of_the_first(made).iterrows())
    return [_together(made), *_silence(made), *said, *_beware(made)]


def csv(made: Comparison) -> str:
    """The rows of `Comparison.methods`, then those of `Comparison.pairs`, which have an `other`; nothing is rounded."""
    both = pd.concat([made.methods, made.pairs])
    columns = ["method", "other", *(name for name in both if name not in ("method", "other"))]
    return both[columns].convert_dtypes().to_csv(index=False).rstrip("\n")


def ranking_table(made: Comparison) -> Table:
    """Methods by average rank."""
    columns = [Column(name, key=name == "method") for name in ("method", "rank", "mean", "iqm", "95 %", "seeds")]
    rows = [
        [
            Cell(str(row["method"])),
            Cell(f"{row['rank']:.2f}"),
            Cell(f"{row['mean']:.1f}"),
            Cell(_number(row["iqm"], 1)),
            Cell(_range(row["iqm_low"], row["iqm_high"], 1)),
            Cell(str(row["seeds"])),
        ]
        for _, row in made.methods.iterrows()
    ]
    return Table(
        f"ranks-{made.suite}", f"{_what(made)}: average rank, and interquartile mean over runs.", columns, rows
    )


def pairs_table(made: Comparison) -> Table:
    """Pairs of methods, task by task and run by run; of more than `MANY` only those of the one that ranks best."""
    pairs = made.pairs if len(made.pairs) <= MANY else _of_the_first(made)
    heads = ("method", "other", "ahead", "tied", "behind", "p", "p (Holm)", "improves", "95 %")
    rows = [
        [
            Cell(str(pair["method"])),
            Cell(str(pair["other"])),
            *(Cell(str(pair[name])) for name in ("ahead", "tied", "behind")),
            *(Cell(MISSING if math.isnan(pair[name]) else _p(pair[name])) for name in ("p", "p_holm")),
            Cell(_number(pair["improvement"], 2)),
            Cell(_range(pair["improvement_low"], pair["improvement_high"], 2)),
        ]
        for _, pair in pairs.iterrows()
    ]
    hidden = len(made.pairs) - len(pairs)
    notes = [f"{hidden} more pairs, among the others, are in --format csv."] if hidden else []
    columns = [Column(name, key=name in ("method", "other")) for name in heads]
    caption = "Tasks on which the method is ahead of the other, Wilcoxon's p, and probability of improvement."
    return Table(f"pairs-{made.suite}", caption, columns, rows, notes)


def _runs(found: Scores, tasks: list[str]) -> dict[str, DataFrame]:
    """By name, the scores of all seeds: a row per seed, a column per task, NaN where a task lacks the seed."""
    scored = found.runs[found.runs["state"].isin(SCORED)].dropna(subset="score")
    wide = scored.pivot(index=[*AXES, "seed"], columns="task", values="score").reindex(columns=tasks)
    seeds = dict(iter(wide.groupby(level=AXES, sort=False)))
    rows = zip(found.mean.index.tolist(), frame.names(found), strict=True)
    return {str(name): seeds.get(row, wide.iloc[:0]) for row, name in rows}


def _of_tasks(runs: DataFrame) -> list[Array]:
    """The scores of every task, as many as it has."""
    return [runs[task].dropna().to_numpy() for task in runs]


def _pairs(scores: DataFrame, runs: dict[str, DataFrame], chosen: Sequence[tuple[str, str]]) -> DataFrame:
    tests = [statistics.paired(scores.loc[one].to_numpy(), scores.loc[other].to_numpy()) for one, other in chosen]
    possible = statistics.smallest_p(scores.shape[1], len(chosen)) < ALPHA
    nothing = [math.nan] * len(chosen)
    improvement = [
        statistics.probability_of_improvement(_of_tasks(runs[one]), _of_tasks(runs[other])) for one, other in chosen
    ]
    return DataFrame(
        {
            "method": [one for one, _ in chosen],
            "other": [other for _, other in chosen],
            **{name: [asdict(test)[name] for test in tests] for name in ("ahead", "behind", "tied", "rank_sum")},
            "p": [test.p for test in tests] if possible else nothing,
            "p_holm": statistics.holm([test.p for test in tests]) if possible else nothing,
            **_columns("improvement", improvement),
        }
    )


def _of_the_first(made: Comparison) -> DataFrame:
    """The pairs of the method that is first in them: the one that ranks best, or the reference."""
    return made.pairs[made.pairs["method"] == made.pairs["method"].iloc[0]]


def _columns(name: str, intervals: Sequence[Interval]) -> dict[str, list[float]]:
    return {
        name: [each.value for each in intervals],
        f"{name}_low": [each.low for each in intervals],
        f"{name}_high": [each.high for each in intervals],
    }


def _together(made: Comparison) -> str:
    """Friedman's test, or why it is silent."""
    methods, tasks = len(made.methods), len(made.tasks)
    if methods == 2:
        return "Two methods: the test of the pair says all, and ranks say no more."
    if made.friedman is None:
        return (
            f"Whether the ranks differ at all is not tested: {_tasks(tasks)}, "
            f"and Friedman's test needs {FRIEDMAN_TASKS} for its distribution to hold."
        )
    found = made.friedman
    f = "F infinite" if math.isinf(found.f) else f"F = {found.f:.2f}"  # infinite: every task ranks them alike
    tested = f"{f}, {_equation(found.p)} (Friedman, Iman and Davenport; {methods} methods, {tasks} tasks)"
    if found.p >= ALPHA:
        return f"The average ranks do not differ by more than chance would have them: {tested}."
    return (
        f"The average ranks differ: {tested}; "
        f"two that are {found.critical_difference:.2f} or more apart differ (Nemenyi, {ALPHA:g})."
    )


def _silence(made: Comparison) -> Iterator[str]:
    """What cannot be said, because there are too few tasks or seeds."""
    tasks, pairs = len(made.tasks), len(made.pairs)
    needed = statistics.tasks_needed(pairs)
    if tasks < needed:
        many = "" if pairs == 1 else f" for {pairs} pairs after Holm's correction"
        advice = "" if tasks < statistics.tasks_needed() else "; --methods or --reference compare fewer pairs"
        yield (
            f"No p-value: on {_tasks(tasks)} Wilcoxon's test cannot get below {ALPHA:g}{many}, "
            f"even if one method is ahead on all of them; {needed} are needed{advice}."
        )
    few = made.methods.loc[made.methods["seeds"] < INTERVAL_SEEDS, "seeds"]
    if len(few):
        who = "all methods have" if len(few) == len(made.methods) else f"{len(few)} of {len(made.methods)} methods have"
        yield (
            f"No interval where it would be too narrow to trust: {who} fewer than {INTERVAL_SEEDS} seeds "
            f"that every task has (the fewest: {few.min()})."
        )


def _sentence(made: Comparison, pair: pd.Series) -> str:
    """Who is ahead of whom on how many tasks, with the test if it could have said something."""
    one, other, ahead, behind = pair["method"], pair["other"], pair["ahead"], pair["behind"]
    total = len(made.tasks)
    if ahead == behind == 0:
        return f"{one} and {other} tie on {'the task' if total == 1 else f'all {total} tasks'}."
    forward = (pair["rank_sum"], ahead) >= (0, behind)
    if not forward:
        one, other, ahead, behind = other, one, behind, ahead
    tied = f" and level on {pair['tied']}" if pair["tied"] else ""
    said = f"{one} is ahead of {other} on {ahead} of {_tasks(total)}{tied}"
    if math.isnan(pair["p_holm"]):
        return f"{said}; too few tasks for a claim."
    corrected = ", Holm-corrected" if len(made.pairs) > 1 else ""
    tested = f"{said}, {_equation(pair['p_holm'])} (Wilcoxon{corrected})"
    return f"{tested}." if pair["p_holm"] < ALPHA else f"{tested}: no claim at {ALPHA:g}."


def _beware(made: Comparison) -> Iterator[str]:
    for name, lacking in made.left_out.items():
        few = ", ".join(lacking) if len(lacking) <= 3 else f"{len(lacking)} of {len(made.tasks)} tasks"
        yield f"{name} is left out: no score on {few}."
    if made.stale:
        these = "1 run is" if made.stale == 1 else f"{made.stale} runs are"
        yield f"{these} stale: code that can change the score has changed since."


def _what(made: Comparison) -> str:
    return f"{made.suite}: {made.metric} in percent, {len(made.methods)} methods on {_tasks(len(made.tasks))}"


def _tasks(number: int) -> str:
    return f"{number} {'task' if number == 1 else 'tasks'}"


def _number(value: float, digits: int) -> str:
    return MISSING if math.isnan(value) else f"{value:.{digits}f}"


def _range(low: float, high: float, digits: int) -> str:
    return MISSING if math.isnan(low) else f"{low:.{digits}f} to {high:.{digits}f}"


def _p(value: float) -> str:
    """Two significant digits, never zero: 0.21, 0.003, <0.001."""
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _equation(value: float) -> str:
    return f"p < {_p(value)[1:]}" if value < 0.001 else f"p = {_p(value)}"
