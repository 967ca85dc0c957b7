"""Measured minus published: only like with like, and the caption says what was compared."""

import dataclasses
import io
from pathlib import Path

import pandas as pd
import pytest
from recorded import BACKBONE, record
from test_table_command import fill, run

from petlbench import zoo
from petlbench.record import Record

VTAB = zoo.suite("vtab")()
VIT = "vit_base_patch16_224.augreg_in21k"
DTD = {"last_epoch": 70.00, "best_test_epoch": 71.00}


def measured(
    label: str, name: str = VIT, pixels: int = 224, weights: str = "pretrained", **score: float
) -> list[Record]:
    """Records of one method, with one score for all tasks but those given."""
    backbone = dataclasses.replace(BACKBONE, name=name, image_size=pixels, weights=weights)
    made = [
        record(label, task.name, score.get(task.name, 70.0), suite="vtab", backbone=backbone) for task in VTAB.tasks
    ]
    return [dataclasses.replace(each, run=dataclasses.replace(each.run, fields=fields(label))) for each in made]


def fields(label: str) -> dict[str, object]:
    return {"deep": "deep=False" not in label} if label.startswith("vpt") else {}


def delta(results: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code, out, errors = run(capsys, "--results", results, "--delta", *arguments)
    assert errors == ""
    return code, out


def test_differences_are_those_computed_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, measured("adaptformer", caltech101=92.0))
    code, out = delta(tmp_path, capsys, "--format", "csv")
    read = pd.read_csv(io.StringIO(out))
    assert code == 0
    assert read[["method", "source", "scored"]].to_numpy().tolist() == [
        ["adaptformer", "osu_peft_vision", "last_epoch"]
    ]
    assert read["caltech101"].tolist() == [pytest.approx(92.0 - 91.3)]
    published = {"mean_tasks": 73.717}  # what the file gives for the last epoch
    ours = (18 * 70.0 + 92.0) / 19
    assert read["mean_tasks"].tolist() == [pytest.approx(ours - published["mean_tasks"], abs=0.001)]


def test_the_caption_says_what_was_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, measured("adaptformer"))
    _, out = delta(tmp_path, capsys, "--tasks", "caltech101,dtd", "--digits", "2")
    assert out.splitlines()[0] == (
        "vtab: measured minus published, in points; same task, method and architecture, and the same scored checkpoint "
        "(last epoch against last_epoch, best test epoch against best_test_epoch); "
        f"backbone {VIT}; weights pretrained; protocol fixed; scored last_epoch; "
        "published with ImageNet-21k supervised."
    )
    assert out.splitlines()[4].split()[:3] == ["adaptformer", "osu_peft_vision", "\u221221.30"]
    assert "osu_peft_vision: seed 42, one run;" in out


def test_the_best_test_epoch_compares_with_its_own_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        dataclasses.replace(each, scores={"accuracy": 70.0, "accuracy_best_test_epoch": 95.0})
        for each in measured("adaptformer")
    ]
    fill(tmp_path, records)
    _, out = delta(tmp_path, capsys, "--format", "csv", "--tasks", "caltech101")
    read = pd.read_csv(io.StringIO(out)).set_index("scored")["caltech101"]
    assert read["last_epoch"] == pytest.approx(70.0 - 91.3)
    assert read["best_test_epoch"] == pytest.approx(95.0 - 91.78)


def test_the_fields_of_a_method_must_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, [*measured("vpt(tokens=50)"), *measured("vpt(deep=False)", cifar100=60.0)])
    _, out = delta(tmp_path, capsys, "--format", "csv", "--with", "published=osu_peft_vision", "--tasks", "cifar100")
    numbers = pd.read_csv(Path(__file__).parent.parent / "results/published/osu_peft_vision.csv")
    last = numbers[(numbers["task"] == "cifar100") & (numbers["protocol"] == "last_epoch")].set_index("method")["value"]
    read = pd.read_csv(io.StringIO(out)).set_index("method")["cifar100"]
    assert read["vpt(tokens=50)"] == pytest.approx(70.0 - last["vpt_deep"])
    assert read["vpt(deep=False)"] == pytest.approx(60.0 - last["vpt_shallow"])


@pytest.mark.parametrize(
    "records",
    [
        measured("adaptformer", name="vit_small_patch16_224"),
        measured("adaptformer", pixels=64),
        measured("adaptformer", weights="random"),
        measured("hst"),  # no source says which of its checkpoints it scores
    ],
    ids=["architecture", "pixels", "random weights", "checkpoint"],
)
def test_what_differs_does_not_compare_and_one_line_says_so(
    records: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, records)
    code, out = delta(tmp_path, capsys)
    assert (code, out.count("\n")) == (0, 1)
    assert out.startswith(
        "nothing compares: no measured row of vtab shares method, architecture, 224 pixels and scored "
    )


def test_a_suite_without_published_numbers_has_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, [record("linear", "digits", 80, suite="mini")])
    code, out = delta(tmp_path, capsys)
    assert (code, out) == (
        0,
        "nothing compares: no published number of mini in any source; sources with numbers of mini: none\n",
    )


def test_a_metric_cannot_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = run(capsys, "--results", tmp_path, "--delta", "--metric", "f1")
    assert (code, errors) == (2, "petlbench: --metric f1: not with --delta, which compares each task's own\n")
