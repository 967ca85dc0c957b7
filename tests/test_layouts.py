"""Folders of classes: numbered by name, with a part set aside where there is no val/."""

from pathlib import Path

import pytest
import tree

from petlbench import cli, layouts, zoo
from petlbench.data.verify import verify
from petlbench.errors import InputError
from petlbench.framing import Framing


def test_each_split_has_its_folder(tmp_path: Path) -> None:
    data = tree.image_folder(tmp_path, {"train": 4, "val": 2, "test": 3})
    sizes = [len(layouts.read(data, split, 3)) for split in ("train800", "val200", "train800val200", "test")]
    assert sizes == [12, 6, 18, 9]
    listing = layouts.read(data, "test", 3)
    assert listing.images[3] == data / "test/class 1/0.png"
    assert listing.labels == (0,) * 3 + (1,) * 3 + (2,) * 3


def test_without_val_every_fifth_image_is_set_aside(tmp_path: Path) -> None:
    data = tree.image_folder(tmp_path, {"train": 10, "test": 1})
    train, val, both = (layouts.read(data, split, 3) for split in ("train800", "val200", "train800val200"))
    assert [path.name for path in val.images[:2]] == ["4.png", "9.png"]
    assert (len(train), len(val)) == (24, 6)
    assert sorted(both.images) == sorted((data / "train").rglob("*.png"))
    assert not set(train.images) & set(val.images)


def test_files_that_are_no_images_are_passed_over(tmp_path: Path) -> None:
    data = tree.image_folder(tmp_path, {"train": 2, "test": 1})
    (data / "test/class 0/Thumbs.db").write_bytes(b"")
    assert len(layouts.read(data, "test", 3)) == 3


def test_a_class_that_is_not_trained_on_is_refused(tmp_path: Path) -> None:
    data = tree.image_folder(tmp_path, {"train": 2, "test": 1})
    (data / "test/class 9").mkdir()
    with pytest.raises(InputError, match=r"test/class 9: is no class of .*train"):
        layouts.read(data, "test", 3)


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    data = tree.image_folder(tmp_path, {"train": 2, "test": 1})
    with pytest.raises(InputError, match="train: 3 folders of classes, expected 4"):
        layouts.read(data, "test", 4)


def test_a_folder_without_any_layout_is_told_the_lists_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"test\.txt: no such list"):
        layouts.read(tmp_path, "test", 3)


def test_a_folder_of_ones_own_becomes_a_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tree.image_folder(tmp_path / "My Photos", {"train": 10, "test": 4})
    assert cli.main(["data", "suite", str(data), "--out", str(tmp_path / "photos.py")]) == 0
    assert f"--suite ./{tmp_path}/photos.py --data-root {tmp_path}" in capsys.readouterr().out
    suite = zoo.suite(str(tmp_path / "photos.py"))()
    (task,) = suite.tasks
    assert (task.name, task.classes, task.train, task.val, task.test) == ("my_photos", 3, 30, 6, 12)
    assert [finding.level for finding in verify(suite, task, tmp_path)] == ["note", "note"]
    assert len(suite.data(task, "test", suite.prepare(task, tmp_path), Framing(8)).all()[0]) == 12


def test_what_is_no_folder_of_classes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "suite", str(tmp_path)]) == 2
    assert "expected train/CLASS/... and test/CLASS/..." in capsys.readouterr().err
    data = tree.image_folder(tmp_path / "one", {"train": 2, "test": 2}, classes=1)
    assert cli.main(["data", "suite", str(data)]) == 2
    assert "1 folders of classes, expected at least 2" in capsys.readouterr().err
    data = tree.image_folder(tmp_path / "two", {"train": 5, "test": 2}, classes=2)
    assert cli.main(["data", "suite", str(data), "--out", str(data)]) == 2
    assert "exists already" in capsys.readouterr().err
