"""RepAdapter: a linear bottleneck in front of the attention and the MLP, which merges into the next weight matrix.

The 1 x 1 convolutions of the official code are linear layers here, which is the same. Left out are its few-shot recipe
and the penalty on the second layer that its training script knows and its experiments set to zero.
"""

from __future__ import annotations

from collections.abc import Mapping
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

VTAB = {  # scale: tasks, from configs/repblock of the official code
    5.0: ("caltech101", "dmlab", "dsprites_loc", "kitti_dist", "resisc45"),
    0.1: ("cifar100", "clevr_dist", "diabetic_retinopathy", "dsprites_ori", "pets", "sun397"),
    0.5: ("clevr_count", "flowers102"),
    1.0: ("dtd", "eurosat", "patch_camelyon", "smallnorb_ele"),
    10.0: ("smallnorb_azi", "svhn"),
}


@dataclass(frozen=True, kw_only=True)
class RepAdapter(Method):
    """Makes W (x + scale * (B (A x + a) + b)) of W x in the first layer of the attention and of the MLP."""

    family = "reparameterization"
    paper = Paper(
        title="Towards Efficient Visual Adaption via Structural Re-parameterization",
        authors="Gen Luo and Minglang Huang and Yiyi Zhou and Xiaoshuai Sun and Guannan Jiang and Zhiyu Wang "
        "and Rongrong Ji",
        year=2023,
        arxiv="2302.08106",
        code="luogen1996/RepAdapter",
    )
    recipes = {
        "vtab": with_(
            PETL_VIT, source="luogen1996/RepAdapter (360992f) train.py and scripts; the scale is set per task"
        ),
        "mini": with_(MINI, lr=1e-2),
    }
    evaluate_every = 10  # as the official code, which prints the best of them
    grid = {
        "lr": (1e-3, 1e-2),  # this, the decay and the bottleneck as chosen by OSU-MLB/ViT_PEFT_Vision
        "weight_decay": (1e-4, 1e-3),
        "bottleneck": (8, 16, 32),
        "scale": (0.1, 0.5, 1.0, 5.0, 10.0),  # the official search
    }

    bottleneck: int = 8
    """Inner width; a multiple of the groups."""
    groups: int = 2
    """Parts of the inner values, each of which reaches its part of the outputs only."""
    scale: float = 1.0
    """Factor of every update."""
    mlp: bool = True
    """Adapt in front of the MLP too (repblock), not only in front of the attention (repattn)."""
    dropout: float = 0.1
    """Of the inner values while training."""

    def __post_init__(self) -> None:
        if self.bottleneck < 1:
            raise InputError(f"repadapter: bottleneck={self.bottleneck} must be at least 1")
        if self.groups < 1 or self.bottleneck % self.groups:
            raise InputError(f"repadapter: groups={self.groups} do not divide bottleneck={self.bottleneck}")

    def attach(self, vit: ViT | Swin) -> Encoder:
        for layer in ("attn.qkv", "mlp.fc1") if self.mlp else ("attn.qkv",):
            replace(vit, f"**.blocks.*.{layer}", self.adapt)
        return vit

    def adapt(self, linear: nn.Linear) -> AdaptedLinear:
        """Put an adapter in front of a linear layer."""
        if linear.in_features % self.groups:
            raise InputError(f"repadapter: groups={self.groups} do not divide the backbone's {linear.in_features}")
        adapter = GroupedBottleneck(linear.in_features, self.bottleneck, self.groups, self.dropout)
        return AdaptedLinear(adapter, linear, self.scale)

    def published(self, suite: str, task: str) -> Mapping[str, Any]:
        found = [scale for scale, tasks in VTAB.items() if suite == "vtab" and task in tasks]
        return {"scale": found[0]} if found and self.mlp else {}


class AdaptedLinear(nn.Module):
    """A frozen linear layer with an adapter in front, (..., inputs) -> (..., outputs)."""

    def __init__(self, adapter: GroupedBottleneck, linear: nn.Linear, scale: float) -> None:
        super().__init__()
        self.adapter = adapter
        self.linear = linear
        self.scale = scale

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(torch.add(inputs, self.adapter(inputs), alpha=self.scale))

    def fold(self) -> nn.Linear:
        """The linear layer that does the same: W (1 + s B A), with the bias W s (B a + b) added to its own."""
        linear, adapter = self.linear, self.adapter
        with torch.no_grad():
            shift = self.scale * linear.weight @ adapter.bias()
            linear.bias = nn.Parameter(shift if linear.bias is None else linear.bias + shift, requires_grad=False)
            linear.weight += self.scale * linear.weight @ adapter.matrix()
        return linear


class GroupedBottleneck(nn.Module):
    """Down to a few values, and up again in groups, all linear; zero at the start. (..., D) -> (..., D)"""

    def __init__(self, width: int, inner: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.down = nn.Linear(width, inner)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Parameter(torch.zeros(groups, width // groups, inner // groups))
        self.up_bias = nn.Parameter(torch.zeros(width))
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        inner = self.dropout(self.down(inputs)).unflatten(-1, (len(self.up), -1))  # (..., groups, inner / groups)
        return torch.einsum("...gi,goi->...go", inner, self.up).flatten(-2) + self.up_bias

    def matrix(self) -> Tensor:
        """What the inputs are multiplied by in all, (D, D)."""
        return torch.block_diag(*self.up) @ self.down.weight

    def bias(self) -> Tensor:
        """What is added in all, (D,)."""
        return torch.block_diag(*self.up) @ self.down.bias + self.up_bias
