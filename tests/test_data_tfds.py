"""VTAB-1K from TensorFlow Datasets, by a stand-in with the same interface: slices, labels and files.

TensorFlow Datasets itself has not run here.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from petlbench import cli, folder, zoo
from petlbench.data import tfds
from petlbench.errors import InputError

SUITE = zoo.suite("vtab")()
SIZES = {  # examples of each split of the data sets in TFDS
    "cifar100": {"train": 50_000, "test": 10_000},
    "caltech101": {"train": 3_060, "test": 6_084},
    "dtd": {"train": 1_880, "validation": 1_880, "test": 1_880},
    "flowers102": {"train": 1_020, "validation": 1_020, "test": 6_149},
    "pets": {"train": 3_680, "test": 3_669},
    "svhn": {"train": 73_257, "test": 26_032, "extra": 531_131},
    "sun397": {"train": 76_128, "validation": 10_875, "test": 21_750},
    "patch_camelyon": {"train": 262_144, "validation": 32_768, "test": 32_768},
    "eurosat": {"train": 27_000},
    "resisc45": {"train": 31_500},
    "diabetic_retinopathy": {"train": 35_126, "validation": 10_906, "test": 42_670},
    "clevr_count": {"train": 70_000, "validation": 15_000, "test": 15_000},
    "clevr_dist": {"train": 70_000, "validation": 15_000, "test": 15_000},
    "dmlab": {"train": 65_550, "validation": 22_628, "test": 22_735},
    "kitti_dist": {"train": 6_347, "validation": 423, "test": 711},
    "dsprites_loc": {"train": 737_280},
    "dsprites_ori": {"train": 737_280},
    "smallnorb_azi": {"train": 24_300, "test": 24_300},
    "smallnorb_ele": {"train": 24_300, "test": 24_300},
}


def count(piece: str, sizes: dict[str, int]) -> range:
    """The places that a slice of TFDS names."""
    found = re.fullmatch(r"(\w+)(?:\[(\d*):(\d*)\])?", piece)
    assert found is not None
    name, first, last = found.groups()
    return range(sizes[name])[int(first or 0) : int(last) if last else None]


@pytest.mark.parametrize("name", SIZES)
def test_the_slices_have_the_sizes_of_the_suite(name: str) -> None:
    slices = tfds.SOURCES[name].slices(SIZES[name])
    sizes = {split: len(count(piece, SIZES[name])) for split, piece in slices.items()}
    assert sizes == {"train800": 800, "val200": 200, "test": SUITE.task(name).test}


@pytest.mark.parametrize("name", SIZES)
def test_no_example_is_in_two_slices(name: str) -> None:
    slices = tfds.SOURCES[name].slices(SIZES[name])
    places = [(piece.partition("[")[0], place) for piece in slices.values() for place in count(piece, SIZES[name])]
    assert len(places) == len(set(places))


def test_every_task_has_its_source() -> None:
    assert list(tfds.SOURCES) == [task.name for task in SUITE.tasks]


def test_validation_images_begin_where_task_adaptation_begins_them() -> None:
    found = {
        name: tfds.SOURCES[name].slices(SIZES[name])["val200"] for name in ("cifar100", "caltech101", "pets", "svhn")
    }
    assert found == {
        "cifar100": "train[45000:45200]",
        "caltech101": "train[2754:2954]",
        "pets": "train[2944:3144]",
        "svhn": "train[65931:66131]",
    }


@pytest.mark.parametrize(
    ("name", "example", "label"),
    [
        ("dtd", {"label": np.int64(7)}, 7),
        ("clevr_count", {"objects": {"size": np.zeros(5)}}, 2),
        ("clevr_dist", {"objects": {"pixel_coords": np.array([[0, 0, 12.0], [0, 0, 8.7]])}}, 2),
        ("clevr_dist", {"objects": {"pixel_coords": np.array([[0, 0, 7.0]])}}, 0),
        ("kitti_dist", {"objects": {"type": np.array([0, 5]), "location": np.array([[0, 0, 30.0], [0, 0, 2.0]])}}, 2),
        ("kitti_dist", {"objects": {"type": np.array([2]), "location": np.array([[0, 0, 8.0]])}}, 0),
        ("kitti_dist", {"objects": {"type": np.array([3]), "location": np.array([[0, 0, 8.0]])}}, 3),
        ("kitti_dist", {"objects": {"type": np.array([]), "location": np.zeros((0, 3))}}, 3),
        ("dsprites_loc", {"label_x_position": np.int64(31)}, 15),
        ("dsprites_ori", {"label_orientation": np.int64(39)}, 15),
        ("dsprites_ori", {"label_orientation": np.int64(5)}, 2),
        ("smallnorb_azi", {"label_azimuth": np.int64(17)}, 17),
        ("smallnorb_ele", {"label_elevation": np.int64(8)}, 8),
    ],
)
def test_labels(name: str, example: dict[str, Any], label: int) -> None:
    assert tfds.SOURCES[name].label(example) == label


class StandIn:
    """What petlbench asks of the module: `builder` and `as_numpy`; its examples are grey dots that count up."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = sizes
        self.asked: list[str] = []

    def builder(self, name: str, data_dir: str | None) -> Any:
        self.asked.append(name)
        splits = {split: SimpleNamespace(num_examples=size) for split, size in self.sizes.items()}
        return SimpleNamespace(
            info=SimpleNamespace(splits=splits), download_and_prepare=lambda: None, as_dataset=self.as_dataset
        )

    def as_dataset(self, split: str, shuffle_files: bool) -> Iterator[dict[str, Any]]:
        assert not shuffle_files
        for place in count(split, self.sizes):
            image = np.full((4, 4, 1), place % 2, np.uint8)
            yield {"image": image, "label_x_position": np.int64(place % 32), "label_azimuth": np.int64(place % 18)}

    def as_numpy(self, dataset: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        return dataset


def test_a_task_is_written_in_the_layout_of_vtab(tmp_path: Path) -> None:
    module = StandIn({"train": 1_000})
    tfds.prepare("dsprites_loc", tmp_path / "dsprites_loc", module)
    assert module.asked == ["dsprites:2.*.*"]
    data = SUITE.prepare(SUITE.task("dsprites_loc"), tmp_path)
    sizes = {split: len(folder.read_list(data, split, 16)) for split in folder.SPLITS}
    assert sizes == {"train800": 800, "val200": 200, "train800val200": 1000, "test": 100}
    assert (data / "val200.txt").read_text().splitlines()[3] == "images/val200/000003.png 1"  # 803 % 32 // 2
    with Image.open(data / "images/train800/000001.png") as image:
        assert (image.mode, image.getpixel((0, 0))) == ("RGB", (255, 255, 255))


def test_a_task_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        tfds.prepare("dtd", tmp_path / "dtd", StandIn({"train": 900, "validation": 300, "test": 5}))
    assert list(tmp_path.iterdir()) == []


def test_what_tfds_says_is_passed_on(tmp_path: Path) -> None:
    class Refuses(StandIn):
        def builder(self, name: str, data_dir: str | None) -> Any:
            raise AssertionError("Manual directory does not exist\nand more")

    with pytest.raises(
        InputError, match=r"task resisc45: TFDS cannot make resisc45:3\.\*\.\*: Manual directory does not"
    ):
        tfds.prepare("resisc45", tmp_path / "resisc45", Refuses({}))


def test_the_command_makes_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tfds, "library", lambda: StandIn({"train": 900, "test": 400}))
    command = ["data", "prepare", "vtab", "--from", "tfds", "--tasks", "smallnorb_azi", "--data-root", str(tmp_path)]
    assert cli.main(command) == 0
    assert "made smallnorb_azi" in capsys.readouterr().out
    assert cli.main(command) == 0
    assert "smallnorb_azi is there already" in capsys.readouterr().out


def test_without_the_library_or_for_another_suite_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)
    command = ["data", "prepare", "vtab", "--from", "tfds", "--data-root", str(tmp_path)]
    assert cli.main(command) == 2
    assert "it comes with `pip install petlbench[tfds]`" in capsys.readouterr().err
    assert cli.main(["data", "prepare", "fgvc", "--from", "tfds", "--data-root", str(tmp_path)]) == 2
    assert "suite fgvc: can only be made for vtab" in capsys.readouterr().err
