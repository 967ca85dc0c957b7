"""BAPAT (V-PETL): a tanh bottleneck adds to the keys and values of every block, and an adapter works beside its MLP.

The official code is for videos, on Video-Swin; these are its two modules in the blocks of a ViT or a Swin for images.
Unlike AdaptFormer's, its adapter reads what the MLP reads, behind the norm. Both modules stand before layer scale and
drop-path. Left out is the mode "patt_qk", which goes around the softmax.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as with_
from typing import Any

from torch import Tensor, nn

from petlbench.encoder import Encoder, Swin, ViT
from petlbench.errors import InputError
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, PETL_VIT
from petlbench.surgery import replace


@dataclass(frozen=True, kw_only=True)
class BAPAT(Method):
    """Adds s tanh(x D) U to keys and values, and s' A(x) to the output of the MLP, x being what each layer reads."""

    paper = Paper(
        title="Towards a Unified View on Visual Parameter-Efficient Transfer Learning",
        authors="Bruce X. B. Yu and Jianlong Chang and Lingbo Liu and Qi Tian and Chang Wen Chen",
        year=2022,
        arxiv="2210.00788",
        code="bruceyo/V-PETL",
    )
    family = "adapter"
    printed = {"bias=False": 2.06}  # V-PETL Bench, whose ViT for videos has no biases there
    recipes = {
        "vtab": with_(PETL_VIT, source=f"{PETL_VIT.source}; the official code has no images"),
        "mini": with_(MINI, lr=3e-3),
    }
    grid = {
        "lr": (1e-3, 1e-2),  # this and the decay as OSU-MLB/ViT_PEFT_Vision
        "weight_decay": (1e-4, 1e-3),
        "attention_dim": (8, 32, 128),
        "attention_scale": (0.2, 0.8),  # the official code's default, and its README
    }

    attention_dim: int = 32
    """Inner width beside the keys and values, as in V-PETL Bench; the official README has 128."""
    attention_scale: float = 0.8
    """Factor of what is added to keys and values."""
    mlp_dim: int = 64
    """Inner width beside the MLP; 0 for none, which is PATT."""
    mlp_scale: float = 0.1
    """Factor of what is added to the output of the MLP."""
    bias: bool = True
    """Whether the added layers have biases. In the official code they do where the layer of q, k and v does."""

    def __post_init__(self) -> None:
        if self.attention_dim < 1:
            raise InputError(f"bapat: attention_dim={self.attention_dim} must be at least 1")
        if self.mlp_dim < 0:
            raise InputError(f"bapat: mlp_dim={self.mlp_dim} must not be negative")

    def attach(self, vit: ViT | Swin) -> Encoder:
        def keys_and_values(qkv: nn.Linear) -> KeysAndValues:
            return KeysAndValues(qkv, self.attention_dim, self.attention_scale, self.bias)

        def beside(mlp: Any) -> Beside:
            return Beside(mlp, Bottleneck(mlp.fc1.in_features, self.mlp_dim, self.bias), self.mlp_scale)

        replace(vit, "**.blocks.*.attn.qkv", keys_and_values)
        if self.mlp_dim:
            replace(vit, "**.blocks.*.mlp", beside)
        return vit


class KeysAndValues(nn.Module):
    """The layer of q, k and v, (..., D) -> (..., 3 D), with a bottleneck for k and v that is not zero at the start."""

    def __init__(self, qkv: nn.Linear, inner: int, scale: float, bias: bool) -> None:
        super().__init__()
        width = qkv.in_features
        self.qkv = qkv
        self.down = nn.Linear(width, inner, bias=bias)
        self.up = nn.Linear(inner, 2 * width, bias=bias)
        self.scale = scale

    def forward(self, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.qkv(tokens)
        added = self.up(self.down(tokens).tanh())
        outputs[..., tokens.shape[-1] :].add_(added, alpha=self.scale)  # in place: no copy of q, k and v
        return outputs


class Beside(nn.Module):
    """An MLP with an adapter beside it, (..., D) -> (..., D)."""

    def __init__(self, mlp: nn.Module, adapter: nn.Module, scale: float) -> None:
        super().__init__()
        self.mlp = mlp
        self.adapter = adapter
        self.scale = scale

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mlp(tokens) + self.scale * self.adapter(tokens)


class Bottleneck(nn.Module):
    """Down to a few dimensions, ReLU, and up again; zero at the start. (..., D) -> (..., D)"""

    def __init__(self, width: int, inner: int, bias: bool) -> None:
        super().__init__()
        self.down = nn.Linear(width, inner, bias=bias)
        self.up = nn.Linear(inner, width, bias=bias)
        for parameter in (self.down.bias, *self.up.parameters()):
            if parameter is not None:
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.up(self.down(tokens).relu())
