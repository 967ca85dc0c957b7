"""Reading images in the layout of VTAB-1K, and what is said about each kind of damage."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from petlbench import folder
from petlbench.errors import InputError
from petlbench.framing import Framing


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return tiny.write(tmp_path / "a root with späces", ("day",)) / "day"


def reader(task: Path) -> folder.Read:
    """Reads the lists of the task."""
    return lambda split: folder.read_list(task, split, 2)


def test_a_list_names_images_and_labels_in_order(task: Path) -> None:
    listing = folder.read_list(task, "train800val200", classes=2)
    assert len(listing) == 32
    assert listing.images[0] == task / "images/train800/000000.png"
    assert listing.images[24] == task / "images/val200/000000.png"
    assert listing.labels[:4] == (0, 1, 0, 1)


def test_images_come_as_bytes_squashed_to_the_asked_size(task: Path) -> None:
    Image.fromarray(np.full((30, 90, 3), 7, np.uint8)).save(task / "images/test/000000.png")
    images, labels = folder.Images(folder.read_list(task, "test", 2), Framing(16)).all()
    assert images.shape == (16, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert labels.tolist() == [0, 1] * 8
    assert images[0].unique().tolist() == [7]


def test_images_of_the_asked_size_are_not_touched(task: Path) -> None:
    images, _ = folder.Images(folder.read_list(task, "test", 2), Framing(8)).all()
    stored = np.asarray(Image.open(task / "images/test/000003.png"))
    assert (images[3].permute(1, 2, 0).numpy() == stored).all()


def _without_the_list(task: Path) -> None:
    (task / "train800val200.txt").unlink()


def _without_the_copies(task: Path) -> None:
    """As NOAH's export has it, where train800val200 is a folder of copies, but with that folder left out."""
    lines = (task / "train800.txt").read_text().splitlines() + (task / "val200.txt").read_text().splitlines()
    copies = [f"images/train800val200/{number:06d}.png {line[-1]}" for number, line in enumerate(lines)]
    (task / "train800val200.txt").write_text("\n".join(copies))


@pytest.mark.parametrize("lacking", [_without_the_list, _without_the_copies])
def test_train800_and_val200_stand_in_for_all_training_images(task: Path, lacking: Callable[[Path], None]) -> None:
    before = folder.read_list(task, "train800val200", 2)
    lacking(task)
    assert folder.read_list(task, "train800val200", 2) == before


def test_copies_of_the_training_images_are_read_where_they_are(task: Path) -> None:
    _without_the_copies(task)
    (task / "images/train800val200").mkdir()
    with pytest.raises(InputError, match=r"train800val200\.txt:1: names images/train800val200/000000\.png, which does"):
        folder.read_list(task, "train800val200", 2)


@pytest.mark.parametrize("top", ["", "vtab-1k", "VTAB-1k"])
def test_a_task_is_found_below_the_root_or_in_the_folder_of_an_archive(tmp_path: Path, top: str) -> None:
    (tmp_path / top / "cifar").mkdir(parents=True)
    assert folder.locate(tmp_path, ("cifar100", "cifar")) == tmp_path / top / "cifar"


def test_a_line_may_be_cut_by_a_tab_and_a_name_may_hold_blanks(task: Path) -> None:
    (task / "images/test/000000.png").rename(task / "images/test/a b.png")
    (task / "test.txt").write_text("images/test/a b.png 0\nimages/test/000001.png\t1\n")
    listing = folder.read_list(task, "test", 2)
    assert [path.name for path in listing.images] == ["a b.png", "000001.png"]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_any_mode_of_image_becomes_three_channels(task: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new(mode, (8, 8)).save(task / f"images/test/odd.{suffix}")
    (task / "test.txt").write_text(f"images/test/odd.{suffix} 0\n")
    images, _ = folder.Images(folder.read_list(task, "test", 2), Framing(8)).all()
    assert images.shape == (1, 3, 8, 8)


def _without(name: str) -> Callable[[Path], None]:
    return lambda task: (task / name).unlink()


def _with_list(content: str) -> Callable[[Path], None]:
    def damage(task: Path) -> None:
        (task / "test.txt").write_text(content)

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_without("test.txt"), "test.txt: no such list; a task's folder holds train800.txt, val200.txt"),
        (_without("images/test/000002.png"), "test.txt:3: names images/test/000002.png, which does not exist"),
        (_with_list("\n\n"), "test.txt: the list is empty"),
        (_with_list("images/test/000000.png 2\n"), "test.txt:1: label 2 is outside 0..1"),
        (_with_list("images/test/000000.png -1\n"), "test.txt:1: label -1 is outside 0..1"),
        (_with_list("images/test/000000.png\n"), "test.txt:1: expected 'path label', found 'images/test/000000.png'"),
        (_with_list("images/test/000000.png x\n"), "test.txt:1: expected 'path label'"),
        (_with_list("images/test/000000.png 1.0\n"), "test.txt:1: expected 'path label'"),
        (_with_list("../night/images/test/000000.png 1\n"), "leaves the folder of the task"),
        (_with_list("/etc/hostname 1\n"), "leaves the folder of the task"),
    ],
)
def test_a_damaged_list_is_named_with_file_and_line(task: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(task)
    with pytest.raises(InputError) as refusal:
        folder.read_list(task, "test", classes=2)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_list_that_is_no_text_is_named(task: Path) -> None:
    (task / "test.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match=r"test\.txt: cannot be read as a list"):
        folder.read_list(task, "test", classes=2)


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_an_unreadable_image_is_named(task: Path, content: bytes | None) -> None:
    path = task / "images/test/000005.png"
    path.write_bytes(path.read_bytes()[:60] if content is None else content)  # None: truncated
    with pytest.raises(InputError, match=r"000005\.png: not a readable image"):
        folder.Images(folder.read_list(task, "test", 2), Framing(8)).all()


def test_a_fingerprint_is_kept_beside_the_data_and_read_again(task: Path) -> None:
    told: list[str] = []
    first = folder.fingerprint(task, reader(task), told.append)
    second = folder.fingerprint(task, reader(task), told.append)
    assert first == second
    assert told == ["taking the fingerprint of day"]
    assert (task / "fingerprint.json").is_file()


@pytest.mark.parametrize("change", ["pixel", "label", "order", "split"])
def test_a_fingerprint_changes_with_whatever_could_change_a_score(task: Path, change: str) -> None:
    before = folder.fingerprint(task, reader(task))
    (task / "fingerprint.json").unlink()
    lines = (task / "test.txt").read_text().splitlines()
    if change == "pixel":
        image = np.array(Image.open(task / "images/test/000000.png"))
        image[0, 0, 0] ^= 1
        Image.fromarray(image).save(task / "images/test/000000.png")
    elif change == "label":
        (task / "test.txt").write_text("\n".join([lines[0][:-1] + "1", *lines[1:]]))
    elif change == "order":
        (task / "test.txt").write_text("\n".join(reversed(lines)))
    else:
        (task / "train800val200.txt").write_text((task / "train800.txt").read_text())
    assert folder.fingerprint(task, reader(task)) != before


def test_a_fingerprint_depends_on_pixels_and_not_on_how_the_file_stores_them(task: Path) -> None:
    before = folder.fingerprint(task, reader(task))
    (task / "fingerprint.json").unlink()
    path = task / "images/test/000000.png"
    Image.open(path).copy().save(path, compress_level=0)
    assert folder.fingerprint(task, reader(task)) == before


@pytest.mark.parametrize("content", ["{", "[]", '{"test": "x"}'])
def test_a_damaged_fingerprint_says_what_to_do(task: Path, content: str) -> None:
    (task / "fingerprint.json").write_text(content)
    with pytest.raises(InputError, match="delete it and it is made anew"):
        folder.fingerprint(task, reader(task))
