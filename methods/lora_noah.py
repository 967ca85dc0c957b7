"""NOAH's LoRA: one low-rank update of q, k and v together, the row "LoRA" of most VTAB-1K tables.

It has as many weights as LoRA for q and v, so the count in a table does not tell which of the two it shows. The
official code draws B anew after setting it to zero, and has dropout in front of A; here B starts at zero and, as in
our LoRA, dropout is between A and B.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as with_
from functools import partial

from petlbench.encoder import Encoder, Swin, ViT
from petlbench.errors import InputError
from petlbench.recipe import MINI
from petlbench.surgery import replace

from .lora import LoRA
from .noah import NOAH


@dataclass(frozen=True, kw_only=True)
class LoRANOAH(LoRA):
    """Makes W + scale * B A of the joint matrix W of q, k and v, with one A (rank, inputs) and B (outputs, rank)."""

    paper = NOAH.paper
    printed = {"": 0.29}
    recipes = {"vtab": NOAH.recipes["vtab"], "mini": with_(MINI, lr=1e-2)}

    targets: tuple[str, ...] = ("q", "k", "v")
    """Always these three."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.targets != ("q", "k", "v"):
            raise InputError(f"lora_noah: targets={self.targets} must stay ('q', 'k', 'v'); lora adapts others")

    def attach(self, vit: ViT | Swin) -> Encoder:
        replace(vit, "**.blocks.*.attn.qkv", partial(self.adapt, ("qkv",), ("qkv",)))
        return vit
