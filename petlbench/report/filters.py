"""What the rows of a table can be filtered by, and the controls that do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import get_args

from petlbench.method import Family
from petlbench.published import Rows
from petlbench.typeset import Table

FILTERED = ["backbone", "weights", "protocol", "overrides"]
"""Axes that rows can be filtered by, where they differ."""


def controls(values: Mapping[str, Sequence[str]], made: Table, *, switch: bool = False) -> str:
    """Choices among rows, where there is something to choose, and which groups of columns to show.

    `values` are those of the rows; `switch` shows and hides the published rows.
    """
    lines = []
    for axis, found in values.items():
        choices = (
            [each for each in (*get_args(Family), "") if each in found] if axis == "family" else [*dict.fromkeys(found)]
        )
        if len(choices) > 1:
            options = "".join(f'<option value="{escape(each)}">{escape(each or "none")}</option>' for each in choices)
            lines.append(
                f'<label>{axis} <select data-axis="{axis}"><option value="*">all</option>{options}</select></label>'
            )
    groups = dict.fromkeys(column.group for column in made.columns)
    boxes = [
        f'<label><input type="checkbox" checked value="{number}"> {escape(group)}</label>'
        for number, group in enumerate(groups)
        if group
    ]
    if len(boxes) > 1:
        lines.append(f"<fieldset><legend>columns</legend>{''.join(boxes)}</fieldset>")
    if switch:
        lines.append('<label><input type="checkbox" name="published" checked> published rows</label>')
    return "\n".join(lines)


def printed(rows: Rows, row: int, family: str) -> dict[str, str]:
    """What the filters know of a published row."""
    return {"data-family": family, "data-source": str(rows.axes["source"].iloc[row])}
