"""Drawn streets in the layouts of COCO 2017 and ADE20K: what a reader of the real ones relies on."""

import colorsys
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from petlbench.drawing import annotated, outdoors
from petlbench.drawing.canvas import generator
from petlbench.drawing.outdoors import CLASSES

SIZES = {"train": 30, "val": 10}


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "mini-coco"
    annotated.make("mini-coco", folder, SIZES)
    return folder


@pytest.fixture(scope="module")
def ade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "mini-ade20k"
    annotated.make("mini-ade20k", folder, SIZES)
    return folder


def test_coco_files_have_the_names_and_keys_of_coco_2017(coco: Path) -> None:
    for split, size in SIZES.items():
        found = json.loads((coco / "annotations" / f"instances_{split}2017.json").read_text())
        assert {"info", "licenses", "images", "annotations", "categories"} <= found.keys()
        assert len(found["images"]) == size
        for image in found["images"]:
            assert image["file_name"] == f"{image['id']:012d}.jpg"
            with Image.open(coco / f"{split}2017" / image["file_name"]) as file:
                assert file.size == (image["width"], image["height"])
        ids = [category["id"] for category in found["categories"]]
        assert max(ids) > len(ids), "category ids have gaps"
        assert {each["category_id"] for each in found["annotations"]} <= set(ids)
        assert min(each["id"] for each in found["annotations"]) == 1


def test_things_of_mini_coco_are_few_and_larger_than_the_patches_of_a_backbone(coco: Path) -> None:
    sides, counts = [], []
    for split in SIZES:
        found = json.loads((coco / "annotations" / f"instances_{split}2017.json").read_text())
        sides += [(each["bbox"][2] * each["bbox"][3]) ** 0.5 for each in found["annotations"]]
        images = [each["image_id"] for each in found["annotations"]]
        counts += [images.count(image["id"]) for image in found["images"]]
    assert max(counts) <= 3
    assert min(counts) == 0, "some pictures are empty"
    assert 32 < np.median(sides) < 64, "two to four patches of 16 pixels"


def test_a_hue_hints_at_the_class_of_a_thing_of_mini_coco_and_does_not_give_it_away() -> None:
    usual = []
    for number in range(40):
        picture = outdoors.picture(generator("hues", number), outdoors.NEAR)
        for instance, kind in enumerate(picture.kinds, 1):
            seen = picture.pixels[picture.instances == instance]
            if kind in outdoors.PAINTS and len(seen) > 100:
                tone, _, _ = colorsys.rgb_to_hsv(*seen.mean(0))
                usual.append(abs((tone - outdoors.PAINTS[kind] + 0.5) % 1 - 0.5) < 0.06)
    assert len(usual) > 40
    assert 0.7 < np.mean(usual) < 0.95


def test_an_outline_covers_the_pixels_of_its_object() -> None:
    mask = np.zeros((40, 50), bool)
    mask[5:20, 10:30] = True
    (outline,) = annotated.polygons(mask)
    x, y = np.array(outline).reshape(-1, 2).T
    area = 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
    assert area == pytest.approx(mask.sum(), rel=0.01)
    assert (x.min(), y.min(), x.max(), y.max()) == (10, 5, 30, 20)


@pytest.mark.parametrize("first", [0, 1])
def test_run_lengths_are_column_by_column_and_begin_with_zeros(first: int) -> None:
    mask = np.array([[first, 1], [0, 1], [0, 0]], bool)
    code = annotated.run_lengths(mask)
    assert code["size"] == [3, 2]
    flat = np.repeat(np.arange(len(code["counts"])) % 2, code["counts"])
    assert (mask == flat.reshape(2, 3).T).all()


def test_label_maps_lie_beside_their_images_under_the_names_of_ade20k(ade: Path) -> None:
    top = ade / "ADEChallengeData2016"
    for split, place in (("train", "training"), ("val", "validation")):
        names = sorted(path.stem for path in (top / "images" / place).iterdir())
        assert names == [f"ADE_{split}_{number:08d}" for number in range(1, SIZES[split] + 1)]
        for name in names:
            with (
                Image.open(top / "images" / place / f"{name}.jpg") as image,
                Image.open(top / "annotations" / place / f"{name}.png") as labels,
            ):
                assert image.size == labels.size
                assert labels.mode == "L"
                assert np.asarray(labels).max() <= len(CLASSES)
    rows = (top / "objectInfo150.txt").read_text().splitlines()
    assert rows[0].split("\t") == ["Idx", "Ratio", "Train", "Val", "Stuff", "Name"]
    assert [row.split("\t")[-1] for row in rows[1:]] == list(CLASSES)


def test_the_same_picture_is_drawn_each_time(coco: Path, tmp_path: Path) -> None:
    annotated.make("mini-coco", tmp_path / "again", SIZES)
    for path in (coco / "annotations").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / "annotations" / path.name).read_bytes()


def test_whoever_comes_second_uses_what_is_there(ade: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in ade.rglob("*")}
    annotated.make("mini-ade20k", ade, {"train": 1, "val": 1})
    assert {path: path.stat().st_mtime_ns for path in ade.rglob("*")} == before
