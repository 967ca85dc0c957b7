"""Tables of tasks that show several metrics: metrics stand below their task, and nobody averages detectors."""

import csv
import io
from pathlib import Path

import pytest
from dense import ALSO, Coco
from recorded import record
from test_table_command import run

from petlbench import comparison, frame, published, table, zoo
from petlbench.columns import layout
from petlbench.recipe import Recipe
from petlbench.record import Record
from petlbench.typeset import latex

FOLDER = Path(__file__).parent.parent / "results" / "published"
METRICS = ("box_ap", *ALSO)


def detector(label: str, task: str, first: float, seed: int = 0, **changes: object) -> Record:
    """A record with box_ap of `first`, and each further metric one point above the one before."""
    made = record(label, task, 0, seed, suite="dense", **changes)
    made.scores.clear()
    made.scores.update({metric: first + place for place, metric in enumerate(METRICS)})
    return made


ROWS = [
    *[detector("hst", "mask_rcnn_1x", 40 + seed, seed) for seed in (0, 1, 2)],
    *[detector("full", "mask_rcnn_1x", 30 + seed, seed) for seed in (0, 1, 2)],
    detector("hst", "mask_rcnn_3x", 45),
]


def test_every_metric_has_its_mean_and_deviation_and_there_is_no_mean_over_detectors() -> None:
    found = frame.scores(ROWS, Coco())
    assert found.columns == [("detection", "mask_rcnn_1x"), ("detection", "mask_rcnn_3x")]
    assert found.mean["mask_rcnn_1x", "mask_ap"].tolist() == [33 + 1, 43 + 1]
    assert found.std["mask_rcnn_1x", "mask_ap75"].tolist() == [1, 1]
    assert found.count["mask_rcnn_3x", "box_ap50"].tolist() == [0, 1]


def test_the_heads_are_metrics_below_their_tasks_own_metric_first() -> None:
    heads = [column for _, column in layout(frame.scores(ROWS, Coco()).columns, frame.several(Coco.tasks))]
    assert [(head.group, head.name) for head in heads[:7]] == [
        *[("mask_rcnn_1x", name) for name in ("box AP", "box AP50", "box AP75", "mask AP", "mask AP50", "mask AP75")],
        ("mask_rcnn_3x", "box AP"),
    ]
    assert heads[7].title == "mask_rcnn_3x_box_ap50"
    made = latex(table.scores_table(frame.scores(ROWS, Coco())))
    assert r"& \multicolumn{6}{c}{Mask\_rcnn\_1x} & \multicolumn{6}{c}{Mask\_rcnn\_3x} \\" in made
    assert "& box AP & box AP50 & box AP75 & mask AP &" in made  # short names, so none is upright


def test_a_stale_run_marks_all_of_its_metrics() -> None:
    made = table.scores_table(frame.scores(ROWS, Coco(), is_stale=lambda each: each.run.task == "mask_rcnn_3x"))
    assert [cell.stale for cell in made.rows[1][2:]] == [False] * 6 + [True] * 6


def test_one_metric_alone_has_the_plain_layout() -> None:
    found = frame.scores(ROWS, Coco(), metric="mask_ap")
    assert (found.metrics, found.columns) == ({}, [("detection", "mask_rcnn_1x"), ("detection", "mask_rcnn_3x")])
    assert found.mean["detection", "mask_rcnn_1x"].tolist() == [34, 44]


def test_csv_names_task_and_metric() -> None:
    (head, first, _) = csv.reader(io.StringIO(table.scores(ROWS, Coco(), "csv")))
    assert first[head.index("mask_rcnn_1x_mask_ap")] == "34.0"
    assert first[head.index("mask_rcnn_1x_box_ap_n")] == "3"


def test_published_cells_equal_the_file() -> None:
    """HST's table of Mask R-CNN, read from the CSV without any code of petlbench but for the names."""
    with (FOLDER / "hst.csv").open(encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["task"] == "mask_r_cnn_1x"]
    rows = published.rows("coco", Coco(), ["hst"], ["mask_rcnn_1x"])
    made = comparison.published_table("coco", rows)
    assert len(made.rows) == 11
    names = ["ap_box", "ap50_box", "ap75_box", "ap_mask", "ap50_mask", "ap75_mask"]
    for row in made.rows:
        here = (row[0].text, row[2].text)
        own = {line["metric"]: line["value"] for line in lines if (line["method_label"], line["backbone"]) == here}
        assert [cell.text for cell in row[4:]] == [f"{float(own[name]):.1f}" for name in names]


def test_published_rows_stand_below_measured_ones_in_the_same_columns() -> None:
    found = frame.scores(ROWS, Coco(), tasks=["mask_rcnn_1x"])
    rows = published.rows("coco", Coco(), ["hst"], ["mask_rcnn_1x"])
    made = comparison.beside(found, table.scores_table(found), rows)
    assert made.apart == 11
    assert [column.title for column in made.columns if column.task] == [f"mask_rcnn_1x_{name}" for name in METRICS]
    assert not any(cell.text == "—" for row in made.rows for cell in row[2:])


@pytest.mark.parametrize(
    ("suite", "sources", "task", "shown"),
    [
        ("coco", "hst", "mask_rcnn_3x", r"box AP & box AP50"),
        ("ade20k", "hst,dense", "upernet", "mIoU & mIoU (multi-scale)"),
    ],
)
def test_before_there_is_any_record_published_rows_are_laid_out(
    suite: str, sources: str, task: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = ["--suite", suite, "--with", f"published={sources}", "--tasks", task, "--format", "latex"]
    code, out, _ = run(capsys, "--results", "nowhere", *choice)
    assert code == 0
    assert shown in out
    assert "dense" not in sources or "ViT-Adapter" in out  # the note of a number says which segmenter it is of


def test_the_caption_says_how_large_images_are_seen_and_how_long_is_trained() -> None:
    recipe = Recipe(steps=300, batch_size=8, decay="poly")
    both = [record("lora", task, 1, suite="mini_ade20k", recipe=recipe) for task in ("semantic_fpn", "upernet")]
    said = table.scores_table(frame.scores(both, zoo.suite("mini_ade20k")())).caption
    assert "; trained on crops of 96, scored on images of at most 128 x 128 pixels, 300 steps of 8 images; " in said
    assert "64 pixels" not in said  # what the run calls the size is the backbone's
    assert "squash" not in said
    windows = [record("lora", "upernet", 1, suite="ade20k", recipe=recipe)]
    said = table.scores_table(frame.scores(windows, zoo.suite("ade20k")())).caption
    assert (
        "scored on images of 512 pixels at their shorter side and at most 2048 at the longer in windows of 512 every"
        in said
    )


def test_tasks_that_are_seen_in_different_ways_are_told_apart_in_the_caption() -> None:
    recipes = {"mask_rcnn_1x": Recipe(steps=90), "mask_rcnn_3x": Recipe(steps=270)}
    both = [record("lora", task, 1, suite="coco", recipe=recipe) for task, recipe in recipes.items()]
    said = table.scores_table(frame.scores(both, zoo.suite("coco")())).caption
    assert "; mask_rcnn_1x: head mask_rcnn, images of 800 pixels at their shorter side and at most 1333" in said
    assert "; mask_rcnn_3x: head mask_rcnn, images of 800" in said
    assert "in training 480 to 800 at random, 270 steps of 64 images; " in said


def test_a_suite_that_tells_nothing_of_its_tasks_leaves_the_caption_to_the_runs() -> None:
    runs = [detector("hst", "mask_rcnn_1x", 40, recipe=Recipe(decay="poly", epochs=12))]
    said = table.scores_table(frame.scores(runs, Coco())).caption
    assert "; 12 epochs in batches of 64 images; " in said
    assert "64 pixels" not in said
