"""Pfeiffer adapter: a small bottleneck behind the MLP of every block changes what the MLP adds to the tokens.

It stands behind layer scale and drop-path and in front of the residual sum. The row "Adapter" of most VTAB-1K tables is
that of ZhangYuanhan-AI/NOAH, `pfeiffer(activation="quick_gelu", init="normal")`; the sequential option of
ShoufaChen/AdaptFormer is `pfeiffer(bottleneck=64, activation="relu", norm=True)`. Not offered: the adapter of KMnP/vpt,
whose matrices both start at zero, so that neither ever gets a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as with_
from typing import Any, Literal

from torch import Tensor, nn

from petlbench import blocks
from petlbench.encoder import Encoder, Swin, ViT
from petlbench.errors import InputError
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, Recipe
from petlbench.surgery import replace

NOAH = Recipe(
    source="ZhangYuanhan-AI/NOAH (fde4c09) configs/Adapter/VTAB/slurm_train_adapter_vtab.sh",
    epochs=100,
    batch_size=64,
    lr=1e-3,
    weight_decay=1e-4,
    decay_all=False,  # not in the script: timm's create_optimizer leaves out biases
    schedule_lag=1,
    drop_path=0.1,
)


class QuickGELU(nn.Module):
    """The GELU of CLIP: a sigmoid in place of the normal distribution."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * (1.702 * inputs).sigmoid()


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "quick_gelu": QuickGELU}


@dataclass(frozen=True, kw_only=True)
class Pfeiffer(Method):
    """Makes z + h + scale * A(h) of the second half of every block, which is z + h without the adapter A."""

    family = "adapter"
    paper = Paper(
        title="AdapterFusion: Non-Destructive Task Composition for Transfer Learning",
        authors="Jonas Pfeiffer and Aishwarya Kamath and Andreas R{\\\"u}ckl{\\'e} and Kyunghyun Cho "
        "and Iryna Gurevych",
        year=2021,
        venue="Conference of the European Chapter of the Association for Computational Linguistics",
        arxiv="2005.00247",
        code="adapter-hub/adapters",
    )
    printed = {"": 0.16, "bottleneck=64": 1.19}
    recipes = {
        "vtab": NOAH,
        "mini": with_(MINI, lr=1e-2),
    }
    evaluate_every = 10  # as ZhangYuanhan-AI/NOAH, which prints the best of them
    grid = {  # OSU-MLB/ViT_PEFT_Vision
        "lr": (1e-3, 1e-2),
        "weight_decay": (1e-4, 1e-3),
        "bottleneck": (4, 8, 16, 32, 64),
        "scale": (0.01, 0.1, 1.0, 10.0),
    }

    bottleneck: int = 8
    """Inner width of every adapter."""
    scale: float = 1.0
    """Factor of an adapter's output."""
    activation: Literal["relu", "gelu", "quick_gelu"] = "gelu"
    """Between the two linear layers."""
    init: Literal["zero", "normal", "xavier"] = "zero"
    """Weights at the start: the outer matrix zero, so that nothing changes; or both matrices normal with a deviation of
    0.02, as NOAH; or both Xavier-uniform. Biases start at zero."""
    norm: bool = False
    """Whether an adapter reads its input through a LayerNorm of its own."""
    dropout: float = 0.1
    """Of the inner values while training."""

    def __post_init__(self) -> None:
        if self.bottleneck < 1:
            raise InputError(f"{type(self).__name__.lower()}: bottleneck={self.bottleneck} must be at least 1")

    def attach(self, vit: ViT | Swin) -> Encoder:
        replace(vit, "**.blocks.*", lambda block: AdaptedBlock(block, nn.Identity(), self.adapter(block)))
        return vit

    def published(self, suite: str, task: str) -> dict[str, Any]:
        return {"activation": "quick_gelu", "init": "normal"} if suite == "vtab" else {}

    def adapter(self, block: Any) -> Adapter:
        """A fresh adapter as wide as a block."""
        blocks.check(block)
        width = len(block.norm2.weight)
        adapter = Adapter(width, self.bottleneck, self.scale, ACTIVATIONS[self.activation](), self.norm, self.dropout)
        for linear in (adapter.down, adapter.up):
            if self.init == "normal":
                nn.init.trunc_normal_(linear.weight, std=0.02)
            elif self.init == "xavier":
                nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        if self.init == "zero":
            nn.init.zeros_(adapter.up.weight)  # torch has drawn that of `down` Kaiming-uniform
        return adapter


class AdaptedBlock(nn.Module):
    """A block, from tokens to tokens, whose halves pass through adapters before they are added to the tokens."""

    def __init__(self, block: nn.Module, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.attention = attention
        self.mlp = mlp

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(blocks.attention(self.block, tokens))
        tokens = tokens + self.mlp(blocks.mlp(self.block, tokens))
        return tokens


class Adapter(nn.Module):
    """Down to a few dimensions, an activation, up again, and the input added: (..., D) -> (..., D)."""

    def __init__(self, width: int, inner: int, scale: float, activation: nn.Module, norm: bool, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.down = nn.Linear(width, inner)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(inner, width)
        self.scale = scale

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.scale * self.up(self.dropout(self.activation(self.down(self.norm(inputs)))))
