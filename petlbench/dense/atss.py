"""ATSS on an encoder's maps: one box per position, and a rule of statistics for which positions learn which object.

    maps -> strides 8 to 32 -> feature pyramid -> strides 8 to 128 --+--> 4 convolutions -> a score for each class
                                                                     '--> 4 convolutions -> box, centerness

Every position of a level has one square anchor. An object's candidates are, on each level, the nine anchors whose
middles lie nearest to its own; those of them are positive whose IoU with it reaches the mean plus the deviation of all
its candidates' IoUs, and whose middle lies within it. Nothing is set by hand but the nine (Zhang et al. 2020, "Bridging
the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training Sample Selection").

Settings, losses and their weights are mmdetection's (configs/atss). The map of stride 4 is not used, so what brings a
plain ViT's first map there is not built; the 15.6 M weights in HST's table count it (4.72 M).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import (
    FeaturePyramidNetwork,
    batched_nms,
    box_iou,
    clip_boxes_to_image,
    generalized_box_iou_loss,
    sigmoid_focal_loss,
)
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from petlbench.dense.head import DenseHead, Target
from petlbench.dense.mask_rcnn import Size, Sizes, is_inside
from petlbench.dense.pyramid import STRIDES, scale

LEVELS = (8, 16, 32, 64, 128)
"""Strides of the levels."""
CANDIDATES = 9
"""Candidates of an object on each level."""
BOX_WEIGHT = 2.0
"""Weight of the loss of boxes."""
PRIOR = 0.01
"""Probability of each class at the start, so that the many negatives do not swamp the first steps."""
SCORE, OVERLAP = 0.05, 0.6
"""Lowest score of a class that is looked at, and IoU above which the lesser of two boxes of a class is dropped."""


class ATSS(DenseHead):
    """Neck and head of a one-stage detector: boxes, no masks."""

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], classes: int, sizes: Sizes | None = None
    ) -> None:
        """`channels` and `strides` are those of the encoder, `classes` are counted without a background.

        Of `sizes`, the anchors say how many strides long the side of an anchor is, `box_convs` how many convolutions
        are in front of each output; `candidates`, `detections` and `width` are as in Mask R-CNN.
        """
        super().__init__()
        sizes = sizes or Sizes()
        used = list(zip(channels, strides, STRIDES, strict=True))[1:]
        width, self.classes = sizes.width, classes
        self.rescale = nn.ModuleList(scale(*each) for each in used)
        self.pyramid = FeaturePyramidNetwork([each for each, _, _ in used], width, LastLevelP6P7(width, width))
        self.scoring, self.placing = (tower(width, sizes.box_convs) for _ in range(2))
        self.score = nn.Conv2d(width, classes, 3, padding=1)
        self.box = nn.Conv2d(width, 4, 3, padding=1)
        self.centerness = nn.Conv2d(width, 1, 3, padding=1)
        self.factors = nn.Parameter(torch.ones(len(LEVELS)))
        """Of the boxes of each level."""
        self.side = sizes.anchors[0] / STRIDES[0]
        self.candidates, self.detections = sizes.candidates[1], sizes.detections
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        for module in (self.scoring, self.placing, self.score, self.box, self.centerness):
            module.apply(initialise)
        nn.init.constant_(self.score.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def losses(self, maps: list[Tensor], images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Focal loss of the classes, GIoU of the boxes, cross-entropy of the centerness, each per positive anchor.

        A target holds "boxes" (N, 4) as corners in pixels, "labels" (N,) from 1 and "size", the height and width of
        the image without its padding. N may be 0.
        """
        levels = self.levels(maps)
        scores, deltas, centerness = (torch.cat(each, dim=1) for each in list(zip(*levels, strict=True))[:3])
        anchors = torch.cat([level.anchors for level in levels])
        parts: list[tuple[Tensor, ...]] = []
        for index, target in enumerate(targets):
            inside = [is_inside(level.anchors, target["size"]) for level in levels]
            matched = assign([level.anchors for level in levels], inside, target["boxes"])
            (held,) = torch.where(matched >= 0)
            wanted = torch.zeros_like(scores[index])
            wanted[held, target["labels"][matched[held]] - 1] = 1.0
            here, true = torch.cat(inside), target["boxes"][matched[held]]
            found = self.coder.decode_single(deltas[index, held], anchors[held])
            said = scores[index, here], wanted[here], found, true, centerness[index, held]
            parts.append((*said, centred(anchors[held], true)))
        logits, wanted, found, true, middle, weight = (torch.cat(each) for each in zip(*parts, strict=True))
        positive = max(len(found), 1)
        box = (generalized_box_iou_loss(found, true) * weight).sum() / weight.sum().clamp(min=1e-6)
        return {
            "classifier": sigmoid_focal_loss(logits, wanted, alpha=0.25, gamma=2.0, reduction="sum") / positive,
            "box": BOX_WEIGHT * box,
            "centerness": binary_cross_entropy_with_logits(middle, weight, reduction="sum") / positive,
        }

    def predict(self, maps: list[Tensor], images: Tensor, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        """Per image, best first: "boxes" (N, 4), "labels" (N,) from 1 and "scores" (N,), of class times centerness."""
        levels = self.levels(maps)
        return [self.found(levels, index, size) for index, size in enumerate(sizes)]

    def found(self, levels: Sequence[Level], index: int, size: Size) -> dict[str, Any]:
        """What there is in an image of the batch."""
        parts = []
        for level in levels:
            likely = level.scores[index].sigmoid() * is_inside(level.anchors, size).unsqueeze(1)
            best, places = likely.flatten().topk(min(self.candidates, likely.numel()))
            places = places[best > SCORE]
            anchor, label = places // self.classes, places % self.classes
            boxes = self.coder.decode_single(level.deltas[index, anchor], level.anchors[anchor])
            score = likely[anchor, label] * level.centerness[index, anchor].sigmoid()
            parts.append((clip_boxes_to_image(boxes, size), score, label + 1))
        boxes, scores, labels = (torch.cat(each) for each in zip(*parts, strict=True))
        kept = batched_nms(boxes, scores, labels, OVERLAP)[: self.detections]
        return {"boxes": boxes[kept], "labels": labels[kept], "scores": scores[kept]}

    def forward(self, maps: list[Tensor]) -> Tensor:
        """All numbers that `predict` looks at, in one row: what is counted and timed."""
        return torch.cat([each.flatten() for level in self.levels(maps) for each in level[:3]])

    def levels(self, maps: list[Tensor]) -> list[Level]:
        """What the head says, in float32, since half precision would round the coordinates of a box."""
        used = [scale(each) for scale, each in zip(self.rescale, maps[1:], strict=True)]
        pyramid = self.pyramid(OrderedDict((str(level), each) for level, each in enumerate(used)))
        found = []
        for each, factor, stride in zip(pyramid.values(), self.factors, LEVELS, strict=True):
            placed = self.placing(each)
            outputs = self.score(self.scoring(each)), self.box(placed) * factor, self.centerness(placed)
            scores, deltas, centerness = (output.float().flatten(2).transpose(1, 2) for output in outputs)
            anchors = squares(each.shape[-2], each.shape[-1], stride, self.side * stride).to(each.device)
            found.append(Level(scores, deltas, centerness.squeeze(2), anchors))
        return found


class Level(NamedTuple):
    """What a head says about the A positions of a level."""

    scores: Tensor
    """(B, A, classes), logits."""
    deltas: Tensor
    """(B, A, 4), from the anchors to the boxes."""
    centerness: Tensor
    """(B, A), logits."""
    anchors: Tensor
    """(A, 4), corners in pixels."""


def tower(width: int, convolutions: int) -> nn.Sequential:
    """Convolutions in front of an output, shared by all levels."""
    layers: list[nn.Module] = []
    for _ in range(convolutions):
        layers += [
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(min(32, width // 4), width),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def initialise(module: nn.Module) -> None:
    """Starting weights of a convolution, as in mmdetection."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def squares(rows: int, columns: int, stride: int, side: float) -> Tensor:
    """An anchor (rows * columns, 4) around the first pixel of each position of a level, row by row."""
    y, x = torch.meshgrid(torch.arange(rows) * stride, torch.arange(columns) * stride, indexing="ij")
    middles = torch.stack([x, y], dim=2).flatten(0, 1).float()
    return torch.cat([middles - side / 2, middles + side / 2], dim=1)


def middles(boxes: Tensor) -> Tensor:
    """From corners (N, 4) to (N, 2)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


@torch.no_grad()
def assign(levels: Sequence[Tensor], inside: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """The object that each anchor of all levels learns, or -1: (A,), from anchors (A_l, 4) and objects (N, 4).

    Anchors that are not `inside` the image do not exist. Of several objects an anchor learns the one it overlaps most.
    """
    anchors = torch.cat(list(levels))
    if not len(boxes):
        return torch.full((len(anchors),), -1, device=anchors.device)
    overlap = box_iou(anchors, boxes)  # (A, N)
    far = torch.cdist(middles(anchors), middles(boxes)).masked_fill(~torch.cat(list(inside)).unsqueeze(1), torch.inf)
    is_candidate = torch.zeros_like(overlap, dtype=torch.bool)
    start = 0
    for level in levels:
        part = slice(start, start := start + len(level))
        distances, nearest = far[part].topk(min(CANDIDATES, len(level)), dim=0, largest=False)
        is_candidate[part].scatter_(0, nearest, distances.isfinite())
    number = is_candidate.sum(0)
    mean = (overlap * is_candidate).sum(0) / number.clamp(min=1)
    deviation = (((overlap - mean).square() * is_candidate).sum(0) / (number - 1).clamp(min=1)).sqrt()
    x, y = middles(anchors).T.unsqueeze(2)  # (A, 1) each
    left, top, right, bottom = boxes.T
    holds = torch.stack([x - left, y - top, right - x, bottom - y]).amin(0) > 0.01
    positive = is_candidate & (overlap >= mean + deviation) & holds
    best, matched = overlap.masked_fill(~positive, -1.0).max(dim=1)
    return matched.masked_fill(best < 0, -1)


def centred(anchors: Tensor, boxes: Tensor) -> Tensor:
    """How near the middles of anchors (N, 4) are to those of their boxes (N, 4): 1 there, 0 at the border."""
    near, far = middles(anchors) - boxes[:, :2], boxes[:, 2:] - middles(anchors)
    return (torch.minimum(near, far) / torch.maximum(near, far)).prod(dim=1).sqrt()
