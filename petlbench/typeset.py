"""A table of texts, set for a terminal, for Markdown or for the LaTeX of a paper."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

MISSING = "—"
MINUS = "\u2212"


@dataclass(frozen=True)
class Cell:
    """One entry of a table."""

    text: str = MISSING
    spread: str = ""
    """What stands behind ±."""
    stale: bool = False
    """Marked with a dagger."""
    place: int = 0
    """1 for the best of its column, 2 for the second, 0 for all others."""
    doubtful: bool = False
    """Marked with a double dagger."""
    cite: str = ""
    """Key in a bibliography, which LaTeX cites in place of the text."""
    value: float = math.nan
    """The number before it was rounded, to sort by."""

    def __str__(self) -> str:
        return self.text + (f" ± {self.spread}" if self.spread else "") + self.marks

    @property
    def marks(self) -> str:
        """What points at the notes."""
        return ("†" if self.stale else "") + ("‡" if self.doubtful else "")


@dataclass(frozen=True)
class Column:
    """The head of a column."""

    name: str
    """What stands below the name of the group."""
    group: str = ""
    """Empty for a column of no group."""
    alone: str = ""
    """The name where groups are not shown, if it is another one."""
    key: bool = False
    """Whether it says which row this is, rather than a number of it."""
    title: str = field(default="", kw_only=True)
    """Its name outside of the table, as options call it."""
    task: str = field(default="", kw_only=True)
    """The task whose score it holds."""
    less: bool = field(default=False, kw_only=True)
    """Whether less of it is better."""
    extra: bool = field(default=False, kw_only=True)
    """Whether it is shown only where it is asked for by its title."""

    def __str__(self) -> str:
        return self.alone or self.name


@dataclass(frozen=True)
class Table:
    """What every format shows in its own way."""

    name: str
    """For references to it, as tab:NAME: letters, digits and hyphens."""
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    """Sentences that belong below the table."""
    rotate: bool = field(default=False, kw_only=True)
    """Whether the names of columns in groups are set upright in LaTeX, as for many narrow columns."""
    apart: int = field(default=0, kw_only=True)
    """How many of the last rows stand below a rule of their own, as published ones do below measured ones."""


def terminal(table: Table, console: Console | None = None) -> str:
    """For the eye: the best of a column is bold, the second underlined, and what is too wide goes below.

    Where the output is no terminal, nothing is styled and every row is one line.
    """
    console = console or Console()
    if not console.is_terminal:
        rows = [[str(cell) for cell in row] for row in table.rows]
        body = tabulate(rows, list(map(str, table.columns)), "simple", colalign=_sides(table), disable_numparse=True)
        return "\n".join([table.caption, "", body, *(["", *table.notes] if table.notes else [])])
    with console.capture() as captured:
        console.print(Text(table.caption))
        for block in _blocks(table, console.width):
            console.print(_rich(table, block))
        for note in table.notes:
            console.print(Text(note, style="dim"))
    return captured.get().rstrip("\n")


def markdown(table: Table) -> str:
    """For GitHub and its like: the best of a column is bold, the second in italics."""
    marks = {0: "", 1: "**", 2: "_"}
    rows = [[f"{marks[c.place]}{_for_markdown(str(c))}{marks[c.place]}" for c in row] for row in table.rows]
    head = [_for_markdown(str(column)) for column in table.columns]
    body = tabulate(rows, head, "pipe", colalign=_sides(table), disable_numparse=True)
    notes = "\n".join(f"- {_for_markdown(note)}" for note in table.notes)
    return "\n\n".join(part for part in (_for_markdown(table.caption), body, notes) if part)


def latex(table: Table) -> str:
    """For a paper: a float over both columns with rules of booktabs, never wider than the page.

    The best of a column is bold, the second underlined.
    """
    kinds = "".join("l" if column.key else "c" if column.group else "r" for column in table.columns)
    notes = ["\\par\\smallskip", f"{{\\footnotesize {_for_latex(' '.join(table.notes))}\\par}}"] if table.notes else []
    lines = [
        "% needs \\usepackage{booktabs} and \\usepackage{adjustbox}, which loads graphicx",
        "\\begin{table*}[t]",
        "\\centering",
        "\\small",
        "\\setlength{\\tabcolsep}{3pt}",
        f"\\caption{{{_for_latex(table.caption)}}}",
        f"\\label{{tab:{table.name}}}",
        "\\begin{adjustbox}{max width=\\textwidth}",
        f"\\begin{{tabular}}{{{kinds}}}",
        "\\toprule",
        *_latex_head(table),
        "\\midrule",
        *_latex_rows(table),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{adjustbox}",
        *notes,
        "\\end{table*}",
    ]
    return "\n".join(lines)


def _latex_rows(table: Table) -> Iterator[str]:
    for number, row in enumerate(table.rows):
        if number and number == len(table.rows) - table.apart:
            yield "\\midrule"
        yield " & ".join(_latex_cell(cell) for cell in row) + r" \\"


def _sides(table: Table) -> list[str]:
    return ["left" if column.key else "right" for column in table.columns]


def _blocks(table: Table, width: int) -> Iterator[list[int]]:
    """Columns, by number, that fit side by side; those that name the row are in every block."""
    space = [max(len(str(table.columns[i])), *(len(str(row[i])) for row in table.rows)) + 3 for i in _all(table)]
    keys = [i for i in _all(table) if table.columns[i].key]
    block = list(keys)
    for i in _all(table):
        if i in keys:
            continue
        if len(block) > len(keys) and sum(space[j] for j in [*block, i]) > width:
            yield block
            block = list(keys)
        block.append(i)
    yield block


def _all(table: Table) -> range:
    return range(len(table.columns))


def _rich(table: Table, block: Sequence[int]) -> RichTable:
    styles = {0: "", 1: "bold", 2: "underline"}
    made = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for i in block:
        column = table.columns[i]
        made.add_column(Text(str(column)), justify="left" if column.key else "right", no_wrap=True)
    for number, row in enumerate(table.rows):
        if number and number == len(table.rows) - table.apart:
            made.add_section()
        # Appended, so that the style ends where the text does and underlines no padding.
        made.add_row(*(Text().append(str(row[i]), styles[row[i].place]) for i in block))
    return made


def _for_markdown(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\`*_<>|~$" else letter for letter in text)


LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    MISSING: "--",
    MINUS: "$-$",
}


def _for_latex(text: str) -> str:
    """The two hyphens of an option stay two; LaTeX would make a dash of them."""
    return "-{}-".join("".join(LATEX.get(letter, letter) for letter in part) for part in text.split("--"))


def _latex_cell(cell: Cell) -> str:
    marks = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}
    if cell.cite:
        return f"\\cite{{{cell.cite}}}"
    text = marks[cell.place].format(_for_latex(cell.text))
    spread = f"{{\\scriptsize$\\pm${_for_latex(cell.spread)}}}" if cell.spread else ""
    return text + spread + _for_latex(cell.marks)


def _latex_head(table: Table) -> Iterator[str]:
    """The names of the groups above those of their columns."""
    spans = [(name, len(list(columns))) for name, columns in groupby(table.columns, key=lambda column: column.group)]
    if any(name for name, _ in spans):
        yield " & ".join(_span(_for_latex(_title(name)), width) for name, width in spans) + r" \\"
        end = 0
        for name, width in spans:
            start, end = end + 1, end + width
            if name:
                yield f"\\cmidrule(lr){{{start}-{end}}}"
    names = [_for_latex(column.name if column.group else _title(column.name)) for column in table.columns]
    upright = [table.rotate and bool(column.group) and column.group != column.task for column in table.columns]
    both = zip(names, upright, strict=True)
    yield " & ".join(f"\\rotatebox{{90}}{{{name}}}" if up else name for name, up in both) + r" \\"


def _span(text: str, width: int) -> str:
    return f"\\multicolumn{{{width}}}{{c}}{{{text}}}" if text else " & " * (width - 1)


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]
