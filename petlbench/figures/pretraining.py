"""The course of a pre-training: its loss, and what it got right, over the pictures it had seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from petlbench.errors import InputError
from petlbench.figures.paper import LINES, Sheet, check

COUNTED = ("images", "hardness", "loss")
"""What a line of the log holds besides the scores of its objective."""


def read(file: Path) -> list[dict[str, float]]:
    """The lines of a `log.jsonl`. Raises InputError."""
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as the log of a pre-training: {error}") from error


def draw(log: Sequence[dict[str, float]], percent: bool, file: Path) -> None:
    """Write the curves as .pdf, .png or .svg; `percent` says that scores are accuracies, else they are losses.

    Grey is the part in which the pictures grow harder, see `PretrainingImages.batch`. Raises InputError.
    """
    check(file)
    images = [line["images"] for line in log]
    names = [name for name in log[0] if name not in COUNTED]
    with rc_context(Sheet.settings(2)):
        sheet = Sheet(2)
        sheet.set_height(2.4)
        left, right = sheet.figure.subplots(1, 2, sharex=True)
        left.plot(images, [line["loss"] for line in log], color=LINES[0][0], linewidth=1.0)
        left.set_ylabel("training loss")
        for name, (colour, style, _) in zip(names, LINES[1:], strict=False):
            right.plot(images, [line[name] for line in log], style, color=colour, linewidth=1.0)
        right.set_ylabel("right (%)" if percent else "part of the loss")
        growing = [line["images"] for line in log if 0 < line["hardness"] < 1]
        for axes in (left, right):
            if growing:
                axes.axvspan(growing[0], growing[-1], color="0.92", linewidth=0)
            axes.set_xlabel("pictures seen")
            axes.xaxis.set_major_formatter(FuncFormatter(_short))
            axes.grid(alpha=0.25, linewidth=0.4)
            axes.spines[["top", "right"]].set_visible(False)
        sheet.legend(
            [
                Line2D([], [], color=colour, linestyle=style, linewidth=1.0, label=name)
                for name, (colour, style, _) in zip(names, LINES[1:], strict=False)
            ]
        )
        sheet.save(file)


def _short(images: float, _: object) -> str:
    """A number of pictures as an axis shows it: 500 k, 1.5 M."""
    if images >= 1e6:
        return f"{images / 1e6:g} M"
    return f"{images / 1e3:g} k" if images >= 1e3 else f"{images:g}"
