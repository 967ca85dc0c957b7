"""From an encoder's four maps to a detector's pyramid: resolution modules, then a feature pyramid network.

    encoder.pyramid (a plain ViT)     Rescale                  FeaturePyramid       level, stride
    behind block 3, stride 16   ->    2 x transposed conv  ->  1x1 -- + -- 3x3  ->  0,  4
                                                                      ^
    behind block 6, stride 16   ->    transposed conv      ->  1x1 -- + -- 3x3  ->  1,  8
                                                                      ^
    behind block 9, stride 16   ->    as it is             ->  1x1 -- + -- 3x3  ->  2, 16
                                                                      ^
    behind block 12, stride 16  ->    max-pool             ->  1x1 -- + -- 3x3  ->  3, 32
                                                                             '->    4, 64 (every second position)

The resolution modules are those of Li et al. (2021), "Benchmarking Detection Transfer Learning with Vision
Transformers", which HST's baselines use; an encoder whose maps have strides 4, 8, 16 and 32 already needs none.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from petlbench.errors import InputError

STRIDES = (4, 8, 16, 32)
"""Pixels of the image per position of the four maps that every neck and head reads."""


class FeaturePyramid(nn.Module):
    """Rescale, then a top-down feature pyramid network (Lin et al. 2017): five levels of `width` channels."""

    strides = (*STRIDES, 64)

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int = 256, groups: int = 0) -> None:
        """`groups` are those of a GroupNorm behind every convolution, 0 for none."""
        super().__init__()
        norm = partial(nn.GroupNorm, groups) if groups else None
        self.rescale = Rescale(channels, strides)
        self.fpn = FeaturePyramidNetwork(list(channels), width, LastLevelMaxPool(), norm)
        self.width = width

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """From an encoder's maps to (B, width, H / stride, W / stride) for strides 4, 8, 16, 32 and 64."""
        maps = self.rescale(maps)
        return list(self.fpn(OrderedDict((str(level), each) for level, each in enumerate(maps))).values())


class Rescale(nn.Module):
    """Brings the four maps of an encoder to strides 4, 8, 16 and 32; each keeps its channels."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        """Raises InputError for a stride that no doubling or halving brings to the wanted one, such as 14."""
        super().__init__()
        self.scales = nn.ModuleList(
            scale(width, stride, wanted) for width, stride, wanted in zip(channels, strides, STRIDES, strict=True)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """From (B, channels[i], H / strides[i], W / strides[i]) to (B, channels[i], H / 4, W / 4), ... H / 32."""
        return [scale(each) for scale, each in zip(self.scales, maps, strict=True)]


def scale(width: int, stride: int, wanted: int) -> nn.Module:
    """From a map of one stride to another: a 2 x 2 transposed convolution per doubling, or a max-pool."""
    doublings = math.log2(stride / wanted)
    if not doublings.is_integer():
        raise InputError(
            f"--backbone: its maps have stride {stride} (size of its patches), which no doubling brings to {wanted}; "
            "dense suites take patches of 8, 16 or 32 pixels"
        )
    if doublings <= 0:
        factor = wanted // stride
        return nn.MaxPool2d(factor) if factor > 1 else nn.Identity()
    steps: list[nn.Module] = [nn.ConvTranspose2d(width, width, 2, stride=2)]
    for _ in range(int(doublings) - 1):
        steps += [nn.GroupNorm(math.gcd(32, width), width), nn.GELU(), nn.ConvTranspose2d(width, width, 2, stride=2)]
    return nn.Sequential(*steps)
