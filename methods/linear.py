"""Linear probing: the backbone stays as it is and only the head is trained, the lower bound of every comparison."""

from __future__ import annotations

from dataclasses import dataclass

from petlbench.encoder import Encoder, ViT
from petlbench.method import Method
from petlbench.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class LinearProbing(Method):
    """Returns the frozen encoder unchanged."""

    recipes = {
        "vtab": Recipe(
            source="OSU-MLB/ViT_PEFT_Vision (cea7e21): rate and decay most often chosen there over the 19 tasks; "
            "the rest as JieShibo/PETL-ViT (026e4f1), without drop-path",
            epochs=100,
            batch_size=64,
            lr=1e-2,
            weight_decay=1e-4,
        ),
        "mini": Recipe(
            source="petlbench: searched on train800 -> val200 of the mini suite",
            epochs=8,
            batch_size=32,
            warmup_epochs=1,
            lr=1e-2,
        ),
    }
    grid = {"lr": (1e-3, 1e-2), "weight_decay": (1e-4, 1e-3)}  # OSU-MLB/ViT_PEFT_Vision

    def attach(self, vit: ViT) -> Encoder:
        return vit
