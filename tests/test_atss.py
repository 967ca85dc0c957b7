"""ATSS: which anchors learn which object, against the paper's rule written out, and the published parameter counts."""

import math
import statistics
from itertools import count as counting
from pathlib import Path
from typing import Any

import pytest
import torch
from coco_tree import annotation, write
from dense_cases import SMALL, maps, target
from torch import Tensor
from vits import count, vit_base

import petlbench
from petlbench.dense.atss import ATSS, LEVELS, assign, centred, squares
from petlbench.dense.coco import read
from petlbench.dense.coco_evaluation import Evaluator
from petlbench.dense.mask_rcnn import is_inside
from petlbench.zoo import suite

Box = tuple[float, float, float, float]


def small() -> Any:
    torch.manual_seed(0)
    return ATSS((8,) * 4, (16,) * 4, 3, SMALL)


def iou(a: Box, b: Box) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (area - width * height)


def by_the_paper(size: tuple[int, int], side: float, objects: list[Box]) -> list[int]:
    """Algorithm 1 of the paper, one object and one anchor at a time; anchors beyond the image do not exist."""
    anchors: list[tuple[int, float, float, Box]] = []  # number, middle, corners; by level below
    levels: list[list[int]] = []
    number = counting()
    for stride in LEVELS:
        levels.append([])
        for y in range(0, size[0], stride):
            for x in range(0, size[1], stride):
                half = side * stride / 2
                levels[-1].append(next(number))
                anchors.append((levels[-1][-1], x, y, (x - half, y - half, x + half, y + half)))
    learns, best = [-1] * len(anchors), [0.0] * len(anchors)
    for which, box in enumerate(objects):
        middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        candidates = []
        for own in levels:
            candidates += sorted(own, key=lambda a: math.dist(anchors[a][1:3], middle))[:9]
        overlaps = {a: iou(anchors[a][3], box) for a in candidates}
        threshold = statistics.mean(overlaps.values()) + statistics.stdev(overlaps.values())
        for a, overlap in overlaps.items():
            _, x, y, _ = anchors[a]
            within = box[0] < x < box[2] and box[1] < y < box[3]
            if within and overlap >= threshold and overlap > best[a]:
                learns[a], best[a] = which, overlap
    return learns


@pytest.mark.parametrize("seed", range(5))
def test_anchors_learn_what_the_rule_of_the_paper_says(seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    near = torch.rand(6, 2, generator=chance) * 150
    boxes = torch.cat([near, near + 6 + torch.rand(6, 2, generator=chance) * 100], dim=1)
    size = (256, 384)  # of which every level's positions cover all, so that the plain rule needs no word on padding
    levels = [squares(size[0] // stride, size[1] // stride, stride, 4 * stride) for stride in LEVELS]
    inside = [torch.ones(len(level), dtype=torch.bool) for level in levels]
    found = assign(levels, inside, boxes).tolist()
    assert found == by_the_paper(size, 4, [tuple(box) for box in boxes.tolist()])  # type: ignore[misc]
    assert len({*found}) > 3


def test_every_anchor_is_a_square_around_the_first_pixel_of_its_position() -> None:
    level = squares(2, 3, 8, 64)
    assert level.shape == (6, 4)
    assert level[0].tolist() == [-32, -32, 32, 32]
    assert level[4].tolist() == [8 - 32, 8 - 32, 8 + 32, 8 + 32]


def test_anchors_beyond_the_image_learn_nothing_and_take_no_place_among_the_candidates() -> None:
    boxes, size = torch.tensor([[20.0, 20.0, 60.0, 60.0]]), (64, 64)
    found = []
    for side in (128, 256):
        levels = [squares(side // stride, side // stride, stride, 8 * stride) for stride in LEVELS]
        inside = [is_inside(level, size) for level in levels]
        matched = assign(levels, inside, boxes)
        assert not (matched[~torch.cat(inside)] >= 0).any()
        found.append(torch.cat(levels)[matched >= 0])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert len(found[0])


def test_an_image_without_objects_is_all_background() -> None:
    levels = [squares(2, 2, 8, 64)]
    assert assign(levels, [torch.ones(4, dtype=torch.bool)], torch.zeros(0, 4)).tolist() == [-1] * 4


def test_centerness_is_one_in_the_middle_and_falls_to_the_border() -> None:
    anchors = torch.tensor([[8.0, 3.0, 12.0, 7.0], [3.0, 3.0, 7.0, 7.0], [-2.0, 3.0, 2.0, 7.0]])  # middles 10, 5 and 0
    boxes = torch.tensor([[0.0, 0.0, 20.0, 10.0]]).expand(3, 4)
    expected = [1.0, math.sqrt(5 / 15), 0.0]
    torch.testing.assert_close(centred(anchors, boxes), torch.tensor(expected))


@pytest.mark.parametrize(
    ("method", "options", "weights", "unused", "printed"),
    [("linear", {}, 10_819_674, 4_721_664, 15.6), ("hst", {"size": "L"}, 18_470_490, 0, 18.5)],
)
def test_weights_are_those_of_the_table_of_hst(
    method: str, options: dict[str, Any], weights: int, unused: int, printed: float
) -> None:
    """The table counts the modules that bring a ViT's first map to stride 4, which ATSS does not use."""
    with torch.device("meta"):
        encoder = petlbench.load(method)(**options).attach(vit_base())
        found = count(encoder) + count(ATSS(encoder.channels, encoder.strides, classes=80))
    assert found == weights
    assert (weights + unused) / 1e6 == pytest.approx(printed, abs=0.09)


def test_every_loss_is_finite_and_reaches_every_weight_and_every_map_but_the_first() -> None:
    head, inputs = small(), maps(2, 128, 128)
    targets = [
        target((128, 128), (128, 128), (4, 4, 60, 60), (40, 60, 120, 120), (2, 2, 126, 126)),
        target((128, 128), (128, 128), (8, 8, 80, 48)),
    ]
    losses = head.losses(inputs, torch.zeros(2, 3, 128, 128), targets)
    assert set(losses) == {"classifier", "box", "centerness"}
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert [each.grad is not None for each in inputs] == [False, True, True, True]


def test_images_without_objects_have_finite_losses() -> None:
    losses = small().losses(maps(1, 64, 64), torch.zeros(1, 3, 64, 64), [target((64, 64), (64, 64))])
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["box"] == 0


@torch.no_grad()
def test_what_is_found_lies_in_the_image_best_first_and_is_no_more_than_asked_for() -> None:
    head = small().eval()
    head.score.bias.fill_(0.0)
    head.score.weight.normal_(std=0.5)
    (found,) = head.predict(maps(1, 96, 96), torch.zeros(1, 3, 96, 96), [(70, 90)])
    boxes, scores = found["boxes"], found["scores"]
    assert 0 < len(boxes) <= SMALL.detections
    assert (boxes >= 0).all()
    assert (boxes[:, [0, 2]] <= 90).all()
    assert (boxes[:, [1, 3]] <= 70).all()
    assert (scores.diff() <= 0).all()
    assert {*found["labels"].tolist()} <= {1, 2, 3}


def test_a_small_head_learns_to_find_an_object() -> None:
    head = small()
    inputs = [each.detach() for each in maps(1, 128, 128)]
    targets, images = [target((128, 128), (128, 128), (30, 20, 100, 90))], torch.zeros(1, 3, 128, 128)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(head.losses(inputs, images, targets).values()).backward()
        optimizer.step()
    with torch.no_grad():
        (found,) = head.eval().predict(inputs, images, [(128, 128)])
    best: Tensor = found["boxes"][0]
    assert iou(tuple(best.tolist()), (30, 20, 100, 90)) > 0.7  # type: ignore[arg-type]
    assert int(found["labels"][0]) == 1


def test_boxes_without_masks_are_scored_and_drawn_as_boxes(tmp_path: Path) -> None:
    data = {
        "images": [{"id": 9, "file_name": "9.jpg", "width": 96, "height": 64}],
        "categories": [{"id": 7, "name": "dog"}],
        "annotations": [annotation(1, 9, 7, (10, 10, 40, 30))],
    }
    write(tmp_path, data, "val2017")
    truth = read(tmp_path / "annotations" / "instances_val2017.json", tmp_path / "val2017", 1, training=False)
    evaluator = Evaluator(truth, masks=False)
    found = {"boxes": torch.tensor([[20.0, 20.0, 100.0, 80.0]]), "labels": torch.ones(1), "scores": torch.ones(1)}
    evaluator.add(0, found, (128, 192), (64, 96))
    scores = dict(evaluator.scores())
    assert scores["box_ap"] == scores["box_ap/dog"] == pytest.approx(100)
    assert not any(name.startswith("mask") for name in scores)
    assert evaluator.picture(0).width > 2 * 96


@pytest.mark.parametrize("name", ["coco", "mini_coco"])
def test_tasks_with_atss_show_boxes_only(name: str) -> None:
    (task,) = (task for task in suite(name).tasks if task.name.startswith("atss"))
    assert (task.metric, task.also) == ("box_ap", ("box_ap50", "box_ap75"))
