"""A table of texts in HTML: for notebooks as it is, for the report with heads that sort and cells that open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import groupby

from petlbench.typeset import Cell, Column, Table

Content = Callable[[int, int, Cell], str]
"""What stands in a cell, as HTML, by its row and column."""
Attributes = Callable[[int], dict[str, str]]
"""The attributes of a row."""


def shown(row: int, column: int, cell: Cell) -> str:
    """A cell as text: the best of its column is strong, the second underlined."""
    mark = {0: "", 1: "strong", 2: "u"}[cell.place]
    text = f"<{mark}>{escape(cell.text)}</{mark}>" if mark else escape(cell.text)
    spread = f" <small>± {escape(cell.spread)}</small>" if cell.spread else ""
    stale = '<abbr title="the code has changed since">†</abbr>' if cell.stale else ""
    doubtful = '<abbr title="doubtful, see the notes">‡</abbr>' if cell.doubtful else ""
    return text + spread + stale + doubtful


def html(
    table: Table,
    content: Content = shown,
    *,
    attributes: Attributes = lambda row: {},
    sortable: bool = False,
) -> str:
    """The table as an element. All texts are escaped; `content` has to escape what it adds.

    `sortable` makes every name of a column a button. Cells and heads of a group carry its number as data-group. Rows
    that stand apart are a body of their own.
    """
    groups = {name: str(number) for number, name in enumerate(dict.fromkeys(column.group for column in table.columns))}
    lines = [
        '<table class="dataframe">',
        f"<caption>{escape(table.caption)}</caption>",
        "<thead>",
        *_head(table.columns, groups, sortable),
        "</thead>",
        "<tbody>",
    ]
    for row, cells in enumerate(table.rows):
        if row and row == len(table.rows) - table.apart:
            lines += ["</tbody>", '<tbody class="apart">']
        lines.append(f"<tr{_written(attributes(row))}>")
        for place, (column, cell) in enumerate(zip(table.columns, cells, strict=True)):
            tag, more = ("th", {"scope": "row"}) if place == 0 else ("td", _of(column, groups))
            lines.append(f"<{tag}{_written(more)}>{content(row, place, cell)}</{tag}>")
        lines.append("</tr>")
    lines += ["</tbody>", "</table>"]
    return "\n".join(lines)


STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: max-content; padding: 0 1rem; }
section { overflow-x: auto; margin-bottom: 2.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; border-block: 2px solid; }
caption { text-align: left; padding-bottom: 0.6rem; }
th, td { padding: 0.2rem 0.6rem; text-align: right; font-weight: 400; white-space: nowrap; }
.key, tbody th { text-align: left; }
thead th { font-weight: 600; }
thead th[scope="colgroup"] { text-align: center; border-bottom: 1px solid; }
tbody { border-top: 1px solid; }
ul { padding-left: 1.1rem; max-width: 60rem; }
ul, small { font-size: 0.87rem; }
"""


def page(tables: Sequence[Table]) -> str:
    """Tables with their captions and notes as one HTML file that loads nothing and runs nothing."""
    title = escape(", ".join(table.name for table in tables))
    body = "\n".join(f"<section>\n{html(table)}\n{notes(table)}\n</section>" for table in tables)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>"
    )


def notes(table: Table) -> str:
    """The sentences below the table, as a list; empty if there are none."""
    return f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in table.notes)}</ul>" if table.notes else ""


def _head(columns: Sequence[Column], groups: dict[str, str], sortable: bool) -> Iterator[str]:
    """Two rows: the names of the groups, each above those of its columns."""

    def named(column: Column, rows: str = "") -> str:
        name = escape(column.name)
        more = {"scope": "col", **({"rowspan": rows} if rows else {}), **_of(column, groups)}
        if sortable:
            name = f'<button type="button">{name}</button>'
        return f"<th{_written(more)}>{name}</th>"

    two = any(column.group for column in columns)
    yield "<tr>"
    for group, members in groupby(columns, key=lambda column: column.group):
        if group:
            span = {"scope": "colgroup", "colspan": str(len(list(members))), "data-group": groups[group]}
            yield f"<th{_written(span)}>{escape(group)}</th>"
        else:
            yield from (named(column, "2" if two else "") for column in members)
    yield "</tr>"
    if two:
        yield from ("<tr>", *(named(column) for column in columns if column.group), "</tr>")


def _of(column: Column, groups: dict[str, str]) -> dict[str, str]:
    """What a cell says of its column."""
    return ({"class": "key"} if column.key else {}) | ({"data-group": groups[column.group]} if column.group else {})


def _written(attributes: dict[str, str]) -> str:
    return "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
