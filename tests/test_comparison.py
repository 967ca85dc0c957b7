"""Published rows in tables: they equal the files, stand apart from measured ones, and are cited and marked."""

import csv
import io
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from recorded import BACKBONE, record
from test_table_command import fill, run

from petlbench import comparison, published, zoo
from petlbench.record import Record
from petlbench.typeset import latex

FOLDER = Path(__file__).parent.parent / "results" / "published"
VTAB = zoo.suite("vtab")()
PREAMBLE = r"\documentclass[twocolumn]{article}\usepackage{booktabs}\usepackage{adjustbox}\begin{document}"


def measured(label: str, score: float = 70.0, backbone: str = "vit_base_patch16_224.orig_in21k") -> list[Record]:
    """Records of one method on all of VTAB-1K, as if they had been measured."""
    on = {**{name: getattr(BACKBONE, name) for name in BACKBONE.__dataclass_fields__}, "name": backbone}
    kind = type(BACKBONE)
    return [record(label, task.name, score, suite="vtab", backbone=kind(**on)) for task in VTAB.tasks]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    fill(tmp_path / "results", [*measured("hst", 75), *measured("vpt(tokens=50)", 70)])
    return tmp_path / "results"


def test_the_cells_of_the_paper_like_table_equal_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Read from the CSV without any code of petlbench, but for the names of two tasks."""
    with (FOLDER / "hst.csv").open(encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["suite"] == "vtab"]
    code, out, _ = run(
        capsys, "--results", "nowhere", "--suite", "vtab", "--with", "published=hst", "--format", "latex"
    )
    assert code == 0
    body = out.split(r"\midrule")[1].split(r"\bottomrule")[0]
    rows = [[cell.strip() for cell in row.split("&")] for row in body.strip().split(r"\\") if row.strip()]
    assert len(rows) == 11
    names = {"camelyon": "patch_camelyon", "retinopathy": "diabetic_retinopathy"}
    for cells in rows:
        own = {names.get(line["task"], line["task"]): line for line in lines if line["method_label"] == cells[0]}
        assert cells[1] == r"\cite{lin2023hierarchical}"
        assert float(cells[2]) == float(own["average"]["trainable_params_m"])
        shown = [plain(cell) for cell in cells[3:22]]
        assert shown == [f"{float(own[task.name]['value']):.1f}" for task in VTAB.tasks]
        assert plain(cells[22]) == f"{float(own['average']['value']):.1f}"
        groups = {task.group: [] for task in VTAB.tasks}
        for task in VTAB.tasks:
            groups[task.group].append(float(own[task.name]["value"]))
        assert plain(cells[23]) == f"{sum(sum(each) / len(each) for each in groups.values()) / 3:.1f}"


def plain(cell: str) -> str:
    """The number in a cell of LaTeX."""
    return cell.removeprefix(r"\textbf{").removeprefix(r"\underline{").removesuffix("}")


def test_the_paper_like_table_has_the_columns_of_the_paper_and_marks_the_best() -> None:
    made = latex(comparison.published_table("vtab", published.rows("vtab", VTAB, ["hst"])))
    head = r" &  &  & \multicolumn{7}{c}{Natural} & \multicolumn{4}{c}{Specialized} & \multicolumn{8}{c}{Structured}"
    assert rf"{head} & \multicolumn{{2}}{{c}}{{Average}} \\" in made
    last = next(line for line in made.splitlines() if line.startswith("HST-B"))
    assert last.count(r"\textbf") == 13
    assert last.endswith(r"\textbf{76.1} & \textbf{78.3} \\")
    assert r"\underline{74.8} & \underline{77.0}" in made


def test_published_rows_stand_below_a_rule_and_have_their_own_best(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(
        capsys, "--results", results, "--with", "published=hst", "--tasks", "dtd,svhn", "--format", "latex"
    )
    lines = out.splitlines()
    first, second = (number for number, line in enumerate(lines) if line == r"\midrule")
    assert code == 0
    assert [line.split(" & ")[:2] for line in lines[first + 1 : second]] == [
        ["hst", "measured"],
        ["vpt(tokens=50)", "measured"],
    ]
    assert lines[first + 1].count(r"\textbf{75.0}") == 3
    assert lines[second + 1].startswith(r"Full fine-tuning & \cite{lin2023hierarchical} & 85.84 & 64.3 & 87.4 & ")
    assert r"\textbf{91.2}" in "".join(lines[second:])


def test_markdown_names_the_source_and_marks_misprints(capsys: pytest.CaptureFixture[str]) -> None:
    choice = ["--with", "published=noah,goft", "--methods", "full,goft", "--tasks", "flowers102,eurosat"]
    _, out, _ = run(capsys, "--results", "nowhere", "--suite", "vtab", *choice, "--format", "markdown")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("|")]
    assert [row[:5] for row in rows[2:]] == [
        ["Full", "noah", "85.8", "87.2‡", "95.7"],
        ["GOFT", "goft", "0.018", "99.7", "100.0‡"],
    ]
    assert "- ‡ Full (noah), flowers102: 87.2 is a misprint of 97.2" in out


def test_differing_backbones_and_checkpoints_become_columns(capsys: pytest.CaptureFixture[str]) -> None:
    choice = ["--with", "published=osu_peft_vision,vfpt", "--methods", "vpt_deep", "--tasks", "dtd"]
    _, out, _ = run(capsys, "--results", "nowhere", "--suite", "vtab", *choice, "--format", "markdown")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("|")]
    assert rows[0] == ["method", "source", "backbone", "scored", "params (M)", "dtd"]
    assert {(row[2], row[3]) for row in rows[2:]} == {
        ("ViT-B/16", r"last\_epoch"),
        ("ViT-B/16", r"best\_test\_epoch"),
        ("ViT-B/16", "—"),
        ("Swin-B", "—"),
    }


def test_csv_has_both_with_their_sources(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--results", results, "--with", "published=hst", "--format", "csv")
    read = pd.read_csv(io.StringIO(out))
    assert read["source"].tolist() == ["measured"] * 2 + ["hst"] * 11
    assert read.loc[read["method"] == "HST-B", ["cifar100", "mean_tasks", "method_parameters"]].to_numpy().tolist() == [
        [76.7, 76.12, 780_000.0]
    ]


def test_a_suite_outside_the_zoo_can_be_shown_from_published_rows(capsys: pytest.CaptureFixture[str]) -> None:
    choice = ["--with", "published=hst", "--tasks", "mask_rcnn_1x", "--format", "latex"]
    code, out, _ = run(capsys, "--results", "nowhere", "--suite", "coco", *choice)
    assert code == 0
    assert r"\multicolumn{6}{c}{Mask\_rcnn\_1x}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--with", "publish"], "--with publish: expected published or published=SOURCE,..., "),
        (["--with", "published="], "--with published=: expected published or published=SOURCE,..."),
        (["--with", "published", "--results", "nowhere"], "--suite is needed: nowhere has records of no suites"),
        (["--with", "published=hts", "--suite", "vtab"], "unknown source of published numbers 'hts': did"),
        (["--with", "published=hst", "--methods", "hst,foo"], "unknown method, measured or published, 'foo': valid: "),
        (["--with", "published", "--suite", "mini", "--results", "no"], "no published number of mini in any source; "),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], message: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, errors = run(capsys, "--results", results, *arguments)
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"petlbench: {message}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (Debian: texlive-latex-extra)")
def test_the_latex_of_published_rows_compiles(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, alone, _ = run(capsys, "--results", "no", "--suite", "vtab", "--with", "published=hst", "--format", "latex")
    _, mixed, _ = run(capsys, "--results", results, "--with", "published", "--format", "latex")
    (tmp_path / "table.tex").write_text(f"{PREAMBLE}{alone}\n{mixed}\\end{{document}}", encoding="utf-8")
    command = ["pdflatex", "-draftmode", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Citation `lin2023hierarchical'" in done.stdout  # the keys of `petlbench cite`
