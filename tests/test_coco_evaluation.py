"""COCO's average precision: equal to the reference, in the pixels of the original image, for boxes and masks apart."""

import contextlib
import io

import numpy as np
import pytest
import torch
from coco_tree import annotation, contents, write
from faster_coco_eval import COCOeval_faster
from faster_coco_eval import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from petlbench.dense.coco import read
from petlbench.dense.coco_evaluation import detections, ground_truth, index, paste, score


@pytest.fixture
def truth(tmp_path):
    return read(*write(tmp_path, contents()), classes=3, training=False)


def perfect(truth):
    """The annotations themselves as detections, surest first."""
    return [
        {**{key: each[key] for key in ("image_id", "category_id", "bbox", "segmentation")}, "score": 1 / rank}
        for rank, each in enumerate(ground_truth(truth)["annotations"], start=1)
        if not each["iscrowd"]
    ]


def test_what_is_found_exactly_scores_100_in_every_figure_that_there_is(truth):
    scores = dict(score(truth, perfect(truth)))
    assert {name: value for name, value in scores.items() if "_ar_" not in name} == {
        **{f"{kind}_{figure}": 100 for kind in ("box", "mask") for figure in ("ap", "ap50", "ap75", "ap_small")},
        **{f"{kind}_ap/{name}": 100 for kind in ("box", "mask") for name in ("person", "dog", "bottle")},
    }
    assert next(iter(scores)) == "box_ap"


def test_nothing_found_scores_0(truth):
    scores = dict(score(truth, []))
    assert set(scores.values()) == {0.0}
    assert scores["box_ap"] == scores["mask_ap"] == 0


def test_a_find_within_a_crowd_is_neither_right_nor_wrong(truth):
    within = {"image_id": 139, "category_id": 1, "score": 0.99, "bbox": [0, 0, 8, 8]}
    within["segmentation"] = rle.frPyObjects([[0, 0, 8, 0, 8, 8, 0, 8]], 40, 48)[0]
    assert dict(score(truth, [*perfect(truth), within]))["box_ap"] == 100


def test_a_find_in_an_image_without_objects_counts_against_the_detector(truth):
    wrong = {**perfect(truth)[0], "image_id": 285, "score": 2.0}
    assert dict(score(truth, [*perfect(truth), wrong]))["box_ap/person"] == pytest.approx(50)


@pytest.fixture
def crowded(tmp_path):
    """Forty images of random objects of all sizes, and finds near them, some of them in the wrong class."""
    rng, data = np.random.default_rng(0), contents()
    data["images"] = [{"id": i, "file_name": f"{i}.jpg", "height": 240, "width": 320} for i in range(1, 41)]
    data["annotations"] = []
    for image in range(1, 38):
        for _ in range(rng.integers(1, 7)):
            width, height = rng.uniform(5, 220, 2)
            box = (rng.uniform(0, 320 - width), rng.uniform(0, 240 - height), width, height)
            number = len(data["annotations"]) + 1
            outline = [(box[0] + width / 2, box[1]), (box[0] + width, box[1] + height), (box[0], box[1] + height)]
            area = width * height / 2
            polygon = [[float(each) for point in outline for each in point]]
            category = int(rng.choice([1, 18, 44]))
            changes = {"segmentation": polygon, "area": area, "iscrowd": int(rng.random() < 0.05)}
            data["annotations"].append(annotation(number, image, category, box, **changes))
    truth = read(*write(tmp_path, data), classes=3, training=False)
    found = []
    for each in ground_truth(truth)["annotations"] * 3:
        box = np.array(each["bbox"]) + rng.normal(0, 6, 4)
        left, top, width, height = box[0], box[1], max(box[2], 2), max(box[3], 2)
        pixels = rle.frPyObjects([[left + width / 2, top, left + width, top + height, left, top + height]], 240, 320)[0]
        found.append(
            {
                "image_id": each["image_id"] if rng.random() < 0.95 else 40,
                "category_id": each["category_id"] if rng.random() < 0.8 else 18,
                "score": round(float(rng.random()), 2),
                "bbox": [float(value) for value in (left, top, width, height)],
                "segmentation": pixels,
            }
        )
    return truth, found


@pytest.mark.parametrize(("kind", "key", "name"), [("bbox", "bbox", "box"), ("segm", "segmentation", "mask")])
def test_every_figure_is_that_of_pycocotools(crowded, kind, key, name):
    truth, found = crowded
    fields = ("image_id", "category_id", "score", key)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = ground_truth(truth)
        reference.createIndex()
        wanted = COCOeval(reference, reference.loadRes([{each: one[each] for each in fields} for one in found]), kind)
        fast = index(ground_truth(truth))
        counted = COCOeval_faster(fast, fast.loadRes([{each: one[each] for each in fields} for one in found]), kind)
        for evaluation in (wanted, counted):
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
    np.testing.assert_allclose(counted.eval["precision"], wanted.eval["precision"], atol=1e-12)
    np.testing.assert_allclose(counted.eval["recall"], wanted.eval["recall"], atol=1e-12)
    scores = dict(score(truth, found))
    figures = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar_100")
    assert [scores[f"{name}_{figure}"] for figure in figures] == pytest.approx(
        [100 * each for each in wanted.stats[:9]]
    )
    assert 5 < scores[f"{name}_ap"] < 95


def test_the_size_of_a_found_mask_is_its_own_not_that_of_its_box(crowded):
    """Results that hold boxes and masks would be counted by the area of the box: the trap of `loadRes`."""
    truth, found = crowded
    reference = index(ground_truth(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        trapped = COCOeval_faster(reference, reference.loadRes([dict(one) for one in found]), "segm")
        trapped.evaluate()
        trapped.accumulate()
        trapped.summarize()
    scores = dict(score(truth, found))
    assert scores["mask_ap"] == pytest.approx(100 * trapped.stats[0])
    assert scores["mask_ap_medium"] != pytest.approx(100 * trapped.stats[4])


def test_boxes_and_masks_return_to_the_size_of_the_original_image():
    """Seen at twice the size in one direction and at half of it in the other."""
    found = {
        "boxes": torch.tensor([[20.0, 5.0, 60.0, 15.0]]),
        "labels": torch.tensor([2]),
        "scores": torch.tensor([0.5]),
        "masks": torch.ones(1, 28, 28),
    }
    (result,) = detections(found, image_id=9, seen=(20, 96), original=(40, 48), categories=(1, 18, 44))
    assert result["bbox"] == [10, 10, 20, 20]
    assert (result["image_id"], result["category_id"], result["score"]) == (9, 18, 0.5)
    pixels = rle.decode(result["segmentation"])
    assert pixels.shape == (40, 48)
    assert pixels.sum() == pixels[10:30, 10:30].sum() == 400


def test_a_mask_is_pasted_where_its_box_lies_and_cut_at_the_border_of_the_image():
    half = torch.zeros(28, 28)
    half[:, :14] = 1
    pixels = paste(half, torch.tensor([-4.0, 2.0, 12.0, 10.0]), (16, 16))
    wanted = np.zeros((16, 16), dtype=np.uint8)
    wanted[2:10, :4] = 1
    assert (pixels == wanted).all()


@pytest.mark.parametrize("box", [[5.0, 5.0, 5.0, 9.0], [30.0, 2.0, 40.0, 9.0]])
def test_a_box_without_area_or_outside_of_the_image_has_no_pixels(box):
    assert paste(torch.ones(28, 28), torch.tensor(box), (16, 16)).sum() == 0
