"""The embedded suite: what its tasks hold, and that their folders are whole, disjoint and the same everywhere."""

import hashlib
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from petlbench import zoo
from petlbench.drawing import natural
from petlbench.errors import InputError
from petlbench.record import Record
from petlbench.store import decode

RESULTS = Path(__file__).parents[2] / "results" / "zoo"
Mini = zoo.suite("mini")
module = sys.modules[Mini.__module__]
SUITE = Mini()

FACTS = [  # name, group, classes, images to test on
    ("digits", "natural", 10, 797),
    ("materials", "natural", 10, 1000),
    ("leaves", "natural", 8, 1000),
    ("fields", "specialized", 10, 1000),
    ("cells", "specialized", 8, 1000),
    ("retina", "specialized", 5, 1000),
    ("count", "structured", 6, 1000),
    ("location", "structured", 16, 1000),
    ("orientation", "structured", 16, 1000),
    ("distance", "structured", 5, 1000),
    ("azimuth", "structured", 12, 1000),
]
NAMES = [name for name, *_ in FACTS]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, and splits of sixteen images, so that a task is drawn in no time."""
    monkeypatch.setenv("PETLBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "SIZES", {"train800": 16, "val200": 16, "test": 16})
    return tmp_path / f"mini-v{module.VERSION}"


def small(name: str):
    return replace(SUITE.task(name), test=16)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_tasks_are_those_of_the_table():
    assert [(task.name, task.group, task.classes, task.test) for task in SUITE.tasks] == FACTS
    assert {task.train for task in SUITE.tasks} == {1000}


def test_each_task_says_whether_its_images_are_real_or_generated():
    assert {task.name for task in SUITE.tasks if task.note.startswith("Real ")} == {"digits"}
    assert all(task.note.startswith(("Real ", "Generated: ")) for task in SUITE.tasks)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "group", "classes", "test"), FACTS, ids=NAMES)
def test_a_task_has_its_sizes_balanced_classes_and_no_image_twice(name, group, classes, test, tmp_path, monkeypatch):
    drawn = {split: (images, labels) for split, images, labels in module.draw(SUITE.task(name))}
    monkeypatch.setattr(module, "draw", lambda task: ((split, *both) for split, both in drawn.items()))
    module.write(SUITE.task(name), tmp_path / name)
    measured = decode(next(RESULTS.glob(f"mini/linear/{name}-s0-*.json")), Record).run.data
    same = SUITE.fingerprint(SUITE.task(name), tmp_path / name, print) == measured
    assert same, "records were measured on other pictures: these need another VERSION"
    assert {split: len(labels) for split, (_, labels) in drawn.items()} == {
        "train800": 800,
        "val200": 200,
        "test": test,
    }
    for split, (images, labels) in drawn.items():
        assert images.shape == (len(labels), 64, 64, 3)
        counts = np.bincount(labels, minlength=classes)
        assert len(counts) == classes
        if (name, split) != ("digits", "test"):
            assert counts.max() - counts.min() <= 1
        assert np.abs(np.diff(labels)).astype(bool).mean() > 0.5, "labels are in a shuffled order"
    hashes = [hashlib.sha256(image.tobytes()).digest() for images, _ in drawn.values() for image in images]
    assert len(set(hashes)) == len(hashes) == 1000 + test


def test_the_digits_tested_on_are_all_that_is_left():
    known = natural.handwriting()[1]
    dealt = module.deal(known, {"train800": 800, "val200": 200, "test": 797})
    assert np.bincount(known[dealt["train800"]]).tolist() == [80] * 10
    assert np.bincount(known[dealt["val200"]]).tolist() == [20] * 10
    assert np.bincount(known[dealt["test"]]).tolist() == [78, 82, 77, 83, 81, 82, 81, 79, 74, 80]


def test_no_handwriting_is_in_two_splits():
    dealt = module.deal(natural.handwriting()[1], {"train800": 800, "val200": 200, "test": 797})
    assert Counter(np.concatenate(list(dealt.values())).tolist()) == Counter(range(1797))


def test_neighbours_of_a_digit_come_from_its_own_split(monkeypatch):
    seen = set()
    ink, labels = natural.handwriting()

    class Watched:
        def __getitem__(self, index):
            seen.add(int(index))
            return ink[index]

    monkeypatch.setattr(natural, "handwriting", lambda: (Watched(), labels))
    natural.digits(module.generator(0), np.array([3, 14, 159, 265, 358]))
    assert seen == {3, 14, 159, 265, 358}


def test_a_missing_task_is_drawn_into_the_cache(cache):
    folder = SUITE.prepare(small("count"), None)
    assert folder == cache / "count"
    assert sorted(path.name for path in folder.iterdir()) == [
        "images",
        "test.txt",
        "train800.txt",
        "train800val200.txt",
        "val200.txt",
    ]
    assert len(list(folder.rglob("*.png"))) == 48
    with Image.open(folder / "images/val200/000015.png") as image:
        assert (image.size, image.mode, image.format) == ((64, 64), "RGB", "PNG")


def test_a_list_has_one_path_and_label_per_line(cache):
    folder = SUITE.prepare(small("count"), None)
    lists = {split: (folder / f"{split}.txt").read_bytes().decode() for split in ("train800", "val200", "test")}
    for split, text in lists.items():
        lines = text.split("\n")
        assert lines.pop() == "", "the last line ends as the others do"
        assert [re.fullmatch(rf"images/{split}/(\d{{6}})\.png [0-5]", line)[1] for line in lines] == [
            f"{number:06d}" for number in range(16)
        ]
    assert (folder / "train800val200.txt").read_bytes().decode() == lists["train800"] + lists["val200"]


def test_the_images_on_disk_are_those_that_were_drawn(cache):
    task = small("location")
    folder = SUITE.prepare(task, None)
    for split, images, labels in module.draw(task):
        lines = (folder / f"{split}.txt").read_text().splitlines()
        assert [int(line.split()[1]) for line in lines] == labels.tolist()
        assert all(
            np.array_equal(np.asarray(Image.open(folder / line.split()[0])), image)
            for line, image in zip(lines, images, strict=True)
        )


def test_two_places_hold_the_same_bytes(cache, tmp_path):
    module.write(small("fields"), tmp_path / "a" / "fields")
    module.write(small("fields"), tmp_path / "b" / "fields")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_task_that_is_there_is_not_drawn_again(cache, monkeypatch):
    folder = SUITE.prepare(small("count"), None)
    monkeypatch.setattr(module, "draw", lambda task: pytest.fail("drawn again"))
    assert SUITE.prepare(small("count"), None) == folder


def test_a_stop_half_way_leaves_nothing_that_looks_complete(cache, monkeypatch):
    def stopped(task):
        yield from list(draw(task))[:2]
        raise KeyboardInterrupt

    draw = module.draw
    monkeypatch.setattr(module, "draw", stopped)
    with pytest.raises(KeyboardInterrupt):
        SUITE.prepare(small("count"), None)
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(module, "draw", draw)
    assert len(list(SUITE.prepare(small("count"), None).rglob("*.png"))) == 48


def test_what_a_killed_process_left_is_not_taken_for_the_task(cache):
    (cache / ".count-0123" / "images").mkdir(parents=True)
    folder = SUITE.prepare(small("count"), None)
    assert (folder / "test.txt").is_file()


def test_of_two_that_draw_a_task_at_once_both_end_with_the_same_folder(cache, monkeypatch):
    def overtaken(task):
        yield from draw(task)
        monkeypatch.setattr(module, "draw", draw)
        rival.append(SUITE.prepare(task, None))  # a second process starts later and is done earlier

    draw, rival = module.draw, []
    monkeypatch.setattr(module, "draw", overtaken)
    assert SUITE.prepare(small("count"), None) == rival[0]
    assert [path.name for path in cache.iterdir()] == ["count"]
    assert len(list(rival[0].rglob("*.png"))) == 48


def test_a_cache_that_cannot_be_written_is_named(cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PETLBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        InputError, match=rf"file/mini-v{module.VERSION}/count: cannot be written .*PETLBENCH_CACHE=DIR"
    ):
        SUITE.prepare(small("count"), None)


def test_below_a_data_root_the_folder_must_exist(cache, tmp_path):
    with pytest.raises(InputError, match="no folder count for task count of suite mini"):
        SUITE.prepare(small("count"), tmp_path)
    (tmp_path / "count").mkdir()
    assert SUITE.prepare(small("count"), tmp_path) == tmp_path / "count"
