"""Records in a notebook: DataFrames to go on with, which show themselves as the tables of a paper."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

from pandas import DataFrame

from petlbench import frame, markup, spec, table
from petlbench.commands import table as command
from petlbench.frame import Scores
from petlbench.record import Record
from petlbench.selection import AXES
from petlbench.store import Store


def results(folder: str | Path = "results") -> Results:
    """The records below a folder: `petlbench.results("results").table("mini", methods="hst,vpt")`."""
    return Results(Path(folder))


class Results:
    """A results folder. It is read whenever something is asked for, so runs that are done meanwhile are in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def records(self) -> list[Record]:
        """Every record, trials of searches and failed runs included."""
        return list(Store(self.folder).records())

    def table(
        self,
        suite: str = "",
        *,
        tasks: str | Sequence[str] = (),
        methods: str = "",
        metric: str = "",
        mix_data: bool = False,
        digits: int = 1,
    ) -> ScoreTable:
        """The scores of a suite: a row per method, a column per task, in percent, means over seeds.

        The choices are those of `petlbench table`, in the same words, and so are the errors (InputError). `digits` are
        the decimals that are shown; the numbers of the DataFrame are not rounded.
        """
        wanted = tasks if isinstance(tasks, str) else ",".join(tasks)
        records, made, choice = command.selected(
            Namespace(results=self.folder, suite=suite, tasks=wanted, methods=methods, metric=metric, mix_data=mix_data)
        )
        return ScoreTable.of(frame.scores(records, made, **choice), digits)

    def costs(self, methods: str = "") -> DataFrame:
        """The costs, as `petlbench.frame.costs` gives them: one row each, in bytes, FLOPs and seconds."""
        store, chosen = Store(self.folder), spec.parse(methods) if methods else []
        files = command.paths(each.name for each in chosen)
        return frame.costs(
            store.costs(),
            store.records(),
            methods=chosen,
            is_stale=lambda cost: command.is_stale_cost(cost, files),
        )

    def __repr__(self) -> str:
        return f"petlbench.results({str(self.folder)!r})"


class ScoreTable(DataFrame):
    """Means over seeds, in percent; whatever is made of it is a plain DataFrame.

    The index is the method and what else tells rows apart; columns are (group, task), as in `petlbench.frame.Scores`.
    """

    scores: Scores
    """The deviations, the numbers of seeds, what is stale, and the runs behind it all."""
    digits: int
    _metadata = ["scores", "digits"]

    @classmethod
    def of(cls, scores: Scores, digits: int) -> ScoreTable:
        """The table of these scores."""
        axes = scores.mean.index.to_frame(index=False)
        same: list[Hashable] = [name for name in AXES if name != "method" and axes[name].nunique() <= 1]
        made = cls(scores.mean.droplevel(same) if same else scores.mean)
        made.scores, made.digits = scores, digits
        return made

    @property
    def _constructor(self) -> Callable[..., Any]:
        """A part of it, or a sum, is no longer what `scores` says."""
        return DataFrame

    def _repr_html_(self) -> str:
        made = table.scores_table(self.scores, self.digits)
        return f"{markup.html(made)}\n{markup.notes(made)}"
