"""`petlbench data verify` and `show` for detectors and segmenters: each damage is named in these words, and the rest of
the data is looked at all the same."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_tree import annotation, contents, write
from PIL import Image

from petlbench import cli, zoo
from petlbench.data import show_dense
from petlbench.data.verify_dense import verify
from petlbench.drawing import annotated

Damage = Callable[[Path], None]
TOP = "ADEChallengeData2016"


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """DIR/coco with three classes; nothing in val2017 has the pixels of an image of train2017."""
    for split, shift in (("train2017", 0), ("val2017", 1000)):
        data = contents()
        for each in data["images"]:
            each["id"] += shift
            each["file_name"] = f"{each['id']:012d}.jpg"
        for each in data["annotations"]:
            each["image_id"] += shift
        write(tmp_path / "coco", data, split)
    return tmp_path


@pytest.fixture
def ade(tmp_path: Path) -> Path:
    annotated.make("mini-ade20k", tmp_path / "data", {"train": 4, "val": 2})
    return tmp_path / "data"


def said(name: str, root: Path, level: str = "error") -> list[str]:
    suite: Any = zoo.suite(name)()
    facts = {"train": 3, "test": 3, "classes": 3} if name == "coco" else {"train": 4, "test": 2}
    tasks = [replace(task, **facts) for task in suite.tasks]
    return [finding.text for finding in verify(suite, tasks, root) if finding.level == level]


def changed(change: Callable[[dict[str, Any]], None], split: str = "train2017") -> Damage:
    """What changes the annotation file of a split."""

    def damage(root: Path) -> None:
        file = root / "coco/annotations" / f"instances_{split}.json"
        data = json.loads(file.read_text())
        change(data)
        file.write_text(json.dumps(data))

    return damage


def added(**changes: Any) -> Damage:
    """What adds an annotation of image 9."""
    box = changes.pop("box", (5, 5, 10, 10))
    return changed(lambda data: data["annotations"].append(annotation(7, 9, 1, box, **changes)))


def image(name: str, content: bytes | None = None) -> Damage:
    """What cuts a file short, or fills it with something else."""

    def damage(root: Path) -> None:
        path = root / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)

    return damage


def gone(name: str) -> Damage:
    return lambda root: (root / name).unlink()


def saved(name: str, pixels: np.ndarray | Image.Image) -> Damage:
    """What writes other pixels."""
    made = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    return lambda root: made.save(root / name)


def test_whole_coco_has_no_error_and_tells_what_training_leaves_out(coco: Path) -> None:
    assert said("coco", coco) == []
    notes = said("coco", coco, "note")
    assert notes[0] == "read by mask_rcnn_1x, mask_rcnn_3x, cascade_mask_rcnn_3x, atss_3x"
    assert notes[1:3] == [
        "instances_train2017.json: 1 crowds (annotations 900100000139); of no use to training",
        "instances_train2017.json: 1 images without objects (images 285); of no use to training",
    ]
    assert notes[5:7] == ["files 6 JPEG", "48 to 48 pixels wide and 40 to 40 high"]
    assert notes[7].startswith("fingerprint ")


FIRST = "coco/train2017/000000000009.jpg"
FILE = "annotations/instances_train2017.json"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (added(category_id=12), [f"{FILE}: annotation 7: is of category 12; the categories are 1, 18, 44"]),
        (added(image_id=77), [f"{FILE}: annotation 7: is of image 77, which is not in the list of images"]),
        (added(id=1), [f"{FILE}: the id 1 stands for more than one annotation"]),
        (
            added(segmentation={"size": [48, 40], "counts": [0, 1920]}),
            [f"{FILE}: annotation 7: its run-length code is for 40 x 48 pixels, but image 9 has 48 x 40"],
        ),
        (
            changed(lambda data: data["categories"].pop()),
            [
                f"{FILE}: has 2 categories where the task has 3",
                f"{FILE}: annotation 2: is of category 18; the categories are 1, 44",
            ],
        ),
        (
            gone(FIRST),
            [
                "train2017: 1 of the 3 images in instances_train2017.json are missing; the first is "
                "000000000009.jpg (image 9)",
                "training: 2 images, expected 3",
            ],
        ),
        (image(FIRST), ["train2017/000000000009.jpg: image 9 of instances_train2017.json cannot be read: "]),
        (image(FIRST, b""), ["train2017/000000000009.jpg: image 9 of instances_train2017.json cannot be read: "]),
        (
            saved(FIRST, Image.new("RGB", (40, 48))),
            ["train2017/000000000009.jpg: is 40 x 48, but instances_train2017.json says that image 9 is 48 x 40"],
        ),
        (
            lambda root: (root / "coco/val2017/000000001009.jpg").write_bytes((root / FIRST).read_bytes()),
            ["1 of 3 images to score on have the pixels of a training image"],
        ),
        (
            image("coco/" + FILE, b'{"images": ['),
            [f"{FILE}: is not an instances file of COCO: Input data was truncated"],
        ),
    ],
)
def test_each_damage_to_coco_is_named(coco: Path, damage: Damage, words: list[str]) -> None:
    damage(coco)
    found = said("coco", coco)
    assert len(found) == len(words), found
    for text, expected in zip(found, words, strict=True):
        assert text.startswith(expected)


@pytest.mark.parametrize(
    ("damage", "remark"),
    [
        (added(box=(5, 5, 0, 10)), "1 objects without area (annotations 7); of no use to training"),
        (added(box=(60, 5, 10, 10)), "1 objects outside of their image (annotations 7); of no use to training"),
        (added(box=(40, 5, 20, 10)), "1 boxes reach out of their image (annotations 7); cut at its border"),
        (added(segmentation=[[5, 5, 15, 15]]), "1 objects without an outline (annotations 7); of no use to training"),
    ],
)
def test_what_genuine_files_hold_too_is_a_note(coco: Path, damage: Damage, remark: str) -> None:
    damage(coco)
    assert said("coco", coco) == []
    assert f"instances_train2017.json: {remark}" in said("coco", coco, "note")


def test_several_damages_are_all_named_in_one_pass(coco: Path) -> None:
    image(FIRST)(coco)
    gone("coco/val2017/000000001139.jpg")(coco)
    added(category_id=12)(coco)
    found = said("coco", coco)
    assert [text.partition(":")[0] for text in found] == [
        FILE,
        "val2017",
        "train2017/000000000009.jpg",
        "test",
    ]


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_are_noted(coco: Path, mode: str) -> None:
    Image.new(mode, (48, 40)).save(coco / FIRST)
    assert said("coco", coco) == []
    assert f"modes 5 RGB, 1 {mode}; all become RGB" in said("coco", coco, "note")


def test_whole_ade20k_has_no_error(ade: Path) -> None:
    assert said("mini_ade20k", ade) == []
    assert said("mini_ade20k", ade, "note")[:2] == ["read by semantic_fpn, upernet", "files 6 JPEG"]


MAP, PHOTO = (f"{kind}/training/ADE_train_00000001" for kind in ("annotations", "images"))
SMALL = np.full((10, 20), 1, np.uint8)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (saved(f"{TOP}/{MAP}.png", SMALL), [f"{MAP}.png: is 20 x 10, but its image ADE_train_00000001.jpg is "]),
        (saved(f"{TOP}/{MAP}.png", SMALL.astype(np.uint16)), [f"{MAP}.png: its pixels are of mode I"]),
        (
            lambda root: Image.fromarray(np.full(_size(root), 12, np.uint8)).save(root / f"{TOP}/{MAP}.png"),
            [f"{MAP}.png: has the label 12; valid: 0 (other) to 11"],
        ),
        (image(f"{TOP}/{MAP}.png", b""), [f"{MAP}.png: not a readable label map"]),
        (image(f"{TOP}/{PHOTO}.jpg"), [f"{PHOTO}.jpg: not a readable image: "]),
        (
            gone(f"{TOP}/{MAP}.png"),
            [f"{PHOTO}.jpg: this image has no label map in annotations/training", "training: 3 images, expected 4"],
        ),
    ],
)
def test_each_damage_to_ade20k_is_named(ade: Path, damage: Damage, words: list[str]) -> None:
    damage(ade)
    found = said("mini_ade20k", ade)
    assert len(found) == len(words), found
    for text, expected in zip(found, words, strict=True):
        assert text.startswith(expected)


def _size(root: Path) -> tuple[int, int]:
    with Image.open(root / TOP / f"{PHOTO}.jpg") as file:
        return file.height, file.width


def test_a_data_set_counts_once_however_many_tasks_read_it(ade: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "verify", "mini-ade20k", "--data-root", str(ade)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "error  ADEChallengeData2016: training: 4 images, expected 240",
        "error  ADEChallengeData2016: test: 2 images, expected 60",
    ]
    assert lines[-1] == "0 of 1 data sets without an error, 2 errors"


def test_images_are_chosen_all_over_a_split() -> None:
    assert show_dense.choose(10, 4) == [0, 2, 5, 7]
    assert show_dense.choose(2, 4) == [0, 1]


def test_the_sheet_shows_objects_over_their_image(coco: Path) -> None:
    suite: Any = zoo.suite("coco")()
    task = replace(suite.tasks[0], classes=3)
    source = suite.read(task, coco / "coco", training=False)
    page = show_dense.sheet(suite, source, 3, 3)
    assert page.size == (3 * 480 + 2 * 8, 400)
    plain = np.asarray(source.image(0).resize((480, 400), Image.Resampling.NEAREST))
    assert (np.asarray(page)[:, :480] != plain).any(2).mean() > 0.3  # a person and a dog fill 700 of 1,920 pixels


def test_the_command_writes_a_sheet_of_label_maps(ade: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ade / "sheet.png"
    command = ["data", "show", "mini-ade20k", "upernet", "--data-root", str(ade), "--split", "test", "--out", str(out)]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"wrote {out}: 2 of 2 images of test\n"
    with Image.open(out) as page:
        assert page.width > 2 * 384  # two images, each beside its map
