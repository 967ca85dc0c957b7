"""APT: what prompts would add to the attention is approximated behind it, without a prompt in the sequence.

    attention's inputs x -----------------> attention ------> + ------> times exp(s) ----->
               |                                              |
               +---> a = relu(x (T + T A B)^T) ---> max(a) * (a T)

T are the prompts, which serve as values and, changed by a thin product A B, as keys. The largest weight of a token, by
which its sum is multiplied, passes no gradient. Made for vision-language models (ViLT, METER); here it stands in each
block of a ViT, as in ViLT's. The official code also trains parts of those models, and commits 50 prompts for ViLT where
the printed count needs 200. Its dropout of the weights a is that of the attention, which is 0 there.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as with_
from typing import Any

import torch
from torch import Tensor, nn

from petlbench.encoder import Encoder, Swin, ViT
from petlbench.errors import InputError
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, PETL_VIT
from petlbench.surgery import replace


@dataclass(frozen=True, kw_only=True)
class APT(Method):
    """Adds approximated prompts to the output of every attention."""

    family = "prompt"
    paper = Paper(
        title="Approximated Prompt Tuning for Vision-Language Pre-trained Models",
        authors="Qiong Wu and Shubin Huang and Yiyi Zhou and Pingyang Dai and Annan Shu and Guannan Jiang "
        "and Rongrong Ji",
        year=2023,
        arxiv="2306.15706",
        code="DoubtedSteam/APT",
    )
    printed = {"": 1.92}
    recipes = {
        "vtab": with_(
            PETL_VIT,
            source="rate and decay of DoubtedSteam/APT (d66bbc4) on ViLT, the rest as JieShibo/PETL-ViT (026e4f1): "
            "no settings for VTAB-1K are published",
            lr=5e-4,
            weight_decay=1e-2,
        ),
        "mini": with_(MINI, lr=2e-3),
    }
    grid = {
        "lr": (5e-4, 1e-3, 3e-3),
        "weight_decay": (1e-4, 1e-2),
        "tokens": (10, 50, 200),
    }

    tokens: int = 200
    """Prompts per block."""
    rank: int = 4
    """Inner width of the product A B that makes keys of prompts."""

    def __post_init__(self) -> None:
        for name in ("tokens", "rank"):
            if getattr(self, name) < 1:
                raise InputError(f"apt: {name}={getattr(self, name)} must be at least 1")

    def attach(self, vit: ViT | Swin) -> Encoder:
        replace(vit, "**.blocks.*.attn", lambda attention: PromptedAttention(attention, self.tokens, self.rank))
        return vit


class PromptedAttention(nn.Module):
    """Attention with approximated prompts behind it, (B, N, D) -> (B, N, D)."""

    def __init__(self, attention: Any, tokens: int, rank: int) -> None:
        super().__init__()
        width = attention.qkv.in_features
        self.attention = attention
        self.prompts = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width, bias=False)
        self.scale = nn.Parameter(torch.zeros(()))
        nn.init.normal_(self.down.weight)
        nn.init.zeros_(self.up.weight)

    def forward(self, inputs: Tensor, *arguments: Any, **options: Any) -> Tensor:
        outputs = self.attention(inputs, *arguments, **options)
        keys = self.prompts + self.up(self.down(self.prompts))
        return (outputs + attend(inputs, keys, self.prompts)) * self.scale.exp()

    def fold(self) -> nn.Module:
        """The same with keys and values that are constants, and the scale within those and the output layer."""
        with torch.no_grad():
            factor = self.scale.exp()
            keys = self.prompts + self.up(self.down(self.prompts))
            self.attention.proj.weight *= factor
            if self.attention.proj.bias is not None:
                self.attention.proj.bias *= factor
            return ConstantPrompts(self.attention, keys, self.prompts * factor)


class ConstantPrompts(nn.Module):
    """What folding leaves: attention, and beside it fixed keys and values (tokens, D)."""

    keys: Tensor
    values: Tensor

    def __init__(self, attention: nn.Module, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.attention = attention
        self.register_buffer("keys", keys)
        self.register_buffer("values", values)

    def forward(self, inputs: Tensor, *arguments: Any, **options: Any) -> Tensor:
        outputs: Tensor = self.attention(inputs, *arguments, **options)
        return outputs + attend(inputs, self.keys, self.values)


def attend(inputs: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What each input (..., D) takes from the values (K, D), by positive weights that nothing normalises."""
    weights = (inputs @ keys.T).relu()  # (..., K)
    return weights.amax(-1, keepdim=True).detach() * (weights @ values)
