"""Segmentation: heads with the published weights, label maps of ADE20K, and mean IoU over all pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from petlbench import backbone, zoo
from petlbench.dense import ade20k, draw, images, segmentation
from petlbench.dense.segmentation import MeanIoU
from petlbench.dense.segmenters import SemanticFPN, UPerNet, entropy
from petlbench.drawing import annotated
from petlbench.errors import InputError
from petlbench.surgery import trained

HEADS = {"semantic_fpn": SemanticFPN, "upernet": UPerNet}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "fields", "head", "weights", "printed"),
    [
        ("linear", {}, "upernet", 41_223_212, 41.2),
        ("linear", {}, "semantic_fpn", 11_872_662, 11.9),
        ("hst", {"size": "L"}, "upernet", 39_859_756, 39.9),
        ("hst", {"size": "L"}, "semantic_fpn", 14_621_590, 14.7),
    ],
)
def test_as_many_weights_are_trained_as_the_hst_paper_prints(
    method: str, fields: dict[str, Any], head: str, weights: int, printed: float
) -> None:
    with torch.device("meta"):
        vit = backbone.build("vit_base_patch16_224", any_size=True)
        encoder = zoo.method(method)(**fields).attach(vit)
        made = HEADS[head](encoder.channels, encoder.strides, 150)
    found = sum(weight.numel() for part in (encoder, made) for weight in trained(part))
    assert found == weights
    assert found / 1e6 == pytest.approx(printed, abs=0.08)  # 14.62 is printed as 14.7, within what its widths explain


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    annotated.make("mini-ade20k", tmp_path / "made", {"train": 4, "val": 3})
    return tmp_path / "made"


def folder(tree: Path) -> Path:
    found = ade20k.locate(tree)
    assert found is not None
    return found


def test_other_is_ignored_and_classes_begin_at_0(tree: Path) -> None:
    split = ade20k.read(folder(tree), "training", 11)
    labels = np.asarray(opened(split.maps[0]))
    found = split.target(0)["map"].numpy()
    assert ((labels == 0) == (found == 255)).all()
    assert (found[labels > 0] == labels[labels > 0].astype(int) - 1).all()


def test_the_classes_are_called_as_object_info_says(tree: Path) -> None:
    assert ade20k.class_names(folder(tree), 11)[:3] == ("sky", "road", "grass")


def test_a_grey_or_cmyk_image_is_read_as_rgb(tree: Path) -> None:
    split = ade20k.read(folder(tree), "training", 11)
    for index, mode in enumerate(("L", "CMYK")):
        opened(split.images[index]).convert(mode).save(split.images[index])
        assert split.image(index).mode == "RGB"


def opened(path: Path) -> Image.Image:
    with Image.open(path) as file:
        return file.copy()


def smaller(path: Path) -> None:
    opened(path).resize((20, 10)).save(path)


def above(path: Path) -> None:
    Image.fromarray(np.full(opened(path).size[::-1], 12, np.uint8)).save(path)


def deep(path: Path) -> None:
    Image.fromarray(np.ones(opened(path).size[::-1], np.uint16)).save(path)


def coloured(path: Path) -> None:
    opened(path).convert("RGB").save(path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (smaller, "is 20 x 10, but its image ADE_train_00000001.jpg is "),
        (above, r"has the label 12; valid: 0 \(other\) to 11"),
        (deep, "its pixels are of mode I.*; a label map has one 8-bit channel"),
        (coloured, "its pixels are of mode RGB"),
        (cut, "not a readable label map"),
    ],
)
def test_a_label_map_that_cannot_be_used_is_one_line_before_anything_is_trained(
    tree: Path, spoil: Any, message: str
) -> None:
    split = ade20k.read(folder(tree), "training", 11)
    spoil(split.maps[0])
    with pytest.raises(InputError, match=message) as error:
        images.Examples(split, folder(tree), "train800val200").digest()
    assert str(split.maps[0]) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_truncated_image_is_one_line(tree: Path) -> None:
    split = ade20k.read(folder(tree), "training", 11)
    cut(split.images[2])
    with pytest.raises(InputError, match=r"ADE_train_00000003.jpg: not a readable image"):
        images.Examples(split, folder(tree), "train800val200").digest()


@pytest.mark.parametrize(
    ("kind", "message"),
    [("annotations", "this image has no label map"), ("images", "this label map has no image")],
)
def test_an_image_without_a_label_map_and_the_reverse_are_refused(tree: Path, kind: str, message: str) -> None:
    next((folder(tree) / kind / "training").iterdir()).unlink()
    with pytest.raises(InputError, match=message):
        ade20k.read(folder(tree), "training", 11)


def test_a_replaced_file_changes_the_digest_and_a_second_look_does_not(
    tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PETLBENCH_CACHE", str(tmp_path / "cache"))
    split = ade20k.read(folder(tree), "training", 11)
    examples = images.Examples(split, folder(tree), "train800val200")
    first = examples.digest()
    assert examples.digest() == first
    opened(split.maps[1]).transpose(Image.Transpose.ROTATE_180).save(split.maps[1])
    assert examples.digest() != first


class Given:
    """One image of two by three pixels."""

    def target(self, index: int) -> dict[str, Any]:
        return {"map": torch.tensor([[0, 0, 1], [1, 2, 255]])}


def test_mean_iou_is_over_all_pixels_and_classes_that_occur() -> None:
    evaluator = MeanIoU(Given(), 5, ("a", "b", "c", "d", "e"))  # type: ignore[arg-type]
    answer = torch.tensor([[0, 1, 1], [1, 3, 4]])  # the last pixel is not looked at
    evaluator.add(0, {"scores": torch.nn.functional.one_hot(answer, 5).permute(2, 0, 1).float()}, (2, 3), (2, 3))
    scores = dict(evaluator.scores())
    assert scores["iou/a"] == pytest.approx(50)  # 1 of 2
    assert scores["iou/b"] == pytest.approx(200 / 3)  # 2 of 3
    assert (scores["iou/c"], scores["iou/d"]) == (0, 0)
    assert "iou/e" not in scores
    assert scores["miou"] == pytest.approx((50 + 200 / 3 + 0 + 0) / 4)
    assert scores["aacc"] == pytest.approx(60)
    assert scores["macc"] == pytest.approx((50 + 100 + 0) / 3)


def test_mean_iou_equals_the_definition_on_sets_of_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    truth, answer = torch.randint(0, 7, (2, 40, 50), generator=generator)
    evaluator = MeanIoU(Given(), 7, tuple("abcdefg"))  # type: ignore[arg-type]
    evaluator.count("", truth, answer)
    each = [((truth == k) & (answer == k)).sum() / ((truth == k) | (answer == k)).sum() for k in range(7)]
    assert dict(evaluator.scores())["miou"] == pytest.approx(100 * float(sum(each)) / 7, rel=1e-6)


def test_ignored_pixels_are_not_trained_on() -> None:
    scores, wanted = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
    wanted[0, 0] = 255
    changed = scores.clone()
    changed[:, :, 0] = 9.0
    assert torch.equal(entropy(scores, wanted), entropy(changed, wanted))
    assert entropy(scores, torch.full((1, 4, 4), 255)) == 0


def task(**changes: Any) -> segmentation.SegmentationTask:
    facts: dict[str, Any] = {"name": "t", "group": "g", "classes": 3, "test": 1, "head": "upernet", "sides": (64, 128)}
    return segmentation.SegmentationTask(**(facts | {"crop": 64, "inference": "slide", "stride": 42} | changes))


@pytest.mark.parametrize(("side", "wanted"), [(64, [0]), (65, [0, 1]), (150, [0, 42, 84, 86])])
def test_windows_cover_a_side_and_end_with_it(side: int, wanted: list[int]) -> None:
    assert segmentation.starts(side, 64, 42) == wanted


def test_windows_of_a_network_that_looks_at_single_pixels_say_what_the_whole_image_says() -> None:
    def look(views: Any) -> list[dict[str, Any]]:
        return [{"scores": images.pixels(view).float()} for view in views]

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 128, 3), dtype=np.uint8))
    suite = zoo.suite("mini-ade20k")()
    whole, slide = (suite.answers(task(inference=kind), look, [picture])[0][0] for kind in ("whole", "slide"))
    torch.testing.assert_close(whole["scores"], slide["scores"])


def test_several_sizes_are_mirrored_back_and_averaged_as_probabilities() -> None:
    def look(views: Any) -> list[dict[str, Any]]:
        return [{"scores": images.pixels(view).float() / 50} for view in views]

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8))
    ((found, _),) = zoo.suite("mini-ade20k")().answers(task(inference="whole", ratios=(1.0,)), look, [picture])
    torch.testing.assert_close(found["several"], found["scores"].softmax(0), atol=1e-5, rtol=0)


def test_a_crop_has_its_size_whatever_the_image_and_shows_its_own_labels(tree: Path) -> None:
    suite, recipe = zoo.suite("mini-ade20k")(), zoo.suite("mini-ade20k")().standard(None, zoo.method("linear")())
    labels = np.tile(np.arange(3, dtype=np.int64)[:, None].repeat(8, 0), (1, 40))
    picture = Image.fromarray((labels[..., None] * 100).repeat(3, 2).astype(np.uint8))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        image, target = suite.augmented(
            task(photometric=False, zoom=(0.5, 2.0)), recipe, picture, {"map": torch.from_numpy(labels)}, rng
        )
        assert image.size == (64, 64)
        assert target["map"].shape == (64, 64)
        off = (images.pixels(image)[0].float() / 100).round().long() != target["map"]
        assert off.float().mean() < 0.1  # only where two classes meet


def test_other_colours_leave_size_and_mode() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 9, 3), dtype=np.uint8))
    made = [segmentation.recoloured(picture, np.random.default_rng(seed)) for seed in range(8)]
    assert {(each.size, each.mode) for each in made} == {((9, 8), "RGB")}
    assert len({each.tobytes() for each in made}) > 4


def test_an_overlay_shows_image_truth_and_answer_with_the_classes_that_occur() -> None:
    truth = torch.zeros(20, 30, dtype=torch.int64)
    truth[:5] = 255
    picture = Image.new("RGB", (30, 20), (10, 20, 30))
    page = draw.overlay(picture, truth, torch.ones_like(truth), ("sky", "road", "grass"))
    assert page.width == 3 * 30 * 13 + 16  # enlarged to about 384 pixels
    pixels = np.asarray(page)
    tint = [tuple(pixels[10 * 13, place * (30 * 13 + 8) + 5].tolist()) for place in range(3)]
    assert tint[0] == (10, 20, 30)
    assert len(set(tint)) == 3
    assert tuple(pixels[2, 30 * 13 + 8 + 5].tolist()) == (10, 20, 30), "what is ignored is not tinted"
