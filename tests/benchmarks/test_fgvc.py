"""FGVC: the facts of the five data sets, and that their original folders are read as VPT's code reads them."""

import json
from pathlib import Path

import pytest
import tree

from petlbench import spec, worker, zoo
from petlbench.data.verify import verify
from petlbench.plan import plan
from petlbench.request import Request

SUITE = zoo.suite("fgvc")()
FACTS = [  # name, classes, train, val, test
    ("cub", 200, 5_394, 600, 5_794),
    ("nabirds", 555, 21_536, 2_393, 24_633),
    ("flowers", 102, 1_020, 1_020, 6_149),
    ("dogs", 120, 10_800, 1_200, 8_580),
    ("cars", 196, 7_329, 815, 8_041),
]


@pytest.mark.parametrize(("name", "classes", "train", "val", "test"), FACTS)
def test_classes_and_splits(name: str, classes: int, train: int, val: int, test: int) -> None:
    task = SUITE.task(name)
    assert (task.classes, task.train - task.val, task.val, task.test) == (classes, train, val, test)


def test_train_and_val_together_are_the_official_training_sets() -> None:
    official = {"cub": 5_994, "nabirds": 23_929, "flowers": 2_040, "dogs": 12_000, "cars": 8_144}
    assert {task.name: task.train for task in SUITE.tasks} == official


@pytest.mark.parametrize("name", [name for name, *_ in FACTS])
def test_images_are_found_where_the_original_archives_put_them(name: str, tmp_path: Path) -> None:
    task = SUITE.task(name)
    data = SUITE.prepare(task, tree.fgvc(tmp_path, scale=0.01, tasks=[name]))
    both = SUITE.listing(task, "train800val200", data)
    parts = [SUITE.listing(task, split, data) for split in ("train800", "val200")]
    assert both.images == parts[0].images + parts[1].images
    assert both.labels == parts[0].labels + parts[1].labels
    assert {len(part) for part in parts} == {max(task.classes, round(0.01 * (task.train - task.val))), task.classes}
    assert set(both.labels) == set(range(task.classes))
    path, label = both.images[0], both.labels[0]
    assert path.parent == data / tree.PLACES[name] / f"{label + 1:03d}"  # classes are numbered in their sorted order


def test_a_class_that_one_list_lacks_does_not_shift_the_others(tmp_path: Path) -> None:
    task = SUITE.task("cars")
    data = SUITE.prepare(task, tree.fgvc(tmp_path, scale=0.01, tasks=["cars"]))
    before = SUITE.listing(task, "test", data)
    entries = json.loads((data / "test.json").read_text())
    (data / "test.json").write_text(json.dumps({name: label for name, label in entries.items() if label != 1}))
    after = SUITE.listing(task, "test", data)
    assert sorted(after.labels) == sorted(label for label in before.labels if label != 0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "test.json"),
        ("{", "test.json: cannot be read as a list"),
        ("[]", 'test.json: expected an object {"path": class, ...}'),
        ("{}", "test.json: the list is empty"),
        ('{"001/nothing.jpg": 1}', "test.json: names 001/nothing.jpg, which does not exist"),
        ('{"../secret.jpg": 1}', "test.json: ../secret.jpg leaves the folder of the task"),
        ('{"a.jpg": 1, "b.jpg": "two"}', "train.json: classes must all be numbers or all be names"),
        ('{"a.jpg": 1000}', "train.json: the lists name 197 classes, expected 196"),
    ],
)
def test_a_damaged_list_is_named(tmp_path: Path, content: str | None, words: str) -> None:
    root = tree.fgvc(tmp_path, scale=0.001, tasks=["cars"])
    file = root / "StanfordCars/test.json"
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    errors = [finding.text for finding in verify(SUITE, SUITE.task("cars"), root) if finding.level == "error"]
    assert any(words in error for error in errors), errors


@pytest.mark.slow
def test_whole_data_sets_have_no_finding(tmp_path: Path) -> None:
    root = tree.fgvc(tmp_path, tasks=["flowers"])
    found = verify(SUITE, SUITE.task("flowers"), root)
    assert [finding.text for finding in found][:1] == ["lossy JPEG export (8,189 JPEG)"]


@pytest.mark.slow
def test_short_splits_are_all_that_is_said_of_five_short_data_sets(tmp_path: Path) -> None:
    root = tree.fgvc(tmp_path, scale=0.01)
    errors = [finding for task in SUITE.tasks for finding in verify(SUITE, task, root) if finding.level == "error"]
    assert len(errors) == 4 * 5
    assert all("images, expected" in finding.text for finding in errors)


@pytest.mark.slow
def test_two_methods_run_on_all_five(tmp_path: Path) -> None:
    request = Request(
        methods=spec.parse("linear,bitfit"),
        suite="fgvc",
        weights="random",
        data_root=tree.fgvc(tmp_path / "data", scale=0.001),
        results=tmp_path / "results",
        overrides={"epochs": 1},
    )
    records = [worker.work(each.job) for each in plan(request)]
    assert [record.status for record in records] == ["done"] * 10
