"""A table as an author wants it: which columns in what order, which row first, and whose caption."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from petlbench.errors import InputError, unknown
from petlbench.typeset import Cell, Column, Table

ORDERS = ("best", "worst")


@dataclass(frozen=True)
class Wishes:
    """What an author asks of a table; empty for its default."""

    columns: tuple[str, ...] = ()
    """Titles of columns or names of groups in the order wanted; what tells rows apart is always shown, and first."""
    shown: tuple[str, ...] = ()
    """Titles of columns that are `extra` and shown besides those of the default."""
    sort: str = ""
    """Title of a column, the best first, or TITLE:worst for the opposite; a column of names rises."""
    caption: str = ""
    """Takes the place of the default, which then stands with the notes."""
    label: str = ""
    """Takes the place of the table's name."""


def arranged(table: Table, wishes: Wishes) -> Table:
    """The table as wished. Raises InputError that names the option and the valid choices."""
    table = _sorted(table, wishes.sort) if wishes.sort else table
    chosen = _chosen(table.columns, wishes)
    return replace(
        table,
        name=wishes.label or table.name,
        caption=wishes.caption or table.caption,
        notes=[*([table.caption] if wishes.caption else []), *table.notes],
        columns=[table.columns[i] for i in chosen],
        rows=[[row[i] for i in chosen] for row in table.rows],
    )


def _chosen(columns: Sequence[Column], wishes: Wishes) -> list[int]:
    """The columns by their numbers."""
    keys = [i for i, column in enumerate(columns) if column.key]
    if not wishes.columns:
        return [i for i, column in enumerate(columns) if not column.extra or column.title in wishes.shown]
    named: dict[str, list[int]] = {}
    for i, column in enumerate(columns):
        if column.key:
            continue
        named.setdefault(column.title, []).append(i)
        for several in {"tasks" if column.task else "", column.group} - {""}:
            if not column.extra:
                named.setdefault(several, []).append(i)
    for name in wishes.columns:
        if name not in named:
            raise unknown("--columns", name, named)
    return list(dict.fromkeys([*keys, *(i for name in wishes.columns for i in named[name])]))


def _sorted(table: Table, wish: str) -> Table:
    """The rows by a column, those that stand apart by themselves; what is missing comes last."""
    title, colon, order = wish.partition(":")
    if colon and order not in ORDERS:
        raise InputError(f"--sort {wish}: expected {title}, {title}:best or {title}:worst")
    named = {column.title or column.name: i for i, column in enumerate(table.columns)}
    if title not in named:
        raise unknown("--sort", title, named)
    place = named[title]
    column = table.columns[place]
    sign = (1 if column.less else -1) * (-1 if order == "worst" else 1)

    def key(row: Sequence[Cell]) -> tuple[bool, float]:
        value = row[place].value
        return math.isnan(value), 0 if math.isnan(value) else sign * value

    def ordered(rows: Sequence[Sequence[Cell]]) -> list[Sequence[Cell]]:
        if column.key:
            return sorted(rows, key=lambda row: _natural(row[place].text), reverse=order == "worst")
        return sorted(rows, key=key)

    cut = len(table.rows) - table.apart
    return replace(table, rows=[*ordered(table.rows[:cut]), *ordered(table.rows[cut:])])


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts vpt(tokens=5) in front of vpt(tokens=10)."""
    return [(int(part), "") if part.isdecimal() else (0, part.lower()) for part in re.split(r"(\d+)", text)]
