"""FacT-TT: one pair of thin matrices, shared by the whole network, and a small core for each weight matrix.

                  inputs, cut into chunks of width d
                               |
              U   d -> r       |      one for the network
                               v
            core  a r -> b r   |      one for each linear layer of a chunks in and b chunks out
                               v
              V   r -> d       |      one for the network, zero at the start
                               v
                 outputs, in chunks of width d

The weights of all blocks are seen as one tensor of d x d tiles (q, k, v and the output of the attention, four tiles for
each layer of the MLP), which is factored as a tensor train. What the linear layer itself makes of its inputs is added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from petlbench.encoder import Encoder, ViT
from petlbench.errors import InputError
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, PETL_VIT
from petlbench.surgery import replace

LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
"""The linear layers of a block."""
VTAB = {  # (rank, scale): tasks, from FacT/configs/tt of the official code
    (16, 10.0): ("caltech101", "dmlab", "kitti_dist"),
    (8, 1.0): ("cifar100", "diabetic_retinopathy", "pets", "sun397"),
    (16, 1.0): ("clevr_count", "dsprites_ori", "flowers102"),
    (4, 10.0): ("clevr_dist",),
    (16, 100.0): ("dsprites_loc", "smallnorb_azi", "svhn"),
    (8, 0.01): ("dtd",),
    (8, 100.0): ("eurosat",),
    (8, 10.0): ("patch_camelyon", "smallnorb_ele"),
    (8, 0.1): ("resisc45",),
}


@dataclass(frozen=True, kw_only=True)
class FacTTT(Method):
    """Makes W + scale * V core U of every linear layer of the blocks, U and V being the same for all."""

    family = "reparameterization"
    paper = Paper(
        title="FacT: Factor-Tuning for Lightweight Adaptation on Vision Transformer",
        authors="Shibo Jie and Zhi-Hong Deng",
        year=2023,
        venue="AAAI Conference on Artificial Intelligence",
        arxiv="2212.03145",
        code="JieShibo/PETL-ViT",
    )
    recipes = {
        "vtab": with_(PETL_VIT, source="JieShibo/PETL-ViT (026e4f1) FacT/fact_tt.py; rank and scale are set per task"),
        "mini": with_(MINI, lr=1e-2),
    }
    evaluate_every = 10  # as the official code, which prints the best of them
    grid = {  # the values chosen by OSU-MLB/ViT_PEFT_Vision
        "lr": (1e-3, 1e-2),
        "weight_decay": (1e-4, 1e-3),
        "rank": (8, 16, 32),
        "scale": (0.01, 0.1, 1.0, 10.0, 100.0),
    }

    rank: int = 16
    """Inner width r."""
    scale: float = 1.0
    """Factor of every update."""
    dropout: float = 0.1
    """Of what a core returns, while training."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"fact: rank={self.rank} must be at least 1")

    def attach(self, vit: ViT) -> Encoder:
        down, up = nn.Linear(vit.width, self.rank, bias=False), nn.Linear(self.rank, vit.width, bias=False)
        nn.init.zeros_(up.weight)
        core = self.cores(vit)

        def adapt(layer: str, linear: nn.Linear) -> FactoredLinear:
            if linear.in_features % vit.width or linear.out_features % vit.width:
                raise InputError(f"fact: {layer} of this backbone does not consist of {vit.width} x {vit.width} tiles")
            return FactoredLinear(linear, down, core(layer, linear), up, self.scale, self.dropout)

        for depth in range(vit.depth):
            for layer in LAYERS:
                replace(vit, f"blocks.{depth}.{layer}", partial(adapt, layer))
        return vit

    def cores(self, vit: ViT) -> Callable[[str, nn.Linear], nn.Module]:
        """What makes the core of one linear layer after another, in the order of the network."""

        def core(layer: str, linear: nn.Linear) -> nn.Linear:
            inputs, outputs = linear.in_features // vit.width, linear.out_features // vit.width
            return nn.Linear(inputs * self.rank, outputs * self.rank, bias=False)

        return core

    def published(self, suite: str, task: str) -> Mapping[str, Any]:
        return per_task(VTAB, suite, task)


class FactoredLinear(nn.Module):
    """A frozen linear layer with a factored update, (..., a d) -> (..., b d).

    `core.weight` is the matrix (b r, a r) that `core` multiplies by.
    """

    def __init__(
        self, linear: nn.Linear, down: nn.Linear, core: nn.Module, up: nn.Linear, scale: float, dropout: float
    ) -> None:
        super().__init__()
        self.linear = linear
        self.down = down
        self.core = core
        self.up = up
        self.scale = scale
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        width, rank = self.down.in_features, self.down.out_features
        inner = self.down(inputs.unflatten(-1, (-1, width))).flatten(-2)  # (..., a r)
        inner = self.dropout(self.core(inner)).unflatten(-1, (-1, rank))  # (..., b, r)
        return torch.add(self.linear(inputs), self.up(inner).flatten(-2), alpha=self.scale)

    def fold(self) -> nn.Linear:
        """The linear layer with the update added to its weight."""
        core: Any = self.core
        rank = self.down.out_features
        tiles = core.weight.unflatten(1, (-1, rank)).unflatten(0, (-1, rank))  # (b, r, a, r)
        with torch.no_grad():
            update = torch.einsum("or,brac,ci->boai", self.up.weight, tiles, self.down.weight)
            self.linear.weight += self.scale * update.flatten(2).flatten(0, 1)
        return self.linear


def per_task(table: Mapping[tuple[int, float], Sequence[str]], suite: str, task: str) -> Mapping[str, Any]:
    """The rank and the scale that the official code sets for a task of VTAB-1K."""
    found = [pair for pair, tasks in table.items() if suite == "vtab" and task in tasks]
    return dict(zip(("rank", "scale"), found[0], strict=True)) if found else {}
