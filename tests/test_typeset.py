"""Formats: the same table for a terminal, for Markdown and for LaTeX, whatever letters stand in it."""

import dataclasses
import io
import shutil
import subprocess
from pathlib import Path

import pytest
from recorded import cost, row
from rich.console import Console
from tiny import Tiny

from petlbench import frame, table
from petlbench.typeset import Cell, Column, Table, latex, markdown, terminal

SMALL = Table(
    "small",
    "A 100% small_table.",
    [Column("method", key=True), Column("day_1", "natural"), Column("mean", "natural", "natural mean")],
    [
        [Cell("vpt(tokens=50, x='a_b')"), Cell("80.0", "1.0", place=1), Cell("80.0", stale=True, place=2)],
        [Cell("a|b & {c} ~^\\ <#$>"), Cell(), Cell("90.0", place=1)],
    ],
    ["† Code has changed."],
)


def test_markdown_escapes_and_marks() -> None:
    assert markdown(SMALL).splitlines() == [
        r"A 100% small\_table.",
        "",
        r"| method                   |         day\_1 |   natural mean |",
        r"|:-------------------------|---------------:|---------------:|",
        r"| vpt(tokens=50, x='a\_b') | **80.0 ± 1.0** |        _80.0†_ |",
        r"| a\|b & {c} \~^\\ \<#\$\> |              — |       **90.0** |",
        "",
        "- † Code has changed.",
    ]


def test_latex_groups_rotates_escapes_and_marks() -> None:
    lines = latex(dataclasses.replace(SMALL, rotate=True)).splitlines()
    assert lines[0] == r"% needs \usepackage{booktabs} and \usepackage{adjustbox}, which loads graphicx"
    assert lines[5:7] == [r"\caption{A 100\% small\_table.}", r"\label{tab:small}"]
    assert lines[8:18] == [
        r"\begin{tabular}{lcc}",
        r"\toprule",
        r" & \multicolumn{2}{c}{Natural} \\",
        r"\cmidrule(lr){2-3}",
        r"Method & \rotatebox{90}{day\_1} & \rotatebox{90}{mean} \\",
        r"\midrule",
        r"vpt(tokens=50, x='a\_b') & \textbf{80.0}{\scriptsize$\pm$1.0} & \underline{80.0}$^\dagger$ \\",
        r"a\textbar{}b \& \{c\} \textasciitilde{}\textasciicircum{}\textbackslash{} \textless{}\#\$\textgreater{}"
        r" & -- & \textbf{90.0} \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (Debian: texlive-latex-extra)")
def test_the_latex_compiles(tmp_path: Path) -> None:
    scores = row("lora", day=[80, 82], night=60, left=40, right=20)
    tables = [latex(SMALL), table.scores(scores, Tiny(), "latex", head=True), table.costs([cost("lora")], "latex")]
    body = "\n".join(tables)
    packages = r"\usepackage{booktabs}\usepackage{adjustbox}"
    source = rf"\documentclass{{article}}{packages}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "table.tex").write_text(source, encoding="utf-8")
    # No PDF, whose fonts a small installation would have to draw first.
    command = ["pdflatex", "-draftmode", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_terminal_gets_blocks_of_columns_that_fit_it() -> None:
    records = [each for label in ("lora", "vpt") for each in row(label, day=80, night=60, left=40, right=20)]
    made = table.scores_table(frame.scores(records, Tiny()))
    screen = terminal(made, Console(file=io.StringIO(), force_terminal=True, color_system=None, width=60))
    heads = [line.split() for line in screen.splitlines() if line.strip().startswith("method")]
    assert heads == [
        ["method", "params", "(M)", "day", "night", "natural", "mean", "left"],
        ["method", "right", "structured", "mean", "mean", "of", "tasks"],
        ["method", "mean", "of", "groups"],
    ]
    assert max(map(len, screen.splitlines())) <= 60
