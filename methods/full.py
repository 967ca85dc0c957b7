"""Full fine-tuning: every weight of the backbone is trained, the reference that efficient methods are held against."""

from __future__ import annotations

from dataclasses import dataclass, replace

from petlbench.encoder import Encoder, Swin, ViT
from petlbench.method import Method
from petlbench.recipe import MINI, Recipe


@dataclass(frozen=True, kw_only=True)
class FullFineTuning(Method):
    """Unfreezes the whole backbone."""

    family = "reference"
    recipes = {
        "vtab": Recipe(
            source="KMnP/vpt (4410440) configs/base-finetune.yaml and src/solver/optimizer.py, whose AdamW always "
            "decays by 0.01; lr is the smallest of the grid that tune_vtab.py searches per task",
            epochs=100,
            batch_size=384,
            lr=1e-4,
            weight_decay=1e-2,
            decay_all=False,
            warmup_epochs=5,
            warmup_lr=0.0,
            warmup_prefix=True,
            min_lr=0.0,
        ),
        "mini": replace(MINI, lr=1e-3),
    }
    grid = {"lr": (1e-4, 5e-4, 1e-3, 5e-3)}  # KMnP/vpt tune_vtab.py; its grid of decays has no effect with AdamW

    def attach(self, vit: ViT | Swin) -> Encoder:
        vit.requires_grad_(True)
        return vit
