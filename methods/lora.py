"""LoRA: the change of a frozen weight matrix is learned as the product of two thin matrices.

Follows the textbook form of JieShibo/PETL-ViT: separate updates for q and v, dropout between the two matrices, and a
free scale where the paper's own code has dropout on the input and alpha / rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as with_
from functools import partial

import torch
from torch import Tensor, nn

from petlbench.encoder import Encoder, Swin, ViT
from petlbench.errors import InputError, unknown
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, PETL_VIT
from petlbench.surgery import replace

LAYERS = {
    "**.blocks.*.attn.qkv": ("q", "k", "v"),
    "**.blocks.*.attn.proj": ("o",),
    "**.blocks.*.mlp.fc1": ("fc1",),
    "**.blocks.*.mlp.fc2": ("fc2",),
}
"""The linear layers of a block, each with the targets that its output consists of, in order."""


@dataclass(frozen=True, kw_only=True)
class LoRA(Method):
    """Makes W + scale * B A of each target W, with A (rank, inputs) random and B (outputs, rank) zero at the start."""

    family = "reparameterization"
    paper = Paper(
        title="LoRA: Low-Rank Adaptation of Large Language Models",
        authors="Edward J. Hu and Yelong Shen and Phillip Wallis and Zeyuan Allen-Zhu and Yuanzhi Li and Shean Wang "
        "and Lu Wang and Weizhu Chen",
        year=2022,
        venue="International Conference on Learning Representations",
        arxiv="2106.09685",
        code="microsoft/LoRA",
    )
    printed = {"rank=8": 0.29}
    recipes = {
        "vtab": PETL_VIT,
        "mini": with_(MINI, lr=1e-2),
    }
    evaluate_every = 10  # as JieShibo/PETL-ViT, which prints the best of them
    grid = {
        "lr": (1e-3, 1e-2),  # this, the decay and the rank as OSU-MLB/ViT_PEFT_Vision
        "weight_decay": (1e-4, 1e-3),
        "rank": (1, 8, 16, 32),
        "scale": (0.01, 0.1, 1.0, 10.0, 100.0),  # JieShibo/PETL-ViT
    }

    rank: int = 8
    """Inner width of every update."""
    scale: float = 1.0
    """Factor of every update, alpha / rank in the paper."""
    dropout: float = 0.1
    """Of the inner values while training, as in JieShibo/PETL-ViT."""
    targets: tuple[str, ...] = ("q", "v")
    """What is adapted in every block: any of q, k, v, o (the output of the attention), fc1 and fc2."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"lora: rank={self.rank} must be at least 1")
        valid = [target for targets in LAYERS.values() for target in targets]
        for target in self.targets:
            if target not in valid:
                raise unknown("target of lora", target, valid)

    def attach(self, vit: ViT | Swin) -> Encoder:
        for path, parts in LAYERS.items():
            adapted = [part for part in parts if part in self.targets]
            if adapted:
                replace(vit, path, partial(self.adapt, parts, adapted))
        return vit

    def adapt(self, parts: Sequence[str], adapted: Sequence[str], linear: nn.Linear) -> LoRALinear:
        """Put updates on the adapted parts of the output of a linear layer."""
        return LoRALinear(linear, parts, adapted, self.rank, self.scale, self.dropout)


class LoRALinear(nn.Module):
    """A frozen linear layer, (..., inputs) -> (..., outputs), with an update for some of the parts of its output."""

    def __init__(
        self, linear: nn.Linear, parts: Sequence[str], adapted: Sequence[str], rank: int, scale: float, dropout: float
    ) -> None:
        super().__init__()
        self.linear = linear
        self.parts = parts
        self.scale = scale
        self.size = linear.out_features // len(parts)
        self.updates = nn.ModuleDict({part: LowRank(linear.in_features, self.size, rank, dropout) for part in adapted})

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.linear(inputs)
        for part, update in self.updates.items():
            outputs[..., self.rows(part)].add_(update(inputs), alpha=self.scale)  # in place: no copy of q, k and v
        return outputs

    def fold(self) -> nn.Linear:
        """The linear layer with the updates added to its weight."""
        with torch.no_grad():
            for part, update in self.updates.items():
                assert isinstance(update, LowRank)
                self.linear.weight[self.rows(part)] += self.scale * update.matrix()
        return self.linear

    def rows(self, part: str) -> slice:
        """Which of the output features, and so which rows of the weight, belong to a part."""
        start = self.parts.index(part) * self.size
        return slice(start, start + self.size)


class LowRank(nn.Module):
    """The product of two thin matrices, zero at the start: (..., inputs) -> (..., outputs)."""

    def __init__(self, inputs: int, outputs: int, rank: int, dropout: float) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, rank, bias=False)  # torch draws it Kaiming-uniform, as the paper's code does
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.up(self.dropout(self.down(inputs)))

    def matrix(self) -> Tensor:
        """The product itself, (outputs, inputs)."""
        return self.up.weight @ self.down.weight
