"""Decoded images are read back without a single image file, and never after anything they came from has changed."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from petlbench import cached, folder, zoo
from petlbench.errors import InputError
from petlbench.framing import Framing

SUITE = zoo.suite(str(Path(__file__).parent / "tiny.py"))()
DAY = SUITE.task("day")


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PETLBENCH_CACHE", str(tmp_path / "cache"))
    return tiny.write(tmp_path / "data", ("day",)) / "day"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of the images that were decoded."""
    seen: list[int] = []

    def spy(listing: folder.Listing, index: int, framing: Framing) -> tuple[bytes, np.ndarray]:
        seen.append(index)
        return decode(listing, index, framing)

    decode = folder.decode
    monkeypatch.setattr(folder, "decode", spy)
    return seen


def files(place: Path) -> list[str]:
    return sorted(path.suffix for path in place.iterdir())


def test_the_second_reading_decodes_nothing_and_gives_the_same_bytes(task: Path, decoded: list[int]) -> None:
    first = SUITE.data(DAY, "test", task, Framing(12))
    images, labels = first.all()
    assert len(decoded) == 16
    second = SUITE.data(DAY, "test", task, Framing(12))
    again, same = second.all()
    assert len(decoded) == 16
    assert torch.equal(images, again)
    assert torch.equal(labels, same)
    assert first.digest() == second.digest()
    assert files(task / "decoded") == [".json", ".npy"]


def test_the_array_can_be_read_by_numpy_alone(task: Path) -> None:
    images, _ = SUITE.data(DAY, "test", task, Framing(12)).all()
    (file,) = (task / "decoded").glob("*.npy")
    assert (np.load(file) == images.numpy()).all()


def test_sizes_and_splits_are_kept_apart(task: Path, decoded: list[int]) -> None:
    for split, size in (("test", 8), ("test", 12), ("val200", 8)):
        SUITE.data(DAY, split, task, Framing(size)).all()
    assert len(decoded) == 16 + 16 + 8
    assert files(task / "decoded") == [".json"] * 3 + [".npy"] * 3


def _another_image(task: Path) -> None:
    Image.new("RGB", (8, 8)).save(task / "images/test/000004.png")


def _another_image_with_the_old_date(task: Path) -> None:
    path = task / "images/test/000004.png"
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(content)  # of the same length and with the old date: only the system's own time of change tells
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _another_label(task: Path) -> None:
    text = (task / "test.txt").read_text()
    (task / "test.txt").write_text(text.replace("000004.png 0", "000004.png 1"))


def _another_order(task: Path) -> None:
    (task / "test.txt").write_text("\n".join(reversed((task / "test.txt").read_text().splitlines())))


def _one_less(task: Path) -> None:
    (task / "test.txt").write_text("\n".join((task / "test.txt").read_text().splitlines()[1:]))


@pytest.mark.parametrize(
    "change", [_another_image, _another_image_with_the_old_date, _another_label, _another_order, _one_less]
)
def test_whatever_changes_under_a_cache_is_decoded_again(
    task: Path, decoded: list[int], change: Callable[[Path], None]
) -> None:
    SUITE.data(DAY, "test", task, Framing(8)).all()
    change(task)
    decoded.clear()
    changed = SUITE.data(DAY, "test", task, Framing(8))
    images, _ = changed.all()
    assert len(decoded) == len(images) >= 15
    fresh = folder.Images(folder.read_list(task, "test", 2), Framing(8))
    assert torch.equal(fresh.all()[0], images)
    assert fresh.digest() == changed.digest()
    assert files(task / "decoded") == [".json", ".npy"]  # what was kept of the old data is gone


def test_a_damaged_cache_is_named_and_not_used(task: Path) -> None:
    SUITE.data(DAY, "test", task, Framing(8)).all()
    (file,) = (task / "decoded").glob("*.npy")
    content = bytearray(file.read_bytes())
    content[-7] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"\.npy: the cache is damaged; delete it and it is made anew"):
        SUITE.data(DAY, "test", task, Framing(8)).all()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"digest": "x"}'])
def test_a_cache_without_its_facts_is_made_anew(task: Path, decoded: list[int], damage: str) -> None:
    SUITE.data(DAY, "test", task, Framing(8)).all()
    (facts,) = (task / "decoded").glob("*.json")
    whole = facts.read_text()
    facts.write_text(damage)
    SUITE.data(DAY, "test", task, Framing(8)).all()
    assert len(decoded) == 32
    assert facts.read_text() == whole


def test_a_reading_that_stops_half_way_leaves_nothing(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "CHUNK", 4)
    for _ in SUITE.data(DAY, "test", task, Framing(8)).chunks():
        break
    assert list((task / "decoded").iterdir()) == []


def test_beside_read_only_data_the_users_cache_is_taken(
    task: Path, tmp_path: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (task / "decoded").write_text("a file where the folder would be: root may write anywhere, but not below a file")
    for _ in range(2):
        SUITE.data(DAY, "test", task, Framing(8)).all()
    assert len(decoded) == 16
    (place,) = (tmp_path / "cache/decoded").iterdir()
    assert place.name.startswith("day-")
    assert files(place) == [".json", ".npy"]


def test_where_there_is_no_room_images_are_decoded_each_time(
    task: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "SHARE", 0)
    for _ in range(2):
        SUITE.data(DAY, "test", task, Framing(8)).all()
    assert len(decoded) == 32


def test_it_can_be_switched_off(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETLBENCH_DECODED", "off")
    SUITE.data(DAY, "test", task, Framing(8)).all()
    assert not (task / "decoded").exists()


def test_a_change_of_the_tensor_changes_no_file(task: Path) -> None:
    for _ in range(2):
        images, _ = SUITE.data(DAY, "test", task, Framing(8)).all()
        images.zero_()
    assert SUITE.data(DAY, "test", task, Framing(8)).all()[0].any()
