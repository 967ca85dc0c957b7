"""A table as an author wants it: columns, order of rows, caption and label; and a mistake in one line."""

from pathlib import Path

import pytest
from recorded import row
from test_table_command import HERE, TINY, fill, run

ROWS = [
    *row("linear", day=80, night=60, left=40, right=20),
    *row("lora", day=90, night=50, left=70, right=10),
    *row("vpt(tokens=5)", day=85, night=55, left=10),
]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    fill(tmp_path / "results", ROWS)
    return tmp_path / "results"


def markdown(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[list[str]]:
    """The heads and rows of the table, without marks."""
    code, out, errors = run(capsys, "--suite", TINY, "--format", "markdown", *arguments)
    assert code == 0, errors
    lines = [line for line in out.splitlines() if line.startswith("|") and not line.startswith("|:")]
    return [[cell.strip().strip("*_†") for cell in line.split("|")[1:-1]] for line in lines]


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ("params,mean_tasks,day", ["method", "params (M)", "mean of tasks", "day"]),
        ("natural,head", ["method", "day", "night", "natural mean", "head (M)"]),
        ("tasks", ["method", "day", "night", "left", "right"]),
        ("average,ppt", ["method", "mean of tasks", "mean of groups", "PPT"]),
        ("day,natural", ["method", "day", "night", "natural mean"]),
    ],
)
def test_columns_are_those_asked_for_in_that_order(
    columns: str, shown: list[str], results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert markdown(capsys, "--results", results, "--columns", columns)[0] == shown


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("day", ["lora", "vpt(tokens=5)", "linear"]),
        ("day:worst", ["linear", "vpt(tokens=5)", "lora"]),
        ("mean_tasks", ["lora", "linear", "vpt(tokens=5)"]),  # vpt has none
        ("mean_tasks:worst", ["linear", "lora", "vpt(tokens=5)"]),
        ("method:worst", ["vpt(tokens=5)", "lora", "linear"]),
        ("ppt", ["lora", "linear", "vpt(tokens=5)"]),
    ],
)
def test_rows_are_sorted_by_a_column_and_what_is_missing_comes_last(
    sort: str, order: list[str], results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, *rows = markdown(capsys, "--results", results, "--sort", sort)
    assert [each[0] for each in rows] == order
    assert "PPT" not in head  # to sort by a column is not to show it


def test_published_rows_are_sorted_apart(capsys: pytest.CaptureFixture[str]) -> None:
    choice = ["--suite", "vtab", "--with", "published=hst", "--format", "markdown", "--columns", "params,mean_natural"]
    _, out, _ = run(capsys, "--results", "nowhere", *choice, "--sort", "mean_natural")
    lines = [line.split("|")[1:-1] for line in out.splitlines() if line.startswith("|")]
    assert [each.strip() for each in lines[0]] == ["method", "source", r"params (M)", "natural mean"]
    values = [float(line[3].strip().strip("*_")) for line in lines[2:]]
    assert values == sorted(values, reverse=True)
    assert len(values) == 11


def test_costs_are_arranged_as_well(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from recorded import cost

    from petlbench.store import Store

    for name, faster in (("lora", 1.0), ("linear", 2.0)):
        Store(results).put_cost(Path("cost", HERE, f"{name}-0.json"), cost(name, faster=faster))
    choice = ["--cost", "--columns", "latency_ms,images/s", "--sort", "latency_ms"]
    head, *rows = markdown(capsys, "--results", results, *choice)
    assert head == ["method", "latency (ms)", "images/s train", "images/s inference", "images/s folded"]
    assert [each[:2] for each in rows] == [["linear", "6.25"], ["lora", "12.5"]]


def test_a_caption_of_one_s_own_moves_the_facts_below_the_table(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = ["--suite", TINY, "--format", "latex", "--caption", "Ours & theirs.", "--label", "main:mini_coco"]
    _, out, _ = run(capsys, "--results", results, *choice)
    above, below = out.split(r"\begin{tabular}")
    assert r"\caption{Ours \& theirs.}" in above
    assert r"\label{tab:main:mini_coco}" in above
    assert "tiny: accuracy in percent, seed 0; protocol fixed; backbone vit; pretrained weights" in below


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", "dya"], "unknown --columns 'dya': did you mean day?"),
        (["--columns", "cost"], "unknown --columns 'cost': valid: average, day, head, left, mean_groups, "),
        (["--sort", "noon"], "unknown --sort 'noon': valid: day, head, "),
        (["--sort", "day:up"], "--sort day:up: expected day, day:best or day:worst"),
        (["--columns", "day", "--format", "csv"], "--columns day: not with --format csv, which holds everything as"),
        (["--label", "x"], "--label x: only LaTeX has labels; see --format latex"),
        (["--label", "a}b", "--format", "latex"], "--label a}b: expected letters, digits, '-', '_', ':' and '.'"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], message: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, errors = run(capsys, "--results", results, "--suite", TINY, *arguments)
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"petlbench: {message}")


def test_html_is_a_page_of_its_own_with_caption_and_notes(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = results / "t.html"
    code, _, _ = run(capsys, "--results", results, "--suite", TINY, "--out", out, "--caption", "<b>Mine</b> & yours")
    text = out.read_text(encoding="utf-8")
    assert code == 0
    assert text.startswith("<!doctype html>")
    assert "<caption>&lt;b&gt;Mine&lt;/b&gt; &amp; yours</caption>" in text
    assert "<li>tiny: accuracy in percent, seed 0;" in text
    assert '<strong>90.0</strong><abbr title="the code has changed since">†</abbr>' in text
    assert not any(word in text for word in ("<script", "http", "src=", "<b>"))


def test_html_sets_published_rows_apart_and_marks_what_is_doubtful(capsys: pytest.CaptureFixture[str]) -> None:
    choice = ["--suite", "vtab", "--with", "published=noah", "--methods", "full", "--tasks", "flowers102"]
    _, out, _ = run(capsys, "--results", "nowhere", *choice, "--format", "html")
    assert '87.2<abbr title="doubtful, see the notes">‡</abbr>' in out
    assert "<li>‡ Full (noah), flowers102: 87.2 is a misprint of 97.2" in out
