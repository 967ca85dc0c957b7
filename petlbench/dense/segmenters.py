"""Heads for segmentation: Semantic FPN and UPerNet, with as many weights as mmsegmentation's.

    Semantic FPN (Kirillov et al. 2019)           UPerNet (Xiao et al. 2018)
    maps -> Rescale -> feature pyramid            maps -> Rescale -> 1x1 each, pyramid pooling on the coarsest
         -> 3x3 and upsampling to stride 4             -> top down, 3x3 each -> all at stride 4, side by side
         -> sum -> 1x1: scores of the classes          -> 3x3 -> 1x1: scores; and an FCN head on the third map

On ViT-B and ADE20K, linear probing trains 11.87 M and 41.22 M weights with them, as the HST paper prints. The FCN head
of UPerNet is there in training only, and counts among its weights.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, interpolate

from petlbench.dense.head import DenseHead, Target
from petlbench.dense.images import IGNORED
from petlbench.dense.pyramid import FeaturePyramid, Rescale

DROPOUT = 0.1
"""Share of the channels that are dropped in front of the last layer, as in mmsegmentation."""


class Segmenter(DenseHead):
    """Scores every class at every pixel."""

    def losses(self, maps: list[Tensor], images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Cross-entropy; a target holds "map" (H, W) int64, in which 255 is ignored."""
        wanted = torch.stack([target["map"] for target in targets])
        return {name: self.weight(name) * entropy(scores, wanted) for name, scores in self.scores(maps).items()}

    def counted(self, targets: Sequence[Target]) -> float:
        """Pixels that are not ignored."""
        return float(sum(int((target["map"] != IGNORED).sum()) for target in targets))

    def predict(self, maps: list[Tensor], images: Tensor, sizes: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        """Per image, "scores" (C, height, width): logits of the classes."""
        scores = interpolate(self(maps).float(), images.shape[-2:], mode="bilinear", align_corners=False)
        return [{"scores": each[:, :height, :width]} for each, (height, width) in zip(scores, sizes, strict=True)]

    def weight(self, name: str) -> float:
        """How much a part of the loss counts."""
        return 1.0 if name == "segmentation" else 0.4

    def scores(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """The logits that are trained, by the name of their loss."""
        return {"segmentation": self(maps)}

    @abstractmethod
    def forward(self, maps: list[Tensor]) -> Tensor:
        """From an encoder's maps to logits (B, C, H / 4, W / 4)."""


class SemanticFPN(Segmenter):
    """A feature pyramid, whose levels are brought to stride 4 and summed."""

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], classes: int, width: int = 256, hidden: int = 128
    ) -> None:
        super().__init__()
        self.neck = FeaturePyramid(channels, strides, width)
        self.levels = nn.ModuleList(
            nn.ModuleList(convolution(width if step == 0 else hidden, hidden, 3) for step in range(max(1, level)))
            for level in range(4)
        )
        self.drop = nn.Dropout2d(DROPOUT)
        self.classify = classifier(hidden, classes)

    def forward(self, maps: list[Tensor]) -> Tensor:
        total = None
        for level, (steps, x) in enumerate(zip(self.levels, self.neck(maps)[:4], strict=True)):
            for step in steps:  # type: ignore[attr-defined]
                x = step(x)
                x = interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False) if level else x
            total = x if total is None else total + x
        assert total is not None
        return self.classify(self.drop(total))


class UPerNet(Segmenter):
    """Pyramid pooling on the coarsest map, a top-down pyramid, and all levels side by side."""

    POOLS = (1, 2, 3, 6)

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], classes: int, width: int = 512, hidden: int = 256
    ) -> None:
        """`hidden` is the width of the FCN head that helps in training."""
        super().__init__()
        self.rescale = Rescale(channels, strides)
        *finer, coarsest = channels
        self.pools = nn.ModuleList(convolution(coarsest, width, 1) for _ in self.POOLS)
        self.pooled = convolution(coarsest + len(self.POOLS) * width, width, 3)
        self.laterals = nn.ModuleList(convolution(each, width, 1) for each in finer)
        self.outputs = nn.ModuleList(convolution(width, width, 3) for _ in finer)
        self.together = convolution(4 * width, width, 3)
        self.drop = nn.Dropout2d(DROPOUT)
        self.classify = classifier(width, classes)
        self.helper = nn.Sequential(
            convolution(channels[2], hidden, 3), nn.Dropout2d(DROPOUT), classifier(hidden, classes)
        )

    def scores(self, maps: list[Tensor]) -> dict[str, Tensor]:
        maps = self.rescale(maps)
        return {"segmentation": self.decoded(maps), "auxiliary": self.helper(maps[2])}

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.decoded(self.rescale(maps))

    def decoded(self, maps: list[Tensor]) -> Tensor:
        """From maps at strides 4 to 32 to logits at stride 4."""
        top = maps[-1]
        pooled = [
            sized(pool(adaptive_avg_pool2d(top, size)), top) for size, pool in zip(self.POOLS, self.pools, strict=True)
        ]
        levels = [lateral(each) for lateral, each in zip(self.laterals, maps, strict=False)]
        levels.append(self.pooled(torch.cat([top, *pooled], 1)))
        for upper, lower in pairwise(reversed(range(4))):
            levels[lower] = levels[lower] + sized(levels[upper], levels[lower])
        outputs = [output(level) for output, level in zip(self.outputs, levels, strict=False)] + [levels[-1]]
        together = self.together(torch.cat([sized(each, outputs[0]) for each in outputs], 1))
        return self.classify(self.drop(together))


def convolution(before: int, after: int, size: int) -> nn.Module:
    """Convolution, BatchNorm and ReLU."""
    conv = nn.Conv2d(before, after, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def classifier(before: int, classes: int) -> nn.Conv2d:
    """The last layer, which starts near zero."""
    conv = nn.Conv2d(before, classes, 1)
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def sized(x: Tensor, like: Tensor) -> Tensor:
    """A map in the height and width of another."""
    return interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def entropy(scores: Tensor, wanted: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels that are not ignored; 0 where all are."""
    scores = interpolate(scores.float(), wanted.shape[-2:], mode="bilinear", align_corners=False)
    total = cross_entropy(scores, wanted, ignore_index=IGNORED, reduction="sum")
    return total / (wanted != IGNORED).sum().clamp(min=1)
