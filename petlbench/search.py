"""The search of the protocol `tuned`: which settings a method tries, and which of them is taken.

Every method gets the same number of trials. They see train800 and val200, never the test split.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from petlbench.errors import InputError
from petlbench.glance import Glance
from petlbench.method import Method
from petlbench.recipe import Recipe
from petlbench.record import Record
from petlbench.run import Budget

SEED = 0
"""Of the sample of the grid and of the training of every trial, for all methods."""
TRIALS = 12
"""Default budget: settings per method and task."""

Tried = TypeVar("Tried", Record, Glance)
"""What is known of a trial that has run, whole or in part."""

Setting = dict[str, Any]
"""Values by the name of a field, of the method or of the recipe."""


def space(method: Method, pinned: Sequence[str]) -> dict[str, list[Any]]:
    """The method's grid without what a person has set. Raises InputError for a name that is no field."""
    known = {field.name for kind in (method, Recipe) for field in dataclasses.fields(kind)}
    for name in method.grid:
        if name not in known:
            raise InputError(f"the grid of {type(method).__name__} has '{name}', which is no field of it or of Recipe")
    return {name: list(values) for name, values in method.grid.items() if name not in pinned}


def settings(space: Mapping[str, Sequence[Any]], default: Setting, trials: int) -> list[Setting]:
    """What to try: the default first, then the whole grid or, where that is more than `trials`, a sample of it.

    The sample has no repetition, and a larger one begins with the smaller one, so a larger budget keeps its trials.
    """
    grid = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    first = {name: default[name] for name in space}
    others = [setting for setting in grid if setting != first]
    random.Random(SEED).shuffle(others)
    return [first, *others[: trials - 1]]


def best(records: Sequence[Tried], metric: str) -> Tried | None:
    """The trial with the highest score on val200 after its last epoch; None if all have diverged.

    Of equal ones the cheaper is taken: fewer trained weights, then fewer FLOPs, then the smaller learning rate, then
    the one that was tried first. Raises InputError if they were not all tried on the same images.
    """
    done = [record for record in records if record.status == "done"]
    for record in done:
        if record.digests != done[0].digests:
            raise InputError(
                f"{record.run.path} and {done[0].run.path}: the images of these trials differ, so neither can be "
                "chosen; --rerun all tries them again"
            )
    return max(done, key=lambda record: (record.scores[metric], *_cheapness(record)), default=None)


def spent(records: Sequence[Tried]) -> Budget:
    """What the trials of one search took."""
    return Budget(trials=len(records), seconds=round(sum(record.seconds["total"] for record in records), 3))


def _cheapness(record: Record | Glance) -> tuple[float, float, float]:
    counts = record.counts
    assert counts is not None, "whatever is done has been counted"
    return -counts.trainable_parameters, -counts.flops, -record.run.recipe.lr
