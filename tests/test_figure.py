"""The figures: what is in each, what is refused, and that no name covers another."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import rc_context
from recorded import cost, counts, record, row
from tiny import Tiny

from petlbench import caption, cli, figures, frame, zoo
from petlbench.errors import InputError
from petlbench.figures import labels, scatter
from petlbench.figures.paper import Sheet
from petlbench.frame import Scores
from petlbench.record import Epoch, Record
from petlbench.store import Store

CURVE = [Epoch(loss=2.0, lr=0.1, seconds=1), Epoch(loss=None, lr=0.1, seconds=1), Epoch(loss=0.5, lr=0.1, seconds=1)]
FULL = row("full", day=[70, 71, 72], night=[70, 71, 72], left=50, right=50)
LORA = row("lora", day=[80, 82, 84], night=[60, 61, 62], left=[40, 40, 40], right=[50, 51, 52])
FROZEN = [record("linear", task, 30, counts=counts(method=0)) for task in ("day", "night", "left", "right")]
CURVED = [record("lora", task, 80, seed, curve=CURVE) for task in ("day", "night", "left", "right") for seed in (0, 1)]
FAMILY = {"lora": "reparameterization", "linear": "reference", "full": "reference", "vpt": "prompt"}
KINDS = ("scatter", "ranks", "heat", "groups", "radar", "curves")


def family(label: str) -> str:
    return FAMILY[label]


def of(*records: list[Record], **choice: Any) -> Scores:
    return frame.scores([each for few in records for each in few], Tiny(), **choice)


def svg(folder: Path, kind: str, found: Scores, **options: Any) -> str:
    figures.draw(kind, found, folder / "a.svg", family=family, **options)
    return (folder / "a.svg").read_text()


def holds(text: str, *said: str) -> bool:
    return all(f">{each}</text>" in text for each in said)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [1, 2])
def test_equal_numbers_give_equal_files(kind: str, columns: int, tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg", "one.pdf", "two.pdf"):
        found = of(FULL, CURVED, FROZEN)
        figures.draw(kind, found, tmp_path / name, columns=columns, family=family, records=CURVED)
    for ending in ("svg", "pdf"):
        assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()


@pytest.mark.parametrize(("columns", "points"), [(1, 3.3 * 72), (2, 7 * 72)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_is_as_wide_as_one_column_or_two(kind: str, columns: int, points: float, tmp_path: Path) -> None:
    text = svg(tmp_path, kind, of(FULL, CURVED, FROZEN), columns=columns, records=CURVED)
    assert f'width="{points:g}pt"' in text


@pytest.mark.parametrize(("name", "magic"), [("a.pdf", b"%PDF"), ("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_the_ending_chooses_the_format(tmp_path: Path, name: str, magic: bytes) -> None:
    figures.draw("scatter", of(LORA), tmp_path / name, family=family)
    assert (tmp_path / name).read_bytes().startswith(magic)


def test_every_row_with_a_mean_is_named_and_zero_weights_have_a_place(tmp_path: Path) -> None:
    half = record("vpt", "day", 70)  # three tasks are missing, so there is no mean
    text = svg(tmp_path, "scatter", of(LORA, FROZEN, [half]))
    assert holds(text, "lora", "linear", "reference", "reparameterization", "0")
    assert ">vpt</text>" not in text
    assert "accuracy (%), mean of group means" in text


def test_a_single_task_is_its_own_axis(tmp_path: Path) -> None:
    assert "accuracy (%), day" in svg(tmp_path, "scatter", of(LORA, tasks=["day"]))


def test_the_front_is_what_no_other_passes_in_both() -> None:
    points = [(1.0, 50.0), (2.0, 60), (2.0, 59), (3.0, 55), (4.0, 60), (5.0, 70)]
    assert scatter._front(points, more=False) == [0, 1, 5]
    assert scatter._front(points, more=True) == [5]
    assert scatter._front([(1.0, 9.0), (2.0, 8.0), (3.0, 8.5)], more=True) == [0, 2]


def test_the_front_is_named(tmp_path: Path) -> None:
    notes = figures.draw("scatter", of(LORA, FROZEN, FULL), tmp_path / "a.svg", family=family)
    assert notes == ["Pareto front (grey line, names in bold): linear, full"]  # lora trains as many weights as full


def test_costs_are_those_of_the_store_on_the_machine_with_most_of_them(tmp_path: Path) -> None:
    there = frame.costs([cost("lora"), cost("full", faster=2), cost("full", tag="H200", faster=50)])
    found = of(LORA, FULL, FROZEN, mix_data=True)
    notes = figures.draw("scatter", found, tmp_path / "a.svg", family=family, x="throughput", costs=there)
    machine = cost("lora").machine.tag
    assert notes == [
        "Pareto front (grey line, names in bold): full",
        f"measured on {machine}, batch size 32, fp32, threads 1",
        "costs that were measured in another way or elsewhere are left out, as they do not compare",
        "left out, as their cost is not measured: linear",
    ]
    text = (tmp_path / "a.svg").read_text()
    assert "images per second in training, batch 32, fp32" in text
    assert ">linear</text>" not in text


def test_without_costs_there_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--x flops: no cost of these methods is there; `petlbench cost` measures"):
        figures.draw("scatter", of(LORA), tmp_path / "a.svg", family=family, x="flops")


@pytest.mark.parametrize("columns", [1, 2])
def test_no_name_covers_another_or_leaves_the_axes(columns: int) -> None:
    rng = np.random.default_rng(0)
    points = [(float(x), float(y), f"method_{i}", False) for i, (x, y) in enumerate(rng.normal(size=(24, 2)))]
    with rc_context(Sheet.settings(columns)):
        sheet = Sheet(columns)
        axes = sheet.figure.add_subplot()
        axes.scatter(*zip(*[point[:2] for point in points], strict=True))
        axes.margins(0.15)
        boxes = [text.get_window_extent() for text in labels.write(axes, points, sheet.size - 1, 4)]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max) for box in boxes)


def test_ranks_of_few_tasks_have_no_critical_difference_and_say_so(tmp_path: Path) -> None:
    text = svg(tmp_path, "ranks", of(LORA, FULL, FROZEN))
    assert holds(text, "average rank; no critical difference (4 tasks, 11 needed)", "full 1.50", "lora 1.50")
    assert holds(text, "3.00 linear")


def test_ranks_of_enough_tasks_have_one(tmp_path: Path) -> None:
    tasks = [task.name for task in zoo.suite("mini").tasks]
    records = [
        record(label, task, score + place, suite="mini")
        for label, score in (("lora", 80), ("full", 70), ("linear", 60))
        for place, task in enumerate(tasks)
    ]
    assert holds(svg(tmp_path, "ranks", frame.scores(records, zoo.suite("mini")())), "critical difference 1.00")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_called_by_their_fields_and_a_note_says_which_have_no_room(kind: str, tmp_path: Path) -> None:
    tasks = ("day", "night", "left", "right")
    labels = ("full", "lora(rank=4)", "vpt(tokens=5, deep=False, dropout=0.1)")
    made = [record(label, task, 80 - 9 * i, curve=CURVE) for i, label in enumerate(labels) for task in tasks]
    notes = figures.draw(kind, of(made), tmp_path / "a.svg", family=lambda label: "prompt", records=made)
    text = (tmp_path / "a.svg").read_text()
    assert "lora(rank=4)" in text
    assert "vpt" in text
    assert "tokens" not in text
    assert notes[0] == "vpt stands for vpt(tokens=5, deep=False, dropout=0.1)"


@pytest.mark.parametrize("choice", [[], ["--x", "flops"], ["--kind", "groups"]])
def test_a_method_of_somebody_s_own_file_is_drawn_as_of_another_family(
    choice: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for each in [*LORA, *row("gate", day=70, night=50, left=45, right=50)]:
        Store(tmp_path).put(each)
    for name in ("lora", "gate"):
        Store(tmp_path).put_cost(Path("cost", "here", f"{name}-0.json"), cost(name))
    store = ["figure", "--suite", str(Path(__file__).parent / "tiny.py"), "--results", str(tmp_path)]
    assert cli.main([*store, *choice, "--out", str(tmp_path / "a.svg")]) == 0
    assert holds((tmp_path / "a.svg").read_text(), "gate", "other", "reparameterization")
    assert "method gate is not in the zoo: its family is shown if its file is named" in capsys.readouterr().err


def test_heat_is_the_gain_over_full_fine_tuning(tmp_path: Path) -> None:
    text = svg(tmp_path, "heat", of(LORA, FULL, FROZEN, [record("vpt", "day", 71)]))
    minus = "\N{MINUS SIGN}"
    assert holds(text, "+11.0", f"{minus}10.0", "+1.0", f"{minus}41.0", "0", "vpt", "natural", "structured")
    assert ">full</text>" not in text


def test_heat_needs_full_fine_tuning(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it needs records of full and of another method"):
        figures.draw("heat", of(LORA), tmp_path / "a.svg", family=family)


def test_groups_have_a_panel_each_and_one_for_all(tmp_path: Path) -> None:
    text = svg(tmp_path, "groups", of(LORA, FULL))
    assert holds(text, "natural", "structured", "mean of groups", "71.5", "45.5", "58.5", "60.5")


def test_a_radar_of_too_many_methods_is_refused(tmp_path: Path) -> None:
    many = [row(f"vpt(tokens={number})", day=80, night=70, left=60) for number in range(8)]
    with pytest.raises(InputError, match="8 methods cannot be told apart; choose up to 7 with --methods"):
        figures.draw("radar", of(*many, tasks=["day", "night", "left"]), tmp_path / "a.svg", family=family)
    with pytest.raises(InputError, match="2 tasks make no area, 3 are needed"):
        figures.draw("radar", of(LORA, tasks=["day", "night"]), tmp_path / "a.svg", family=family)


def test_curves_have_a_panel_per_task_and_need_one(tmp_path: Path) -> None:
    assert holds(svg(tmp_path, "curves", of(CURVED), records=CURVED), "day", "right", "lora", "epoch")
    with pytest.raises(InputError, match="no record has a training curve"):
        figures.draw("curves", of(LORA), tmp_path / "a.svg", family=family, records=LORA)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jpg: valid endings: \.pdf, \.png, \.svg"):
        figures.draw("scatter", of(LORA), tmp_path / "a.jpg", family=family)


@pytest.mark.parametrize("kind", ["scatter", "groups", "radar"])
def test_a_figure_without_points_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no method has a score for every task yet"):
        figures.draw(kind, of([record("vpt", "day", 70)]), tmp_path / "a.pdf", family=family)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: No such file or directory"):
        figures.draw("scatter", of(LORA), tmp_path / "nowhere" / "a.pdf", family=family)


def test_the_command_draws_and_says_the_front(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for each in [*LORA, *FULL]:
        Store(tmp_path).put(each)
    store = ["figure", "--suite", str(Path(__file__).parent / "tiny.py"), "--results", str(tmp_path)]
    out = tmp_path / "a.svg"
    assert cli.main([*store, "--out", str(out)]) == 0
    first, _, rest = capsys.readouterr().err.partition("\n")
    assert first == caption.caption(of(LORA, FULL))
    assert rest == f"Pareto front (grey line, names in bold): full\nwrote {out}\n"
    assert cli.main([*store, "--kind", "heat", "--x", "flops", "--out", str(out)]) == 2
    assert capsys.readouterr().err == "petlbench: --x flops: only --kind scatter has a cost, not heat\n"
