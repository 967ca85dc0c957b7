"""`petlbench run` and `petlbench table` on a tree with the names that COCO 2017 is distributed with: two steps of
the published detector, from the files to a row of the table."""

from pathlib import Path

import pytest
from coco_tree import annotation, real_categories, write

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "suite", "task", "batch", "metrics", "classes"),
    [
        (
            coco,
            "coco",
            "mask_rcnn_1x",
            1,
            ("box_ap", "box_ap50", "mask_ap"),
            {"box_ap": "person", "mask_ap": "toothbrush"},
        ),
    ],
)
def test_a_real_layout_becomes_a_row_of_the_table(
    make, suite, task, batch, metrics, classes, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("PETLBENCH_CACHE", str(tmp_path / "cache"))
    make(tmp_path / "data")
    results = ["--results", str(tmp_path / "results")]
    run = ["run", "--methods", "linear", "--suite", suite, "--tasks", task, "--data-root", str(tmp_path / "data")]
    run += ["--recipe", f"steps=2,batch_size={batch}"]
    code = cli.main([*run, *CHEAP, *results])
    said = capsys.readouterr()
    assert code == 0, said.out + said.err
    (record,) = Store(tmp_path / "results").records()
    assert (record.status, record.run.suite, record.run.task) == ("done", suite, task)
    assert [epoch.step for epoch in record.curve] == [1, 2]
    assert all(0 <= record.scores[metric] <= 100 for metric in metrics)
    assert all(name in record.per_class[metric] for metric, name in classes.items())
    assert cli.main(["table", "--suite", suite, "--tasks", task, "--format", "csv", *results]) == 0
    head, row = (line.split(",") for line in capsys.readouterr().out.splitlines()[:2])
    assert row[head.index("method")] == "linear"
    assert f"{record.scores[metrics[0]]:.1f}" in ",".join(row)
