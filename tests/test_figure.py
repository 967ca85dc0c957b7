"""The figure of accuracy against trained weights: what is in it, and what it refuses."""

from pathlib import Path

import pytest
from recorded import counts, record, row
from tiny import Tiny

from petlbench import figure, frame
from petlbench.errors import InputError

LORA = row("lora", day=[80, 82, 84], night=[60, 61, 62], left=[40, 40, 40], right=[50, 51, 52])
FROZEN = [record("linear", task, 30, counts=counts(method=0)) for task in ("day", "night", "left", "right")]
FAMILY = {"lora": "reparameterization", "linear": "reference", "vpt": "prompt"}


def family(label: str) -> str:
    return FAMILY[label]


@pytest.mark.parametrize(("name", "magic"), [("a.pdf", b"%PDF"), ("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_the_ending_chooses_the_format(tmp_path: Path, name: str, magic: bytes) -> None:
    figure.draw(frame.scores(LORA, Tiny()), family, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)


def test_equal_numbers_give_equal_files(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg", "one.pdf", "two.pdf"):
        figure.draw(frame.scores(LORA, Tiny()), family, tmp_path / name)
    for ending in ("svg", "pdf"):
        assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()


def test_every_row_with_a_mean_is_named_and_zero_weights_have_a_place(tmp_path: Path) -> None:
    half = record("vpt", "day", 70)  # three tasks are missing, so there is no mean
    figure.draw(frame.scores([*LORA, *FROZEN, half], Tiny()), family, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert all(f">{said}</text>" in text for said in ("lora", "linear", "reference", "reparameterization", "0"))
    assert ">vpt</text>" not in text
    assert "accuracy (%), mean of group means" in text


def test_a_single_task_is_its_own_axis(tmp_path: Path) -> None:
    figure.draw(frame.scores(LORA, Tiny(), tasks=["day"]), family, tmp_path / "a.svg")
    assert "accuracy (%), day" in (tmp_path / "a.svg").read_text()


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jpg: valid endings: \.pdf, \.png, \.svg"):
        figure.draw(frame.scores(LORA, Tiny()), family, tmp_path / "a.jpg")


def test_a_figure_without_points_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no method has a score for every task yet"):
        figure.draw(frame.scores([record("vpt", "day", 70)], Tiny()), family, tmp_path / "a.pdf")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: No such file or directory"):
        figure.draw(frame.scores(LORA, Tiny()), family, tmp_path / "nowhere" / "a.pdf")
