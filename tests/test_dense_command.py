"""`petlbench run` and `petlbench table` on trees with the names that COCO 2017 and ADE20K are distributed with: two
steps of the published detector and one of the segmenter, from the files to a row of the table."""

import csv
from pathlib import Path

import numpy as np
import pytest
from coco_tree import annotation, real_categories, write
from PIL import Image

from petlbench import cli
from petlbench.store import Store

CHEAP = ["--weights", "random", "--device", "cpu", "--no-cost"]


def coco(root: Path) -> None:
    """Wide images, which are no larger than 107 x 1333 as the tasks of COCO see them: two to train on, two to score on,
    one of them without objects."""
    for split, numbers in (("train2017", (9, 25)), ("val2017", (139, 285))):
        objects = [annotation(1, numbers[0], 90, (20, 4, 40, 20)), annotation(2, numbers[0], 1, (200, 2, 16, 28))]
        if split == "train2017":
            objects.append(annotation(3, 25, 13, (5, 5, 60, 25)))
        data = {
            "categories": real_categories(),
            "images": [
                {"id": number, "file_name": f"{number:012d}.jpg", "width": 400, "height": 32} for number in numbers
            ],
            "annotations": objects,
        }
        write(root / "coco", data, split)


def ade20k(root: Path) -> None:
    """Two images to train on and one to score on, of two of the 150 classes and "other".

    A square image takes the fewest windows of 512 pixels: 41 over all sizes and both ways round."""
    top = root / "ADEChallengeData2016"
    for split, part, count in (("training", "train", 2), ("validation", "val", 1)):
        for kind in ("images", "annotations"):
            (top / kind / split).mkdir(parents=True)
        for number in range(1, count + 1):
            name = f"ADE_{part}_{number:08d}"
            labels = np.zeros((64, 64), np.uint8)
            labels[8:], labels[:, 40:] = 150, 7
            pixels = np.random.default_rng(number).integers(0, 99, (64, 64, 3), dtype=np.uint8) + labels[..., None]
            Image.fromarray(pixels).save(top / "images" / split / f"{name}.jpg")
            Image.fromarray(labels).save(top / "annotations" / split / f"{name}.png")
    rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName", *(f"{k}\t0\t0\t0\t0\tname {k}, other" for k in range(1, 151))]
    (top / "objectInfo150.txt").write_text("\n".join(rows))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "suite", "task", "method", "recipe", "metrics", "classes"),
    [
        (
            coco,
            "coco",
            "mask_rcnn_1x",
            "linear",
            {"steps": 2, "batch_size": 1},
            ("box_ap", "box_ap50", "mask_ap"),
            {"box_ap": "person", "mask_ap": "toothbrush"},
        ),
        (
            ade20k,
            "ade20k",
            "semantic_fpn",
            "hst",  # its narrow maps halve what the head computes
            {"steps": 1, "batch_size": 1},
            ("miou", "miou_ms"),
            {"iou": "name 7", "iou_ms": "name 150"},
        ),
    ],
)
def test_a_real_layout_becomes_a_row_of_the_table(
    make, suite, task, method, recipe, metrics, classes, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("PETLBENCH_CACHE", str(tmp_path / "cache"))
    make(tmp_path / "data")
    results = ["--results", str(tmp_path / "results")]
    run = ["run", "--methods", method, "--suite", suite, "--tasks", task, "--data-root", str(tmp_path / "data")]
    run += ["--recipe", ",".join(f"{name}={value}" for name, value in recipe.items())]
    code = cli.main([*run, *CHEAP, *results])
    said = capsys.readouterr()
    assert code == 0, said.out + said.err
    (record,) = Store(tmp_path / "results").records()
    assert (record.status, record.run.suite, record.run.task) == ("done", suite, task)
    assert [epoch.step for epoch in record.curve] == list(range(1, recipe["steps"] + 1))
    assert all(0 <= record.scores[metric] <= 100 for metric in metrics)
    assert all(name in record.per_class[metric] for metric, name in classes.items())
    assert cli.main(["table", "--suite", suite, "--tasks", task, "--format", "csv", *results]) == 0
    head, row, *_ = csv.reader(capsys.readouterr().out.splitlines())
    assert row[head.index("method")] == method
    assert float(row[head.index(f"{task}_{metrics[0]}")]) == record.scores[metrics[0]]
