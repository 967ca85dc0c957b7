"""BitFit: of the backbone's own weights, only the biases are trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

from petlbench.encoder import Encoder, Swin, ViT
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, OSU


@dataclass(frozen=True, kw_only=True)
class BitFit(Method):
    """Unfreezes every parameter with "bias" in its name, those of the patch embedding and the norms included."""

    family = "selective"
    paper = Paper(
        title="BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models",
        authors="Elad Ben Zaken and Yoav Goldberg and Shauli Ravfogel",
        year=2022,
        venue="Annual Meeting of the Association for Computational Linguistics",
        arxiv="2106.10199",
        code="benzakenelad/BitFit",
    )
    printed = {"": 0.10}
    recipes = {
        "vtab": OSU,
        "mini": replace(MINI, lr=3e-2),
    }
    grid = {"lr": (1e-3, 1e-2), "weight_decay": (1e-4, 1e-3)}  # OSU-MLB/ViT_PEFT_Vision

    def attach(self, vit: ViT | Swin) -> Encoder:
        for name, parameter in vit.named_parameters():
            parameter.requires_grad_("bias" in name)
        return vit
