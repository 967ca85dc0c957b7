"""`petlbench table`: a view of the store. And the table of costs, where speeds compare within one machine only."""

import dataclasses
import io
from pathlib import Path

import pandas as pd
import pytest
from recorded import cost, record, row

from petlbench import cli, frame, provenance, spec, table, zoo
from petlbench.cost import Cost
from petlbench.errors import InputError
from petlbench.machine import machine
from petlbench.recipe import Recipe
from petlbench.record import Record
from petlbench.store import Store

HERE = machine("cpu").tag
TINY = str(Path(__file__).parent / "tiny.py")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A store with two methods on two tasks of the suite in tiny.py, and a cost."""
    fill(tmp_path / "results", [*row("linear", day=80, night=60), *row("lora", day=90, night=50)])
    Store(tmp_path / "results").put_cost(Path("cost", HERE, "lora-0.json"), cost("lora"))
    return tmp_path / "results"


def fill(results: Path, records: list[Record]) -> None:
    for each in records:
        Store(results).put(each)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of `petlbench table`."""
    code = cli.main(["table", *map(str, arguments)])
    out, errors = capsys.readouterr()
    return code, out, errors


def test_the_table_of_a_suite_is_printed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choice = ["--suite", TINY, "--tasks", "night,day", "--methods", "lora,linear"]
    code, out, _ = run(capsys, "--results", results, *choice)
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert lines[2] == ["method", "params", "(M)", "night", "day", "mean", "of", "tasks"]
    assert [line[0] for line in lines[4:6]] == ["lora", "linear"]
    assert lines[4][2:] == ["_50.0†", "*90.0†", "*70.0†"]  # no code is recorded, so it has changed since


def test_the_only_suite_with_records_is_the_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = zoo.suite("mini").tasks[0].name
    fill(tmp_path, [record("linear", task, 80, suite="mini", code=provenance.fingerprint("linear", "mini"))])
    code, out, _ = run(capsys, "--results", tmp_path, "--tasks", task)
    assert (code, out.splitlines()[-1].split()) == (0, ["linear", "0.295", "80.0"])


def test_a_suite_may_be_written_with_a_hyphen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = record("linear", "upernet", 0, suite="mini_ade20k")
    fill(tmp_path, [dataclasses.replace(made, scores={"miou": 38.2, "miou_ms": 39.3})])
    code, out, _ = run(capsys, "--results", tmp_path, "--suite", "mini-ade20k", "--tasks", "upernet", "--format", "csv")
    assert (code, "38.2" in out, "39.3" in out) == (0, True, True)


def test_of_several_suites_one_must_be_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(results, [record("linear", "digits", 80, suite="mini")])
    code, _, errors = run(capsys, "--results", results)
    assert code == 2
    assert errors == f"petlbench: --suite is needed, as {results} has records of several: mini, tiny\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--results", "nowhere"], "--results nowhere: no records there yet; `petlbench run` makes them"),
        ([], "--suite tiny: not in the zoo, so name its file, such as --suite ./tiny.py"),
        (["--digits", "10"], "--digits 10: expected 0 to 9"),
        (["--suite", "vtab"], "unknown suite with records 'vtab': valid: tiny"),
        (["--suite", TINY, "--format", "markdown", "--out", "."], "--out .: cannot be written: "),
        (["--suite", TINY, "--out", "t.xlsx"], "--out t.xlsx: valid endings: .md, .tex, .html, .csv, .txt; for others"),
        (
            ["--suite", TINY, "--out", "t"],
            "--out t: valid endings: .md, .tex, .html, .csv, .txt; for others choose a -",
        ),
        (["--cost", "--delta"], "--delta: not with --cost, which shows no scores\n"),
        (["--cost", "--ppt"], "--ppt: not with --cost, which shows no scores\n"),
        (["--cost", "--head"], "--head: not with --cost, which shows no scores\n"),
        (["--cost", "--tasks", "day"], "--tasks day: not with --cost, which shows no scores\n"),
        (["--cost", "--metric", "f1"], "--metric f1: not with --cost, which shows no scores\n"),
        (["--cost", "--ties", "test"], "--ties test: not with --cost, which shows no scores\n"),
        (["--cost", "--digits", "0"], "--digits 0: not with --cost, which shows no scores\n"),
        (["--cost", "--mix-data"], "--mix-data: not with --cost, which shows no scores\n"),
        (["--cost", "--with", "published"], "--with published: not with --cost, which shows no scores\n"),
        (["--delta", "--ties", "digits"], "--ties digits: not with --delta, which shows differences and marks none\n"),
        (["--delta", "--ppt"], "--ppt: not with --delta, which shows differences and marks none\n"),
        (["--cost", "--methods", "vpt"], "unknown method 'vpt': valid: lora"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, errors = run(capsys, "--results", results, *arguments)
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"petlbench: {message}")


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("t.md", "tiny: accuracy"),
        ("t.tex", "% needs "),
        ("t.csv", "method,backbone,"),
        ("t.txt", "tiny: accuracy"),
        ("t.MD", "tiny: "),
    ],
)
def test_the_ending_of_the_file_decides_the_format(
    name: str, start: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, errors = run(capsys, "--results", results, "--suite", TINY, "--out", results / name)
    assert (code, out, errors) == (0, "", f"wrote {results / name}\n")
    assert (results / name).read_text(encoding="utf-8").startswith(start)


def test_a_format_may_go_to_a_file_of_any_ending(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = results / "t.xlsx"
    code, _, _ = run(capsys, "--results", results, "--suite", TINY, "--format", "csv", "--out", out)
    assert (code, out.read_text(encoding="utf-8")[:15]) == (0, "method,backbone")


def test_plain_text_has_signs_in_place_of_styles_and_says_what_they_mean(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = ["--results", results, "--suite", TINY, "--tasks", "day"]
    lines = run(capsys, *choice)[1].splitlines()
    assert [line.split()[-1] for line in lines[4:6]] == ["_80.0†", "*90.0†"]
    assert len({len(line) for line in lines[2:6]}) == 1
    assert lines[7] == "* is the best of a column, _ the second."
    bare = run(capsys, *choice, "--columns", "params")[1]
    assert "is the best of a column" not in bare


def test_costs_are_printed_with_their_units(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--results", results, "--cost")
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == (
        f"Costs on {HERE}: backbone vit, image size 64, device cpu, precision fp32, threads 1, batch size 32."
    )
    parameters, flops = ["0.295", "0.00100", "86.0", "3.00"], ["17.58", "16.87", "77.0"]
    assert lines[4].split() == ["lora†", *parameters, *flops, "100", "300", "320", "12.5", "1024", "512", "10.0"]


def test_speeds_of_different_machines_never_share_a_table() -> None:
    costs = [cost("lora"), cost("lora", tag="H200", faster=50), cost("vpt", tag="H200", faster=40)]
    blocks = [block for block in table.costs(costs).split("\n\n") if block.startswith(("Costs", "method"))]
    assert [block.split(":")[0] for block in blocks[::2]] == [f"Costs on {HERE}", "Costs on H200"]
    methods = [[line.split()[0] for line in block.splitlines()[2:]] for block in blocks[1::2]]
    assert methods == [["lora"], ["lora", "vpt"]]


def test_how_it_was_measured_is_a_column_where_it_differs() -> None:
    lines = table.costs([cost("lora"), cost("lora", batch_size=64)]).splitlines()
    assert lines[0].endswith("precision fp32, threads 1.")
    assert [line.split()[:2] for line in lines[4:6]] == [["lora", "32"], ["lora", "64"]]


def test_what_was_only_counted_is_shown_unless_it_was_timed_too() -> None:
    found = frame.costs([cost("lora", timed=False), cost("lora"), cost("vpt", timed=False)])
    assert list(zip(found["method"], found["device"].notna(), strict=True)) == [("lora", True), ("vpt", False)]
    both = table.costs([cost("lora"), cost("vpt", timed=False)]).splitlines()
    assert both[5].split()[0] == "vpt"
    assert both[5].split()[-6:] == ["—"] * 6
    assert "—" not in table.costs([cost("vpt", timed=False)])  # a column with nothing in it is not shown


def test_there_must_be_a_cost() -> None:
    with pytest.raises(InputError, match="`petlbench cost` measures them"):
        frame.costs([])


@pytest.mark.parametrize(
    ("records", "seconds"),
    [
        ([record("lora", "day", 1), record("lora", "night", 1, seconds={"total": 20.0})], 15),
        ([record("lora", "day", 1), record("lora", "day", 1, recipe=Recipe(epochs=3))], None),
        ([record("lora", "day", 1), record("lora", "day", 1, suite="mini")], None),
        ([record("vpt", "day", 1), record("lora", "day", 1, threads=2)], None),
        ([record("lora", "day", 1, status="failed")], None),
    ],
    ids=["alike", "other length", "other suite", "other method or threads", "failed"],
)
def test_seconds_of_a_run_are_the_mean_over_runs_that_are_alike(records: list[Record], seconds: float | None) -> None:
    found = frame.costs([cost("lora")], records)["seconds"].tolist()
    assert [None if pd.isna(value) else value for value in found] == [seconds]


def test_a_cost_that_is_stale_has_a_dagger() -> None:
    def is_stale(each: Cost) -> bool:
        return each.label == "lora"

    lines = table.costs([cost("lora"), cost("vpt")], is_stale=is_stale).splitlines()
    assert [line.split()[0] for line in lines[4:6]] == ["lora†", "vpt"]
    assert lines[-1] == "† The code has changed since."


def test_csv_of_costs_keeps_the_units_of_the_records() -> None:
    read = pd.read_csv(io.StringIO(table.costs([cost("lora"), cost("vpt(tokens=5)", timed=False)], "csv")))
    assert read[["method", "flops", "train_memory_bytes"]].iloc[0].tolist() == ["lora", 17_580_000_000, 2**30]
    assert spec.parse(read["method"][1])[0].fields == {"tokens": 5}
