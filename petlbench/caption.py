"""What stands around a table of scores: what all its numbers share, what to know before trusting them, and the names of
its rows where they stand alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pandas import DataFrame, Index, Series

from petlbench.frame import Scores, is_mean
from petlbench.selection import AXES, FAILED, SCORED
from petlbench.typeset import MISSING

if TYPE_CHECKING:
    from petlbench.ranking import Comparison

WHY_FAILED = {"oom": "out of memory", "diverged": "diverged"}


def suite_of(found: Scores) -> str:
    """The name of the suite."""
    return str(found.runs["suite"].iloc[0])


def caption(found: Scores) -> str:
    """What all numbers of the table have in common."""
    axes = found.mean.index.to_frame(index=False)
    runs = found.runs[found.runs["state"].isin(SCORED)]
    seeds = sorted(runs["seed"].unique())
    over = "mean ± sample standard deviation over seeds" if len(seeds) > 1 else "seed"
    common = axes.iloc[0][[name for name in AXES if axes[name].nunique() == 1]]
    facts = {
        "protocol": "protocol {}",
        "trials": "up to {} trials per method and task, chosen on val200",
        "overrides": "recipe with {}",
        "backbone": "backbone {}",
        "weights": f"{{}} weights{_hashes(runs)}",
        "image_size": "{} pixels",
        "normalization": "pixels normalised as {}",
        "resize": "resize {}",
        "interpolation": "{} interpolation",
    }
    if dense := _dense(runs, found.facts):
        facts = {name: text for name, text in facts.items() if name not in ("image_size", "resize", "interpolation")}
    tasks = sum(not is_mean(column) for column in found.columns)
    said = [text.format(common[name]) for name, text in facts.items() if common.get(name, "") not in ("", "backbone")]
    said += dense
    if found.left_out:
        said.insert(0, f"{tasks} of {tasks + found.left_out} tasks")
    if runs.empty:
        return "; ".join([f"{suite_of(found)}: no scores", *said]) + "."
    metrics = dict.fromkeys([*sorted(set(runs["metric"])), *(name for each in found.metrics.values() for name in each)])
    head = f"{suite_of(found)}: {', '.join(metrics)} in percent, {over} {', '.join(map(str, seeds))}"
    machines = ", ".join(sorted(set(runs["machine"])))
    mixed = [f"different data mixed in {', '.join(names)}"] if (names := _mixed(runs)) else []
    tail = [*mixed, f"data {_data(runs)}", f"measured on {machines}", f"{len(runs)} {_plural(len(runs), 'run')}"]
    return "; ".join([head, *said, *tail]) + "."


def labels(rows: Index) -> Series:
    """What rows of a table are called where no columns say the rest: their method with its fields, as in
    "vpt(tokens=5)", and whatever else tells them apart. `petlbench.frame.names` leave out fields that do not.
    """
    axes = rows.to_frame(index=False)
    said = axes[[name for name in axes if name == "method" or axes[name].nunique() > 1]]
    return Series([", ".join(str(value) for value in row if value != "") for row in said.to_numpy()], index=rows)


def named(made: Comparison, names: Mapping[str, str]) -> Comparison:
    """A comparison whose rows are called otherwise: `names` by those of `petlbench.frame.names`."""

    def renamed(part: DataFrame) -> DataFrame:
        return part.assign(**{column: part[column].map(names) for column in ("method", "other") if column in part})

    left_out = {names[name]: lacking for name, lacking in made.left_out.items()}
    return replace(made, methods=renamed(made.methods), pairs=renamed(made.pairs), left_out=left_out)


def _dense(runs: DataFrame, facts: Mapping[str, str]) -> list[str]:
    """How images are seen and how long is trained on them, task by task, or once where tasks agree; empty for suites
    that are not dense. Runs know their length; the `facts` of tasks are those of the suite as it is now."""
    lengths = {
        str(task): " or ".join(dict.fromkeys(found)) for task, found in runs.groupby("task", sort=False)["length"]
    }
    said = {task: ", ".join(filter(None, (facts.get(task), length))) for task, length in lengths.items()}
    kinds = {*said.values()} - {""}
    return [*kinds] if len(kinds) == 1 else [f"{task}: {text}" for task, text in said.items() if text]


def _hashes(runs: DataFrame) -> str:
    """The fingerprint of the pre-trained weights, if all rows share it; random ones have none."""
    found = set(runs["sha256"]) - {""}
    return f" {found.pop()[:8]}" if len(found) == 1 else ""


def _mixed(runs: DataFrame) -> list[str]:
    """The tasks whose runs are on different data, in words: scores of one such column do not compare."""
    kinds = runs.groupby("task")["data"].nunique()
    return [f"{task} ({number} versions)" for task, number in kinds[kinds > 1].items()]


def _data(runs: DataFrame) -> str:
    """A short fingerprint for the data of all tasks: that of a single task, else the SHA-256 of "task data" lines."""
    pairs = sorted(set(zip(runs["task"], runs["data"], strict=True)))
    lines = "".join(f"{task} {data}\n" for task, data in pairs)
    return pairs[0][1][:8] if len(pairs) == 1 else hashlib.sha256(lines.encode()).hexdigest()[:8]


def notes(found: Scores) -> Iterator[str]:
    """What a reader must know before trusting the numbers."""
    cells = [column for column in found.columns if not is_mean(column)]
    count, states = found.count[cells], found.runs["state"].value_counts()
    scored = found.runs[found.runs["state"].isin(SCORED)]
    missing, shown = int((count == 0).sum().sum()), count.size
    seeds = scored["seed"].nunique()
    if missing:
        them = "is missing ({}), and with it" if missing == 1 else "are missing ({}), and with them"
        yield f"{missing} of {shown} scores {them.format(MISSING)} every mean that would need one."
    if failed := sum(states.get(state, 0) for state in FAILED):
        why = [f"{states[state]} {words}" for state, words in WHY_FAILED.items() if state in states]
        details = f" ({', '.join(why)})" if why else ""
        yield f"{failed} {_plural(failed, 'run')} failed{details}."
    if fewer := int(((count > 0) & (count < seeds)).sum().sum()):
        yield f"{fewer} of {shown - missing} scores {'is' if fewer == 1 else 'are'} over fewer than all {seeds} seeds."
    if stale := states.get("stale", 0):
        yield f"† Code that can change the score has changed since ({stale} {_plural(stale, 'run')})."
    if superseded := states.get("superseded", 0):
        yield f"{superseded} {_plural(superseded, 'run')} left out: a better or later one is in the same cell."
    if unknown := states.get("unknown", 0):
        names = sorted(found.runs.loc[found.runs["state"] == "unknown", "task"].unique())
        yield f"{unknown} {_plural(unknown, 'run')} left out: {', '.join(names)} is no task of the suite."
    for backbone, hashes in scored[scored["sha256"] != ""].groupby("backbone")["sha256"]:
        if hashes.nunique() > 1:
            versions = ", ".join(sorted({each[:8] for each in hashes}))
            yield f"The weights of {backbone} are of {hashes.nunique()} versions: {versions}."
    if (scored.groupby(AXES)["method_parameters"].nunique() > 1).any():
        yield "Parameters differ between tasks; shown is their mean."


def _plural(number: int, word: str) -> str:
    return word if number == 1 else f"{word}s"
