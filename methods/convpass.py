"""Convpass: a bottleneck with a 3 x 3 convolution beside the attention and the MLP tells a patch about its neighbours.

                    tokens                                   inside of a bypass
                       |
               +---- norm -----+                      down     D -> h, quick GELU
               |               |                               |
         attention or MLP    bypass                   3 x 3 convolution over the grid of patches, quick GELU
               |               |                               |
           drop-path       drop-path, scale           up       h -> D, zero at the start
               |               |
               +--- tokens ----+

The class token, and any other token that is no patch, passes the convolution as an image of 1 x 1. The two drop-paths
of a half of a block draw apart. Different from the official code: the convolution can start as the identity for any
bottleneck, there for 8 only. Layer scale, which the backbones of the paper do not have, does not cover the bypass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import replace as with_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from petlbench import blocks
from petlbench.encoder import Encoder, ViT
from petlbench.errors import InputError
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, PETL_VIT
from petlbench.surgery import replace

Grid = tuple[int, int]
"""Rows and columns of patches."""
VTAB = {  # (scale, identity): tasks, from convpass/vtab/configs of the official code
    (1.0, True): ("caltech101", "clevr_count", "diabetic_retinopathy"),
    (0.1, True): ("cifar100", "sun397"),
    (0.1, False): ("clevr_dist", "dsprites_ori", "flowers102"),
    (10.0, True): ("dmlab", "eurosat", "patch_camelyon", "resisc45"),
    (100.0, False): ("dsprites_loc", "smallnorb_azi", "svhn"),
    (0.01, False): ("dtd",),
    (10.0, False): ("kitti_dist",),
    (1.0, False): ("pets", "smallnorb_ele"),
}


@dataclass(frozen=True, kw_only=True)
class Convpass(Method):
    """Makes x + F(LN(x)) + scale * P(LN(x)) of each half x + F(LN(x)) of every block."""

    family = "adapter"
    paper = Paper(
        title="Convolutional Bypasses Are Better Vision Transformer Adapters",
        authors="Shibo Jie and Zhi-Hong Deng and Shixuan Chen and Zhijuan Jin",
        year=2024,
        venue="European Conference on Artificial Intelligence",
        arxiv="2207.07039",
        code="JieShibo/PETL-ViT",
    )
    printed = {"": 0.33}
    recipes = {
        "vtab": with_(
            PETL_VIT, source="JieShibo/PETL-ViT (026e4f1) convpass/vtab/train.py; scale and start are set per task"
        ),
        "mini": with_(MINI, lr=1e-2),
    }
    evaluate_every = 10  # as the official code, which prints the best of them
    grid = {  # the values chosen by OSU-MLB/ViT_PEFT_Vision
        "lr": (1e-3, 1e-2),
        "weight_decay": (1e-4, 1e-3),
        "bottleneck": (8, 16),
        "scale": (0.01, 0.1, 1.0, 10.0, 100.0),
        "identity": (True, False),
    }

    bottleneck: int = 8
    """Channels h of the convolution."""
    scale: float = 1.0
    """Factor of every bypass."""
    identity: bool = True
    """Start the convolution as the identity; False for Xavier-uniform weights."""
    mlp: bool = True
    """Bypass the MLP too, not only the attention; False is Convpass-attn in the paper."""
    dropout: float = 0.1
    """Of the inner values, behind the convolution, while training."""

    def __post_init__(self) -> None:
        if self.bottleneck < 1:
            raise InputError(f"convpass: bottleneck={self.bottleneck} must be at least 1")

    def attach(self, vit: ViT) -> Encoder:
        def adapt(block: nn.Module) -> BypassedBlock:
            return BypassedBlock(block, self.bypass(vit), self.bypass(vit) if self.mlp else None, self.scale)

        vit = GridViT(vit.model)
        replace(vit, "blocks.*", adapt)
        return vit

    def bypass(self, vit: ViT) -> Bypass:
        """A bypass for one half of a block."""
        return Bypass(vit.width, self.bottleneck, self.identity, self.dropout)

    def published(self, suite: str, task: str) -> Mapping[str, Any]:
        found = [pair for pair, tasks in VTAB.items() if suite == "vtab" and task in tasks]
        return dict(zip(("scale", "identity"), found[0], strict=True)) if found and self.mlp else {}


class GridViT(ViT):
    """A ViT that tells its blocks how the patches lie."""

    def stream(self, images: Tensor) -> Iterator[Tensor]:
        grid = self.grid(images)
        tokens = self.embed(images)
        yield tokens
        for block in self.blocks:
            tokens = block(tokens, grid)
            yield tokens


class BypassedBlock(nn.Module):
    """A transformer block with a bypass of its attention and one of its MLP, (B, N, D) -> (B, N, D)."""

    def __init__(self, block: nn.Module, attention: Bypass, mlp: Bypass | None, scale: float) -> None:
        super().__init__()
        blocks.check(block)
        self.block: Any = block
        self.attention = attention
        self.mlp = mlp
        self.scale = scale

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        block = self.block
        normed = block.norm1(tokens)
        tokens = tokens + block.drop_path1(block.ls1(block.attn(normed)))
        tokens = tokens + self.scale * block.drop_path1(self.attention(normed, grid))
        normed = block.norm2(tokens)
        tokens = tokens + block.drop_path2(block.ls2(block.mlp(normed)))
        if self.mlp is None:
            return tokens
        return tokens + self.scale * block.drop_path2(self.mlp(normed, grid))


class Bypass(nn.Module):
    """Down to a few channels, a convolution over the patches, and up again; zero at the start."""

    def __init__(self, width: int, inner: int, identity: bool, dropout: float) -> None:
        super().__init__()
        self.down = nn.Linear(width, inner)
        self.conv = nn.Conv2d(inner, inner, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(inner, width)
        nn.init.xavier_uniform_(self.down.weight)
        (nn.init.dirac_ if identity else nn.init.xavier_uniform_)(self.conv.weight)
        for parameter in (self.down.bias, self.conv.bias, self.up.weight, self.up.bias):
            assert parameter is not None
            nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """From tokens (B, N, D), of which the last rows x columns are patches, to what is added to them."""
        inner = quick_gelu(self.down(tokens))  # (B, N, h)
        others, patches = inner.tensor_split([inner.shape[1] - grid[0] * grid[1]], dim=1)
        maps = patches.transpose(1, 2).unflatten(2, grid)  # (B, h, rows, columns)
        patches = self.conv(maps).flatten(2).transpose(1, 2)
        others = functional.linear(others, self.conv.weight[:, :, 1, 1], self.conv.bias)  # all it sees is the padding
        return self.up(self.dropout(quick_gelu(torch.cat([others, patches], dim=1))))


def quick_gelu(inputs: Tensor) -> Tensor:
    """The sigmoid approximation of GELU that CLIP made usual."""
    return inputs * torch.sigmoid(1.702 * inputs)
