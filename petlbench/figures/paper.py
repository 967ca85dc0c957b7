"""What all figures share: the width of a column, colours that stay apart, and files that equal numbers make equal."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from matplotlib.figure import Figure
from pandas import Series

from petlbench import frame
from petlbench.caption import labels
from petlbench.errors import InputError
from petlbench.frame import AVERAGE, GROUPS, TASKS, Scores
from petlbench.method import Family

WIDTHS = {1: 3.3, 2: 7.0}
"""Inches of one column, and of two, of a paper that is set in two."""
SIZES = {1: 7.0, 2: 8.0}
"""Points of the text."""
LONGEST = 24
"""Letters of a name that a figure has room for."""
SUFFIXES = (".pdf", ".png", ".svg")
INK = "0.2"

# Okabe and Ito's colours, which stay apart for most kinds of colour blindness, and a shape for each for print.
STYLES = dict(
    zip(
        get_args(Family),
        [
            ("#000000", "s"),
            ("#E69F00", "v"),
            ("#56B4E9", "o"),
            ("#009E73", "^"),
            ("#0072B2", "D"),
            ("#D55E00", "P"),
            ("#CC79A7", "X"),
        ],
        strict=True,
    )
)
OTHER = "other"
"""The family of a method whose file is not known."""
STYLES_AND_OTHER = {**STYLES, OTHER: ("#7F7F7F", "p")}
LINES: list[tuple[str, Any, str]] = [
    ("#000000", "-", "s"),
    ("#E69F00", "--", "v"),
    ("#0072B2", "-", "o"),
    ("#D55E00", "-.", "^"),
    ("#009E73", "--", "D"),
    ("#CC79A7", ":", "P"),
    ("#56B4E9", "-.", "X"),
]
"""Colour, line and shape of each method, where a method is a line; more cannot be told apart."""


class Sheet:
    """A figure of a paper's width. Its height is decided by what is drawn."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.width = WIDTHS[columns]
        self.size = SIZES[columns]
        self.figure = Figure(figsize=(self.width, self.width), layout="constrained")

    @staticmethod
    def settings(columns: int) -> Any:
        """Of matplotlib, for drawing and for saving: text stays text, and equal numbers give equal files."""
        size = SIZES[columns]
        return {
            "svg.fonttype": "none",
            "svg.hashsalt": "petlbench",
            "pdf.fonttype": 42,
            "font.size": size,
            "axes.labelsize": size,
            "axes.titlesize": size,
            "xtick.labelsize": size - 1,
            "ytick.labelsize": size - 1,
            "legend.fontsize": size - 1,
            "axes.linewidth": 0.6,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
        }

    def set_height(self, inches: float) -> None:
        self.figure.set_size_inches(self.width, inches)

    def legend_of_families(self, families: Iterable[str]) -> None:
        """Below everything, so that it can cover nothing."""
        from matplotlib.lines import Line2D

        seen = set(families)
        handles = [
            Line2D([], [], color=colour, marker=marker, linestyle="", markersize=4, label=name)
            for name, (colour, marker) in STYLES_AND_OTHER.items()
            if name in seen
        ]
        self.legend(handles)

    def legend(self, handles: list[Any]) -> None:
        beside = {1: 3, 2: 7}[self.columns]
        self.figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=min(beside, len(handles)),
            frameon=False,
            handletextpad=0.4,
            columnspacing=1.2,
        )

    def text_width(self, texts: Iterable[str], size: float) -> float:
        """Inches that the longest of the texts takes."""
        made = [self.figure.text(0, 0, text, fontsize=size) for text in texts]
        widths = [each.get_window_extent().width for each in made]
        for each in made:
            each.remove()
        return float(max(widths, default=0) / self.figure.dpi) * 1.08  # fonts are a little wider in print

    def save(self, file: Path) -> None:
        """Without a date, which would make equal numbers different files. Raises InputError."""
        undated: dict[str, Any] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(file.suffix, {})
        try:
            self.figure.savefig(file, dpi=300, metadata=undated)
        except OSError as error:
            raise InputError(f"--out {file}: cannot be written: {error.strerror or error}") from error


def check(file: Path) -> None:
    """Raise InputError for a file of no known ending."""
    if file.suffix not in SUFFIXES:
        raise InputError(f"--out {file}: valid endings: {', '.join(SUFFIXES)}")


def names(found: Scores) -> Series:
    """What a figure calls the rows: their method with its fields, or without where that is longer than `LONGEST`."""
    full = labels(found.mean.index)
    return full.where(full.str.len() <= LONGEST, frame.names(found))


def shortened(found: Scores) -> list[str]:
    """What `names` leave out, a line for each row."""
    both = zip(names(found), labels(found.mean.index), strict=True)
    return [f"{short} stands for {full}" for short, full in both if short != full]


def mean_column(found: Scores) -> tuple[str, str]:
    """The mean of the group means, else the mean of the tasks, else the only task."""
    return next((c for c in ((AVERAGE, GROUPS), (AVERAGE, TASKS)) if c in found.columns), found.columns[0])


def mean_title(found: Scores) -> str:
    column = mean_column(found)
    over = {(AVERAGE, GROUPS): "mean of group means", (AVERAGE, TASKS): "mean of tasks"}.get(column, column[1])
    return f"{metric(found)} (%), {over}"


def metric(found: Scores) -> str:
    return ", ".join(sorted(set(found.runs["metric"]) - {""}))


def no_rows() -> InputError:
    return InputError("no method has a score for every task yet, so there is nothing to draw; --tasks chooses fewer")
