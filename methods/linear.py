"""Linear probing: the backbone stays as it is and only the head is trained, the lower bound of every comparison."""

from __future__ import annotations

from dataclasses import dataclass, replace

from petlbench.encoder import Encoder, Swin, ViT
from petlbench.method import Method
from petlbench.recipe import MINI, OSU


@dataclass(frozen=True, kw_only=True)
class LinearProbing(Method):
    """Returns the frozen encoder unchanged."""

    family = "reference"
    recipes = {
        "vtab": OSU,
        "mini": replace(MINI, lr=1e-2, epochs=30),
    }
    grid = {"lr": (1e-3, 1e-2), "weight_decay": (1e-4, 1e-3)}  # OSU-MLB/ViT_PEFT_Vision

    def attach(self, vit: ViT | Swin) -> Encoder:
        return vit
