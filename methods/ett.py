"""eTT: learned keys and values in front of those of every attention, and an offset behind each half of a block.

An eTT-style method for a whole task, where the paper adapts to one few-shot episode. Kept: one set of prefixes, which
an MLP, shared but for its last layer, turns into keys and values for every block (attentive prefix tuning), and the
offsets (domain residual adapters). Left out: the linear map of the features, which our linear head holds already, the
prototype regulariser, and that prefixes begin at the prototypes of the classes: here any number begins at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as with_
from typing import Any

import torch
from torch import Tensor, nn

from petlbench.encoder import Encoder, ViT
from petlbench.errors import InputError
from petlbench.method import Method, Paper
from petlbench.recipe import MINI
from petlbench.surgery import replace

from .e2vpt import PrefixAttention, attend, refuse_other_attention


@dataclass(frozen=True, kw_only=True)
class ETT(Method):
    """Trains prefixes, the MLP in front of them and the offsets. Folding leaves plain prefixes and nothing else."""

    family = "prompt"
    paper = Paper(
        title="Exploring Efficient Few-shot Adaptation for Vision Transformers",
        authors="Chengming Xu and Siqian Yang and Yabiao Wang and Zhanxiong Wang and Yanwei Fu and Xiangyang Xue",
        year=2022,
        venue="Transactions on Machine Learning Research",
        arxiv="2301.02419",
        code="loadder/eTT_TMLR2022",
    )
    recipes = {"mini": with_(MINI, lr=1e-2)}
    grid = {"lr": (1e-3, 3e-3, 1e-2), "weight_decay": (1e-4, 1e-2), "prefixes": (5, 20, 50)}

    prefixes: int = 10
    """Keys and values per block; the paper has one for each class."""
    hidden: int | None = None
    """Inner width of the MLP; None for half the width of the backbone."""

    def __post_init__(self) -> None:
        for name in ("prefixes", "hidden"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"ett: {name}={value} must be at least 1")

    def attach(self, vit: ViT) -> Encoder:
        trunk = Trunk(self.prefixes, vit.width, self.hidden or vit.width // 2)
        replace(vit, "blocks.*.attn", lambda attn: MadePrefixAttention(attn, trunk))
        replace(vit, "blocks.*.attn.attn.proj", Shifted)
        replace(vit, "blocks.*.mlp.fc2", Shifted)
        return vit


class MadePrefixAttention(nn.Module):
    """Attention with prefixes that an MLP makes: (B, N, D) -> (B, N, D)."""

    def __init__(self, attn: Any, trunk: Trunk) -> None:
        super().__init__()
        refuse_other_attention(attn)
        self.attn = attn
        self.trunk = trunk  # shared by all blocks, and stored once
        self.up = nn.Linear(trunk.down.out_features, 2 * attn.proj.in_features)

    def forward(self, tokens: Tensor, **_: Any) -> Tensor:  # timm hands over a mask, which a ViT does not have
        return attend(self.attn, tokens, *self.prefixes())

    def prefixes(self) -> Tensor:
        """Keys and values: (2, heads, prefixes, size)."""
        return self.up(self.trunk()).unflatten(1, (2, self.attn.num_heads, -1)).permute(1, 2, 0, 3)

    def fold(self) -> PrefixAttention:
        """The attention with the prefixes alone, no longer trained."""
        keys, values = self.prefixes().detach()
        plain = PrefixAttention(self.attn, keys.shape[1], shared=False)
        plain.load_state_dict({"keys": keys, "values": values}, strict=False)
        return plain.requires_grad_(False)


class Trunk(nn.Module):
    """The prefix vectors of all blocks and the first layer of their MLP: () -> (prefixes, hidden)."""

    def __init__(self, prefixes: int, width: int, hidden: int) -> None:
        super().__init__()
        self.prefixes = nn.Parameter(torch.randn(prefixes, width))
        self.down = nn.Linear(width, hidden)

    def forward(self) -> Tensor:
        return self.down(self.prefixes).tanh()


class Shifted(nn.Module):
    """A linear layer and an offset, zero at the start, on its output."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.offset = nn.Parameter(torch.zeros(linear.out_features))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs) + self.offset

    def fold(self) -> nn.Linear:
        """The linear layer with the offset in its bias."""
        bias = self.offset.detach() + (0 if self.linear.bias is None else self.linear.bias)
        self.linear.bias = nn.Parameter(bias, requires_grad=False)
        return self.linear
