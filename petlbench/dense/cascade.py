"""Cascade Mask R-CNN: three RoI heads in a row, each trained on the boxes of the one before and stricter than it.

    proposals -> stage 1 (IoU 0.5) -> boxes -> stage 2 (IoU 0.6) -> boxes -> stage 3 (IoU 0.7) -> boxes
                      '---- scores ------------------'---- scores ----- mean ----'

What is an object, how regions are drawn and how losses count is as in mmdetection: every stage draws its regions anew
out of the boxes it is handed and the true ones, and trains a mask on them. Scores are averaged as probabilities, as
in detectron2. Each stage has four convolutions and one fully connected layer, boxes per class and a mask head of its
own: that is what the parameter column of the HST paper counts (65.6 M for linear probing on ViT-B). Different on
purpose: GroupNorm in the convolutions, where ViT-Adapter has BatchNorm over all GPUs; it has as many weights and does
not care how a batch is split.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference, maskrcnn_loss
from torchvision.ops import clip_boxes_to_image

from petlbench.dense.head import Target
from petlbench.dense.mask_rcnn import BoxPredictor, MaskPredictor, MaskRCNN, RoIAlign, Size, Sizes, mask_head

STAGES = (
    (0.5, (10.0, 10.0, 5.0, 5.0), 1.0),
    (0.6, (20.0, 20.0, 10.0, 10.0), 0.5),
    (0.7, (30.0, 30.0, 15.0, 15.0), 0.25),
)
"""Of each stage: the IoU from which on a box is an object, what the deltas are multiplied by, weight of the loss."""


class CascadeMaskRCNN(MaskRCNN):
    """Mask R-CNN with the RoI heads of Cai and Vasconcelos (2018)."""

    def roi_heads(self, classes: int, sizes: Sizes) -> RoIHeads:
        return CascadeRoIHeads([Stage(classes, sizes, *constants) for constants in STAGES], sizes)

    def look(self, levels: dict[str, Tensor]) -> list[Tensor]:
        roi: Any = self.roi
        said = [stage.box(roi.box_roi_pool.spread(levels, self.proposals)) for stage in roi.stages]
        crops = roi.mask_roi_pool.spread(levels, self.detections)
        return [*(each for both in said for each in both), *(stage.mask(crops) for stage in roi.stages)]


class Stage(nn.Module):
    """One of the heads in the row, and what it takes for an object."""

    def __init__(self, classes: int, sizes: Sizes, iou: float, deltas: tuple[float, ...], weight: float) -> None:
        super().__init__()
        norm = partial(nn.GroupNorm, min(32, sizes.width // 4))
        convs = [sizes.width] * sizes.box_convs
        self.box = nn.Sequential(
            FastRCNNConvFCHead((sizes.width, 7, 7), convs, [sizes.hidden], norm_layer=norm),
            BoxPredictor(sizes.hidden, classes),
        )
        self.mask = nn.Sequential(mask_head(sizes), MaskPredictor(sizes.width, sizes.width, classes))
        self.matcher = Matcher(iou, iou, allow_low_quality_matches=False)
        self.coder = BoxCoder(deltas)
        self.weight = weight


class CascadeRoIHeads(RoIHeads):
    """torchvision's RoI heads, with stages in place of the one box head."""

    def __init__(self, stages: Sequence[Stage], sizes: Sizes) -> None:
        nn.Module.__init__(self)  # not that of RoIHeads, which would build the one head
        self.stages = nn.ModuleList(stages)
        self.box_roi_pool, self.mask_roi_pool = RoIAlign(7), RoIAlign(14)
        self.fg_bg_sampler = BalancedPositiveNegativeSampler(sizes.regions, 0.25)
        self.box_coder = stages[-1].coder
        self.score_thresh, self.nms_thresh, self.detections_per_img = 0.05, 0.5, sizes.detections

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[Size],
        targets: Sequence[Target] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """The detections of each image, or the losses where there are targets; the other of the two is empty."""
        if targets is None:
            return self.detect(features, proposals, image_shapes), {}
        losses: dict[str, Tensor] = {}
        for number, stage in enumerate(cast("list[Stage]", list(self.stages)), start=1):
            boxes, labels, matched, is_true = self.regions(stage, proposals, targets)
            scores, deltas = stage.box(self.box_roi_pool(features, boxes, image_shapes))
            parts = box_losses(stage, scores, deltas, boxes, labels, matched, targets)
            parts["mask"] = self.mask_loss(stage, features, boxes, labels, matched, image_shapes, targets)
            losses |= {f"stage{number}_{name}": stage.weight * loss for name, loss in parts.items()}
            moved = refine(stage, scores, deltas, boxes, image_shapes, labels)
            proposals = [
                each[~true & (each[:, 2:] > each[:, :2]).all(dim=1)] for each, true in zip(moved, is_true, strict=True)
            ]
        return [], losses

    def regions(
        self, stage: Stage, proposals: list[Tensor], targets: Sequence[Target]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Draw what a stage is trained on out of the boxes of the stage before and the true ones.

        Per image: the boxes (R, 4), their labels (R,) with 0 for the background, the index (R,) of the object that
        each was compared with, and whether it is (R,) the box of that object itself.
        """
        true = [target["boxes"] for target in targets]
        boxes = self.add_gt_proposals(proposals, true)
        self.proposal_matcher = stage.matcher
        matched, labels = self.assign_targets_to_proposals(boxes, true, [target["labels"] for target in targets])
        drawn = self.subsample(labels)
        is_true = [index >= len(each) for each, index in zip(proposals, drawn, strict=True)]
        boxes, labels, matched = (
            [each[index] for each, index in zip(whole, drawn, strict=True)] for whole in (boxes, labels, matched)
        )
        return boxes, labels, matched, is_true

    def mask_loss(
        self,
        stage: Stage,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        labels: list[Tensor],
        matched: list[Tensor],
        image_shapes: list[Size],
        targets: Sequence[Target],
    ) -> Tensor:
        """Cross-entropy of the masks of those regions that hold an object."""
        held = [label > 0 for label in labels]
        boxes = [each[index] for each, index in zip(boxes, held, strict=True)]
        matched = [each[index] for each, index in zip(matched, held, strict=True)]
        scores = stage.mask(self.mask_roi_pool(features, boxes, image_shapes))
        masks, classes = [target["masks"] for target in targets], [target["labels"] for target in targets]
        return maskrcnn_loss(scores, boxes, masks, classes, matched)

    def detect(
        self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[Size]
    ) -> list[dict[str, Tensor]]:
        """Boxes of the last stage, with scores and masks that are means over all stages."""
        stages = cast("list[Stage]", list(self.stages))
        probabilities = []
        for stage in stages:
            scores, deltas = stage.box(self.box_roi_pool(features, boxes, image_shapes))
            probabilities.append(scores.softmax(dim=1))
            if stage is not stages[-1]:
                boxes = refine(stage, scores, deltas, boxes, image_shapes)
        mean = torch.stack(probabilities).mean(dim=0).log()  # of which torchvision takes the softmax: the mean again
        found = self.postprocess_detections(mean, deltas, boxes, image_shapes)
        crops = self.mask_roi_pool(features, found[0], image_shapes)
        masks = torch.stack([stage.mask(crops).sigmoid() for stage in stages]).mean(dim=0).logit()
        return [
            dict(zip(("boxes", "scores", "labels", "masks"), each, strict=True))
            for each in zip(*found, maskrcnn_inference(masks, found[2]), strict=True)
        ]


def box_losses(
    stage: Stage,
    scores: Tensor,
    deltas: Tensor,
    boxes: list[Tensor],
    labels: list[Tensor],
    matched: list[Tensor],
    targets: Sequence[Target],
) -> dict[str, Tensor]:
    """Cross-entropy of the classes of all regions, and smooth L1 of the deltas of those that hold an object."""
    label = torch.cat(labels)
    (held,) = torch.where(label > 0)
    true = [
        target["boxes"][index] if len(target["boxes"]) else torch.zeros_like(each)
        for target, index, each in zip(targets, matched, boxes, strict=True)
    ]
    wanted = torch.cat(stage.coder.encode(true, boxes))[held]
    said = deltas.unflatten(1, (-1, 4))[held, label[held]]
    box = smooth_l1_loss(said, wanted, reduction="sum") / max(len(label), 1)
    return {"classifier": cross_entropy(scores, label), "box": box}


@torch.no_grad()
def refine(
    stage: Stage,
    scores: Tensor,
    deltas: Tensor,
    boxes: list[Tensor],
    image_shapes: list[Size],
    labels: list[Tensor] | None = None,
) -> list[Tensor]:
    """Move boxes (N, 4) by the deltas of their class: the true one where it is known, else that of the best score."""
    classes = scores[:, 1:].argmax(dim=1) + 1
    if labels is not None:
        label = torch.cat(labels)
        classes = torch.where(label > 0, label, classes)
    moved = stage.coder.decode(deltas, boxes).reshape(len(classes), deltas.shape[1] // 4, 4)
    moved = moved[torch.arange(len(classes), device=classes.device), classes]
    parts = moved.split([len(each) for each in boxes])
    return [clip_boxes_to_image(part, size) for part, size in zip(parts, image_shapes, strict=True)]
