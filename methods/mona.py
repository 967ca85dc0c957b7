"""Mona: behind each half of a block, a bottleneck with depthwise convolutions of three sizes refines the tokens.

As in the official code, which is for Swin; the norms of the backbone stay frozen. In a ViT the class token and the
registers have no place on the grid of patches, so of each Mona they get all but the convolutions. The 1 x 1 convolution
is written as the linear layer that it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as with_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from petlbench import blocks
from petlbench.encoder import Encoder, Swin, ViT
from petlbench.errors import InputError
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, PETL_VIT
from petlbench.surgery import replace

SIZES = (3, 5, 7)
"""Of the kernels, in positions."""
Grid = tuple[int, int]
"""Rows and columns of patches."""


@dataclass(frozen=True, kw_only=True)
class Mona(Method):
    """Puts z + U GELU(C(D n(z))) in place of the tokens z behind each residual sum, n being a scaled norm."""

    paper = Paper(
        title="5%>100%: Breaking Performance Shackles of Full Fine-Tuning on Visual Recognition Tasks",
        authors="Dongshuo Yin and Leiyi Hu and Bin Li and Youqun Zhang and Xue Yang",
        year=2025,
        venue="Conference on Computer Vision and Pattern Recognition",
        arxiv="2408.08345",
        code="Leiyi-Hu/mona",
    )
    family = "adapter"
    recipes = {
        "vtab": with_(PETL_VIT, source=f"{PETL_VIT.source}; the official code has no VTAB-1K"),
        "mini": with_(MINI, lr=3e-3),
    }
    grid = {
        "lr": (1e-3, 1e-2),  # this and the decay as OSU-MLB/ViT_PEFT_Vision
        "weight_decay": (1e-4, 1e-3),
        "bottleneck": (16, 32, 64),
    }

    bottleneck: int = 64
    """Channels that are convolved."""
    dropout: float = 0.1
    """Of the inner values while training."""

    def __post_init__(self) -> None:
        if self.bottleneck < 1:
            raise InputError(f"mona: bottleneck={self.bottleneck} must be at least 1")

    def attach(self, vit: ViT | Swin) -> Encoder:
        encoder = Gridded(vit.model) if isinstance(vit, ViT) else vit
        replace(encoder, "**.blocks.*", lambda block: RefinedBlock(block, self.bottleneck, self.dropout))
        return encoder


class Gridded(ViT):
    """A ViT that tells its blocks how many rows and columns of patches there are."""

    def stream(self, images: Tensor) -> Iterator[Tensor]:
        grid, tokens = self.grid(images), self.embed(images)
        yield tokens
        for block in self.blocks:
            tokens = block(tokens, grid)
            yield tokens


class RefinedBlock(nn.Module):
    """A block with a refinement behind each of its residual sums. Tokens keep their shape."""

    def __init__(self, block: Any, inner: int, dropout: float) -> None:
        super().__init__()
        blocks.check(block)
        self.block = block
        width = block.attn.proj.out_features
        self.after_attention = Refinement(width, inner, dropout)
        self.after_mlp = Refinement(width, inner, dropout)

    def forward(self, tokens: Tensor, grid: Grid | None = None) -> Tensor:
        """From tokens (B, N, D) with the grid of their patches, or from a map (B, rows, columns, D), to the same."""
        tokens = self.after_attention(tokens + blocks.attention(self.block, tokens), grid)
        return self.after_mlp(tokens + blocks.mlp(self.block, tokens), grid)


class Refinement(nn.Module):
    """One Mona. It is not the identity at the start, as no layer of it begins with zeros."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.norm_scale = nn.Parameter(torch.full((width,), 1e-6))
        self.token_scale = nn.Parameter(torch.ones(width))
        self.down = nn.Linear(width, inner)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inner, inner, size, padding=size // 2, groups=inner) for size in SIZES
        )
        self.mix = nn.Linear(inner, inner)  # starts as torch does, unlike the two others
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(inner, width)
        for linear in (self.down, self.up):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, tokens: Tensor, grid: Grid | None) -> Tensor:
        """As `RefinedBlock.forward`."""
        inner = self.down(self.norm_scale * self.norm(tokens) + self.token_scale * tokens)
        if grid is None:
            inner = self.convolve(inner)
        else:
            prefix = inner.shape[1] - grid[0] * grid[1]
            patches = self.convolve(inner[:, prefix:].unflatten(1, grid)).flatten(1, 2)
            inner = torch.cat([inner[:, :prefix], patches], dim=1)
        inner = inner + self.mix(inner)
        return tokens + self.up(self.dropout(gelu(inner)))

    def convolve(self, inner: Tensor) -> Tensor:
        """Add to each position the mean of what the convolutions see around it: (B, rows, columns, channels)."""
        channels_first = inner.permute(0, 3, 1, 2)
        seen = sum(convolution(channels_first) for convolution in self.convolutions) / len(SIZES)
        return inner + seen.permute(0, 2, 3, 1)
