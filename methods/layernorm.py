"""LN-Tune: of the backbone's own weights, only the scales and shifts of its LayerNorms are trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from petlbench.encoder import Encoder, Swin, ViT
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, OSU


@dataclass(frozen=True, kw_only=True)
class LayerNormTuning(Method):
    """Unfreezes every LayerNorm, that behind the last block included."""

    family = "selective"
    paper = Paper(
        title="Strong Baselines for Parameter-Efficient Few-Shot Fine-Tuning",
        authors="Samyadeep Basu and Shell Hu and Daniela Massiceti and Soheil Feizi",
        year=2024,
        venue="AAAI Conference on Artificial Intelligence",
        arxiv="2304.01917",
    )
    recipes = {
        "vtab": OSU,
        "mini": replace(MINI, lr=3e-2),
    }
    grid = {"lr": (1e-3, 1e-2), "weight_decay": (1e-4, 1e-3)}  # OSU-MLB/ViT_PEFT_Vision

    def attach(self, vit: ViT | Swin) -> Encoder:
        for module in vit.modules():
            if isinstance(module, nn.LayerNorm):
                module.requires_grad_()
        return vit
