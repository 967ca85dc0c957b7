"""Res-Tuning-Bypass: a chain of bottlenecks runs beside a ViT that no gradient enters, and replaces it at the end.

             ViT, without gradients                      bypass

              embeddings --------------------------------> b
                  |                                        |
               block 1 -------- lateral tuner 1 ----> + <--- vertical tuner 1
                  |                                   |
                 ...                                 ...
                  |                                   |
               (unused)                        last norm of the ViT, head

As in the official code, b = T(x) + T'(b), where the paper weighs the two sums by lambda and 1 - lambda.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as with_

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from petlbench.encoder import Encoder, ViT
from petlbench.errors import InputError
from petlbench.method import Method
from petlbench.recipe import MINI

from .res_tuning import PAPER, VTAB


@dataclass(frozen=True, kw_only=True)
class ResTuningBypass(Method):
    """Trains two bottlenecks with a shortcut for every block: one for what the block returns, one for the bypass."""

    family = "side"
    paper = PAPER
    recipes = {
        "vtab": VTAB,
        "mini": with_(MINI, lr=1e-2),
    }
    grid = {
        "lr": (3e-4, 1e-3, 3e-3),
        "weight_decay": (1e-4, 1e-3),
        "length": (10, 32, 64),
    }

    length: int = 32
    """Inner width of the tuners, as in the examples of the official code; its default is 10."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InputError(f"res_tuning_bypass: length={self.length} must be at least 1")

    def attach(self, vit: ViT) -> Encoder:
        return Bypass(vit, self.length)


class Bypass(Encoder):
    """The ViT, without gradients, and the chain beside it. The pyramid is the chain behind a quarter, half, ..."""

    def __init__(self, vit: ViT, length: int) -> None:
        super().__init__()
        self.vit = vit
        self.width, self.channels, self.strides = vit.width, vit.channels, vit.strides
        self.lateral = nn.ModuleList(Tuner(vit.width, length) for _ in vit.blocks)
        self.vertical = nn.ModuleList(Tuner(vit.width, length) for _ in vit.blocks)

    def forward(self, images: Tensor) -> Tensor:
        bypass = None
        for bypass in self.chain(images):  # noqa: B007  only the last one is used, none is kept
            pass
        assert bypass is not None
        return self.vit.feature(bypass)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        taps = [(stage + 1) * self.vit.depth // 4 for stage in range(4)]
        links = enumerate(self.chain(images), start=1)
        kept = {link: self.vit.map(bypass, images) for link, bypass in links if link in taps}
        return [kept[tap] for tap in taps]

    def chain(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the tokens (B, N, D) of the bypass beside each block."""
        with torch.no_grad():
            tokens = self.vit.embed(images)
        bypass = tokens
        for block, lateral, vertical in zip(self.vit.blocks, self.lateral, self.vertical, strict=True):
            with torch.no_grad():
                tokens = block(tokens)
            bypass = lateral(tokens) + vertical(bypass)
            yield bypass


class Tuner(nn.Module):
    """A bottleneck with a shortcut, (B, N, D) -> (B, N, D)."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, length)
        self.up = nn.Linear(length, width)
        for linear in (self.down, self.up):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.normal_(linear.bias, std=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.up(gelu(self.down(tokens)))
