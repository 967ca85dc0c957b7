"""AdaptFormer: a small bottleneck works beside the MLP of every block and its output is added to that of the block.

As in the official code, and unlike the equation of the paper, the bottleneck reads the tokens without a LayerNorm.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as with_
from typing import Any

from torch import Tensor, nn

from petlbench import blocks
from petlbench.encoder import Encoder, Swin, ViT
from petlbench.errors import InputError
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, PETL_VIT
from petlbench.surgery import replace


@dataclass(frozen=True, kw_only=True)
class AdaptFormer(Method):
    """Makes z + MLP(LN(z)) + scale * A(z) of the second half of every block, z being what its first half returns."""

    family = "adapter"
    paper = Paper(
        title="AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition",
        authors="Shoufa Chen and Chongjian Ge and Zhan Tong and Jiangliu Wang and Yibing Song and Jue Wang "
        "and Ping Luo",
        year=2022,
        venue="Advances in Neural Information Processing Systems",
        arxiv="2205.13535",
        code="ShoufaChen/AdaptFormer",
    )
    printed = {"bottleneck=8": 0.16, "bottleneck=64": 1.19}
    recipes = {
        "vtab": with_(PETL_VIT, source=f"{PETL_VIT.source}; the official code has no VTAB-1K"),
        "mini": with_(MINI, lr=3e-2),
    }
    evaluate_every = 10  # as JieShibo/PETL-ViT, which prints the best of them
    grid = {  # OSU-MLB/ViT_PEFT_Vision, and the paper's own bottleneck
        "lr": (1e-3, 1e-2),
        "weight_decay": (1e-4, 1e-3),
        "bottleneck": (4, 16, 32, 64),
        "scale": (0.05, 0.1, 0.2),
    }

    bottleneck: int = 64
    """Inner width; the VTAB-1K tables of the field have 8."""
    scale: float = 0.1
    """Factor of the bottleneck's output."""
    dropout: float = 0.1
    """Of the inner values while training."""

    def __post_init__(self) -> None:
        if self.bottleneck < 1:
            raise InputError(f"adaptformer: bottleneck={self.bottleneck} must be at least 1")

    def attach(self, vit: ViT | Swin) -> Encoder:
        def adapt(block: Any) -> AdaptedBlock:
            return AdaptedBlock(block, Bottleneck(len(block.norm2.weight), self.bottleneck, self.dropout), self.scale)

        replace(vit, "**.blocks.*", adapt)
        return vit


class AdaptedBlock(nn.Module):
    """A transformer block with a bottleneck beside its MLP, (..., D) -> (..., D)."""

    def __init__(self, block: nn.Module, adapter: nn.Module, scale: float) -> None:
        super().__init__()
        blocks.check(block)
        self.block = block
        self.adapter = adapter
        self.scale = scale

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + blocks.attention(self.block, tokens)
        return tokens + blocks.mlp(self.block, tokens) + self.scale * self.adapter(tokens)  # outside drop-path


class Bottleneck(nn.Module):
    """Down to a few dimensions, ReLU, and up again; zero at the start. (..., D) -> (..., D)"""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.down = nn.Linear(width, inner)  # torch draws the weight Kaiming-uniform, as the official code does
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(inner, width)
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.up(self.dropout(self.down(tokens).relu()))
