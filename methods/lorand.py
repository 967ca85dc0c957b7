"""LoRand: adapters behind the attention and the MLP whose two matrices are sums of products of three small ones.

There is no official code; this is the paper's module with the starting values of a public re-implementation for SAM
(each factor and bias as torch would draw it for a linear layer of its shape), so it is not the identity at the start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import replace as with_
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from petlbench import blocks
from petlbench.encoder import Encoder, Swin, ViT
from petlbench.errors import InputError
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, PETL_VIT
from petlbench.surgery import replace


@dataclass(frozen=True, kw_only=True)
class LoRand(Method):
    """Makes y + GELU(y D) U of the output y of each half of a block, with D and U of low rank."""

    paper = Paper(
        title="1% VS 100%: Parameter-Efficient Low Rank Adapter for Dense Predictions",
        authors="Dongshuo Yin and Yiran Yang and Zhechao Wang and Hongfeng Yu and Kaiwen Wei and Xian Sun",
        year=2023,
        venue="Conference on Computer Vision and Pattern Recognition",
    )
    family = "adapter"
    recipes = {
        "vtab": with_(PETL_VIT, source=f"{PETL_VIT.source}; the paper has dense tasks only"),
        "mini": with_(MINI, lr=1e-2),
    }
    grid = {
        "lr": (1e-3, 1e-2),  # this and the decay as OSU-MLB/ViT_PEFT_Vision
        "weight_decay": (1e-4, 1e-3),
        "rank": (4, 8, 16),
    }

    branches: int = 2
    """Products that are summed, alpha in the paper."""
    rank: int = 8
    """Inner width of every product, beta in the paper."""
    reduction: int = 2
    """Width of the block over the inner width of the adapter."""

    def __post_init__(self) -> None:
        for name in ("branches", "rank", "reduction"):
            if getattr(self, name) < 1:
                raise InputError(f"lorand: {name}={getattr(self, name)} must be at least 1")

    def attach(self, vit: ViT | Swin) -> Encoder:
        replace(vit, "**.blocks.*", partial(AdaptedBlock, branches=self.branches, rank=self.rank, ratio=self.reduction))
        return vit


class AdaptedBlock(nn.Module):
    """A block with an adapter behind each of its halves, in front of the residual sum. Tokens keep their shape."""

    def __init__(self, block: Any, branches: int, rank: int, ratio: int) -> None:
        super().__init__()
        blocks.check(block)
        self.block = block
        width = block.attn.proj.out_features
        self.attention_adapter = Adapter(width, width // ratio, branches, rank)
        self.mlp_adapter = Adapter(width, width // ratio, branches, rank)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention_adapter(blocks.attention(self.block, tokens))
        return tokens + self.mlp_adapter(blocks.mlp(self.block, tokens))


class Adapter(nn.Module):
    """Down, GELU and up with a residual, (..., D) -> (..., D); both matrices have the same kernels in their middle."""

    def __init__(self, width: int, inner: int, branches: int, rank: int) -> None:
        super().__init__()
        self.kernels = factor(branches, rank, rank)
        self.down_in, self.down_out = factor(branches, width, rank), factor(branches, rank, inner)
        self.up_in, self.up_out = factor(branches, inner, rank), factor(branches, rank, width)
        self.down_bias = nn.Parameter(torch.empty(inner).uniform_(-1, 1) / math.sqrt(width))
        self.up_bias = nn.Parameter(torch.empty(width).uniform_(-1, 1) / math.sqrt(inner))

    def forward(self, outputs: Tensor) -> Tensor:
        down = (self.down_in @ self.kernels @ self.down_out).sum(0)  # (D, inner)
        up = (self.up_in @ self.kernels @ self.up_out).sum(0)  # (inner, D)
        return outputs + linear(gelu(linear(outputs, down.T, self.down_bias)), up.T, self.up_bias)


def factor(branches: int, rows: int, columns: int) -> nn.Parameter:
    """One matrix for each branch, drawn as torch draws the weight of a linear layer with that many columns."""
    return nn.Parameter(torch.empty(branches, rows, columns).uniform_(-1, 1) / math.sqrt(columns))
