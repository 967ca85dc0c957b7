"""Mask R-CNN: the published parameter counts, and what padding, precision and empty images must not do."""

from typing import Any

import pytest
import torch
from dense_cases import detector, maps, target, vit_large
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, box_iou, clip_boxes_to_image
from vits import count, pickled, vit_base

import petlbench
from petlbench.dense.cascade import CascadeMaskRCNN
from petlbench.dense.mask_rcnn import MaskRCNN, RoIAlign, is_inside
from petlbench.encoder import Encoder


def trained_weights(encoder: Encoder, head: Any = MaskRCNN) -> int:
    """Everything that is trained for COCO: of the method, the neck and the heads."""
    with torch.device("meta"):
        return count(encoder) + count(head(encoder.channels, encoder.strides, classes=80))


@pytest.mark.parametrize(
    ("vit", "method", "options", "weights", "printed"),
    [
        (vit_base, "linear", {}, 27_773_424, 27.8),
        (vit_base, "hst", {"size": "L"}, 30_522_352, 30.6),
        (vit_large, "linear", {}, 33_541_872, 33.6),
        (vit_large, "hst", {"size": "L"}, 39_254_576, 39.25),  # the table says 39.62, which no reading of it explains
    ],
)
def test_trained_weights_are_those_of_the_table_of_hst(vit, method, options, weights, printed):
    with torch.device("meta"):
        encoder = petlbench.load(method)(**options).attach(vit())
    assert trained_weights(encoder) == weights
    assert weights / 1e6 == pytest.approx(printed, abs=0.09)


@pytest.mark.parametrize(
    ("method", "options", "weights", "printed"),
    [("linear", {}, 65_608_626, 65.6), ("hst", {"size": "L"}, 68_357_554, 68.4)],
)
def test_trained_weights_of_the_cascade_are_those_of_the_table_of_hst(method, options, weights, printed):
    with torch.device("meta"):
        encoder = petlbench.load(method)(**options).attach(vit_base())
    assert trained_weights(encoder, CascadeMaskRCNN) == weights
    assert weights / 1e6 == pytest.approx(printed, abs=0.09)


def test_every_loss_is_finite_and_reaches_every_weight_and_every_map():
    head, inputs = detector(), maps(2, 64, 64)
    targets = [target((64, 64), (64, 64), (4, 4, 30, 30), (20, 30, 60, 60)), target((64, 64), (64, 64), (8, 8, 40, 24))]
    losses = head.losses(inputs, torch.zeros(2, 3, 64, 64), targets)
    assert set(losses) == {"rpn_objectness", "rpn_box", "loss_classifier", "loss_box_reg", "loss_mask"}
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert all(each.grad.abs().sum() > 0 for each in inputs)


def test_images_without_objects_have_finite_losses():
    losses = detector().losses(maps(1, 64, 64), torch.zeros(1, 3, 64, 64), [target((64, 64), (64, 64))])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()


def test_predictions_lie_within_the_image_not_in_its_padding():
    head = detector().eval()
    head.roi.score_thresh = 0.0
    with torch.inference_mode():
        wide, tall = head.predict(maps(2, 96, 96), torch.zeros(2, 3, 96, 96), [(40, 90), (96, 33)])
    for found, (height, width) in ((wide, (40, 90)), (tall, (96, 33))):
        assert 0 < len(found["boxes"]) <= 100
        assert found["boxes"][:, 0::2].max() <= width
        assert found["boxes"][:, 1::2].max() <= height
        assert found["masks"].shape == (len(found["boxes"]), 28, 28)
        assert (found["scores"].diff() <= 0).all()
        assert set(found["labels"].tolist()) <= {1, 2, 3}


def test_an_anchor_in_the_padding_becomes_no_proposal_however_high_it_scores():
    head, size = detector().eval(), (32, 64)
    head.rpn.head = Loud()
    with torch.inference_mode():
        levels = head.levels(maps(1, 64, 64))
        (proposals,), _ = head.rpn(ImageList(torch.zeros(1, 3, 64, 64), [size]), levels)
        (anchors,) = head.rpn.anchor_generator(ImageList(torch.zeros(1, 3, 64, 64), [size]), list(levels.values()))
    allowed = clip_boxes_to_image(anchors[is_inside(anchors, size)], size)
    assert len(proposals)
    assert (box_iou(proposals, allowed).max(dim=1).values > 0.99).all()


class Loud(torch.nn.Module):
    """An RPN head that likes an anchor the better the further down it is, and moves none."""

    def forward(self, levels):
        rows = [torch.linspace(0, 5, each.shape[2]).view(1, 1, -1, 1) for each in levels]
        scores = [row.expand(1, 3, -1, each.shape[3]) for row, each in zip(rows, levels, strict=True)]
        return scores, [torch.zeros(1, 12, *each.shape[2:]) for each in levels]


def test_an_anchor_in_the_padding_is_neither_object_nor_background():
    head, size, seen = detector(), (32, 64), []
    sample = head.rpn.fg_bg_sampler
    head.rpn.fg_bg_sampler = lambda labels: seen.extend(labels) or sample(labels)
    inputs, images = maps(1, 64, 64), torch.zeros(1, 3, 64, 64)
    head.losses(inputs, images, [target(size, (64, 64), (4, 4, 28, 28))])
    (anchors,) = head.rpn.anchor_generator(ImageList(images, [size]), list(head.levels(inputs).values()))
    (labels,) = seen
    assert (labels[~is_inside(anchors, size)] == -1).all()
    assert set(labels[is_inside(anchors, size)].tolist()) >= {0, 1}


def test_regions_are_cropped_as_torchvision_crops_them_but_for_half_a_pixel():
    """A shift of the box by half a position of the map makes torchvision's crops out of ours."""
    torch.manual_seed(0)
    features = {str(level): torch.randn(2, 4, 64 >> level, 64 >> level) for level in range(4)}
    boxes = [torch.tensor([[8.0, 8.0, 40.0, 60.0], [30.0, 20.0, 90.0, 100.0]]), torch.tensor([[0.0, 0.0, 60.0, 50.0]])]
    theirs = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, sampling_ratio=-1)
    shifted = [each + 2.0 for each in boxes]  # half a position at stride 4, where boxes of this size are cropped
    torch.testing.assert_close(
        RoIAlign(7)(features, shifted, None), theirs(features, boxes, [(256, 256)] * 2), atol=1e-5, rtol=1e-5
    )


def test_the_larger_a_box_the_coarser_the_level_it_is_cropped_from():
    features = {str(level): torch.full((1, 1, 128 >> level, 128 >> level), float(level)) for level in range(4)}
    boxes = [torch.tensor([[0.0, 0.0, side, side] for side in (50.0, 112.0, 224.0, 448.0)])]
    assert RoIAlign(2)(features, boxes, None).mean((1, 2, 3)).tolist() == [0, 1, 2, 3]


def test_half_precision_does_not_round_boxes():
    """bfloat16 has 8 digits: from 256 on it would know even coordinates only."""
    head = detector().eval()
    head.roi.score_thresh = 0.0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        (found,) = head.predict(maps(1, 512, 512), torch.zeros(1, 3, 512, 512), [(509, 511)])
    assert found["boxes"].dtype == torch.float32
    assert (found["boxes"] != found["boxes"].bfloat16().float()).any()
    head.train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = head.losses(maps(1, 64, 64), torch.zeros(1, 3, 64, 64), [target((64, 64), (64, 64), (4, 4, 30, 30))])
    assert all(loss.isfinite() for loss in losses.values())


def test_it_survives_a_journey_to_another_process():
    head = detector().eval()
    torch.manual_seed(1)
    inputs = maps(1, 64, 64)
    with torch.inference_mode():
        here, there = (each.predict(inputs, torch.zeros(1, 3, 64, 64), [(64, 64)])[0] for each in (head, pickled(head)))
    assert torch.equal(here["boxes"], there["boxes"])
