"""Mask R-CNN on an encoder's four maps: boxes that may hold an object, then the class, box and mask of each.

    maps -> FeaturePyramid -> RPN: where may an object be? -> RoI heads: which class, which box exactly, which pixels?

The parts are torchvision's; images are resized and padded before they come here. What is not torchvision's is what the
detectors of the field (mmdetection, detectron2) do otherwise, so that weights count and results compare with theirs:
RoIAlign without its shift by half a pixel; box deltas and masks for the classes only, not for the background (4,357
weights fewer for COCO); the start of the last layers; float32 behind the pyramid, so that half precision cannot round
the coordinates of a box. The losses are torchvision's, with smooth L1 (beta 1/9) where mmdetection has L1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

from petlbench.dense.head import DenseHead, Target
from petlbench.dense.pyramid import STRIDES, FeaturePyramid

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large a detector is. The defaults are those of mmdetection and detectron2 for COCO."""

    width: int = 256
    """Channels of the pyramid and of the convolutions behind it."""
    groups: int = 0
    """Of a GroupNorm behind the convolutions of the pyramid; the published detectors have none."""
    hidden: int = 1024
    """Width of the fully connected layers that classify a region."""
    box_convs: int = 4
    """Convolutions in front of a box, in a cascade."""
    mask_convs: int = 4
    """Convolutions in front of a mask."""
    anchors: tuple[int, int, int, int, int] = (32, 64, 128, 256, 512)
    """Side of the anchors of each level, in pixels; each has the shapes 2:1, 1:1 and 1:2."""
    candidates: tuple[int, int] = (2000, 1000)
    """Boxes per level that may become proposals, in training and in evaluation: those of the highest scores."""
    proposals: int = 1000
    """Boxes that are left after non-maximum suppression, over all levels."""
    regions: int = 512
    """Proposals per image, a quarter of them with an object, that the RoI heads are trained on."""
    detections: int = 100
    """Detections per image, at most."""


class MaskRCNN(DenseHead):
    """Neck, region proposal network and RoI heads (He et al. 2017)."""

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], classes: int, sizes: Sizes | None = None
    ) -> None:
        """`channels` and `strides` are those of the encoder; `classes` are counted without the background."""
        super().__init__()
        sizes = sizes or Sizes()
        self.neck = FeaturePyramid(channels, strides, sizes.width, sizes.groups)
        self.rpn = RPN(sizes)
        self.roi = self.roi_heads(classes, sizes)
        self.proposals, self.detections = sizes.proposals, sizes.detections

    def roi_heads(self, classes: int, sizes: Sizes) -> RoIHeads:
        """What looks at each proposal."""
        return RoIHeads(
            box_roi_pool=RoIAlign(7),
            box_head=TwoMLPHead(sizes.width * 7 * 7, sizes.hidden),
            box_predictor=BoxPredictor(sizes.hidden, classes),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=sizes.regions,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=0.05,
            nms_thresh=0.5,
            detections_per_img=sizes.detections,
            mask_roi_pool=RoIAlign(14),
            mask_head=mask_head(sizes),
            mask_predictor=MaskPredictor(sizes.width, sizes.width, classes),
        )

    def losses(self, maps: list[Tensor], images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Objectness and box of the proposals, then class, box and mask of the regions.

        A target holds "boxes" (N, 4) as corners in pixels, "labels" (N,) from 1, "masks" (N, H, W) and "size", the
        height and width of the image without its padding. N may be 0.
        """
        levels, sizes = self.levels(maps), [target["size"] for target in targets]
        proposals, losses = self.rpn(ImageList(images, sizes), levels, targets)
        _, others = self.roi(levels, proposals, sizes, targets)
        return losses | others

    def predict(self, maps: list[Tensor], images: Tensor, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        """Per image, best first: "boxes" (N, 4), "labels" (N,) from 1, "scores" (N,) and "masks" (N, 28, 28).

        A mask holds probabilities over the area of its box.
        """
        levels = self.levels(maps)
        proposals, _ = self.rpn(ImageList(images, list(sizes)), levels)
        found, _ = self.roi(levels, proposals, list(sizes))
        return [each | {"masks": each["masks"].squeeze(1)} for each in found]

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The arithmetic of `predict` for as many proposals and detections as there can be, whatever the image shows.

        What is found decides how much a detector computes; this, which is what is counted and timed, depends on the
        size of the image alone. Returns all numbers in one row.
        """
        levels = self.levels(maps)
        scores, deltas = self.rpn.head(list(levels.values()))
        found = self.look(levels)
        return torch.cat([each.flatten() for each in (*scores, *deltas, *found)])

    def look(self, levels: dict[str, Tensor]) -> list[Tensor]:
        """Scores and deltas of as many boxes as there are proposals, and masks of as many as there are detections."""
        roi: Any = self.roi
        scores, deltas = roi.box_predictor(roi.box_head(roi.box_roi_pool.spread(levels, self.proposals)))
        masks = roi.mask_predictor(roi.mask_head(roi.mask_roi_pool.spread(levels, self.detections)))
        return [scores, deltas, masks]

    def levels(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """The pyramid, finest level first."""
        return {str(level): each.float() for level, each in enumerate(self.neck(maps))}


class RPN(RegionProposalNetwork):
    """torchvision's region proposal network, for which anchors around a point of the padding do not exist."""

    def __init__(self, sizes: Sizes) -> None:
        shapes = (0.5, 1.0, 2.0)
        super().__init__(
            AnchorGenerator(tuple((side,) for side in sizes.anchors), (shapes,) * len(sizes.anchors)),
            RPNHead(sizes.width, len(shapes)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n=dict(zip(("training", "testing"), sizes.candidates, strict=True)),
            post_nms_top_n={"training": sizes.proposals, "testing": sizes.proposals},
            nms_thresh=0.7,
            score_thresh=torch.finfo(torch.float32).tiny,  # above that of an anchor that does not exist
        )

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: Sequence[Target] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals per image (P, 4), best first, and, where there are targets, the losses."""
        levels = list(features.values())
        scores, deltas = self.head(levels)
        per_level = [each[0].numel() for each in scores]
        scores, deltas = concat_box_prediction_layers(scores, deltas)
        anchors = self.anchor_generator(images, levels)
        exists = [is_inside(each, size) for each, size in zip(anchors, images.image_sizes, strict=True)]
        deltas = deltas.float()
        candidates = self.box_coder.decode(deltas.detach(), anchors).view(len(anchors), -1, 4)
        visible = scores.detach().flatten().float().masked_fill(~torch.cat(exists), -torch.inf)
        proposals, _ = self.filter_proposals(candidates, visible, images.image_sizes, per_level)
        if targets is None:
            return proposals, {}
        labels, boxes = self.assign_targets_to_anchors(anchors, targets)
        labels = [label.masked_fill(~here, -1.0) for label, here in zip(labels, exists, strict=True)]
        objectness, box = self.compute_loss(scores, deltas, labels, self.box_coder.encode(boxes, anchors))
        return proposals, {"rpn_objectness": objectness, "rpn_box": box}


def is_inside(anchors: Tensor, size: Size) -> Tensor:
    """Whether the middle of each anchor (A, 4) lies within the image: (A,)."""
    height, width = size
    x, y = (anchors[:, 0] + anchors[:, 2]) / 2, (anchors[:, 1] + anchors[:, 3]) / 2
    return (x < width) & (y < height)


class RoIAlign(nn.Module):
    """Crops of the pyramid, each from the level that suits the size of its box (equation 1 of the FPN paper)."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.level = LevelMapper(k_min=2, k_max=5)  # levels of strides 2^2 to 2^5

    def forward(self, features: dict[str, Tensor], boxes: list[Tensor], _: object) -> Tensor:
        """The crops (regions of all images, channels, side, side) of the boxes (N, 4) of each image."""
        maps = list(features.values())[: len(STRIDES)]
        image = torch.cat([each.new_full((len(each), 1), index) for index, each in enumerate(boxes)])
        regions = torch.cat([image, torch.cat(boxes)], dim=1)
        crops = maps[0].new_zeros(len(regions), maps[0].shape[1], self.side, self.side)
        levels = self.level(boxes) if len(regions) else regions.new_zeros(0)
        for level, (each, stride) in enumerate(zip(maps, STRIDES, strict=True)):
            (at,) = torch.where(levels == level)
            crops = crops.index_put((at,), roi_align(each, regions[at], self.side, 1 / stride, aligned=True))
        return crops

    def spread(self, features: dict[str, Tensor], count: int) -> Tensor:
        """As many crops of each image, the same number from each level: (images * count, channels, side, side)."""
        crops = []
        for level, (each, stride) in enumerate(zip(features.values(), STRIDES, strict=False)):
            own = len(range(level, count, len(STRIDES)))
            boxes = each.new_tensor([[0.0, 0.0, 14.0 * stride, 14.0 * stride]]).expand(own, 4)
            crops.append(roi_align(each, [boxes] * len(each), self.side, 1 / stride, aligned=True))
        return torch.cat(crops)


class BoxPredictor(FastRCNNPredictor):
    """Scores of the background and the classes, and the deltas of a box for each class."""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__(hidden, classes + 1)
        self.bbox_pred = nn.Linear(hidden, classes * 4)
        for layer, deviation in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, 1 + classes) and deltas (N, 4 * (1 + classes)); those of the background are zeros."""
        scores, deltas = super().forward(x)
        return scores.float(), pad(deltas.float(), (4, 0))


class MaskPredictor(MaskRCNNPredictor):
    """A mask per class; that of the background, which nobody asks for, is zeros."""

    def forward(self, x: Tensor) -> Tensor:
        """From (N, channels, 14, 14) to scores (N, 1 + classes, 28, 28)."""
        return pad(super().forward(x), (0, 0, 0, 0, 1, 0))


def mask_head(sizes: Sizes) -> MaskRCNNHeads:
    """The convolutions in front of a mask."""
    return MaskRCNNHeads(sizes.width, (sizes.width,) * sizes.mask_convs, dilation=1)
