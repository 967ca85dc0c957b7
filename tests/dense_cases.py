"""Maps, targets and small detectors for the tests of dense heads."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

from petlbench.dense.mask_rcnn import MaskRCNN, Sizes
from petlbench.encoder import ViT

SMALL = Sizes(width=16, hidden=32, box_convs=1, mask_convs=1, anchors=(8, 16, 32, 64, 128), regions=16, proposals=50)


def vit_large() -> ViT:
    """ViT-L/16 without memory for its weights: to count, not to compute."""
    with torch.device("meta"):
        return ViT(VisionTransformer(embed_dim=1024, depth=24, num_heads=16))


def detector(
    kind: type[MaskRCNN] = MaskRCNN,
    classes: int = 3,
    channels: Sequence[int] = (8,) * 4,
    strides: Sequence[int] = (16,) * 4,
) -> Any:
    """A detector of few weights, by default for the maps below."""
    torch.manual_seed(0)
    return kind(channels, strides, classes, SMALL)


def maps(batch: int, height: int, width: int) -> list[torch.Tensor]:
    """What a ViT of patches of 16 pixels and width 8 makes of images of that size."""
    return [torch.randn(batch, 8, height // 16, width // 16, requires_grad=True) for _ in range(4)]


def target(size: tuple[int, int], padded: tuple[int, int], *boxes: tuple[int, int, int, int]) -> dict[str, Any]:
    """Objects of class 1 that fill their boxes."""
    masks = torch.zeros(len(boxes), *padded, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return {"boxes": corners, "labels": torch.ones(len(boxes), dtype=torch.int64), "masks": masks, "size": size}
