"""Houlsby adapters: the bottleneck of `pfeiffer`, twice per block, behind the attention and behind the MLP.

As in the re-implementations for ViTs, the LayerNorms of the backbone stay frozen; the paper's code, which is for BERT,
trains them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as with_
from typing import Any

from petlbench.encoder import Encoder, Swin, ViT
from petlbench.method import Paper
from petlbench.recipe import MINI, OSU
from petlbench.surgery import replace

from .pfeiffer import AdaptedBlock, Pfeiffer


@dataclass(frozen=True, kw_only=True)
class Houlsby(Pfeiffer):
    """Makes z + h + scale * A(h) of both halves of every block, each of which is z + h without its adapter A."""

    paper = Paper(
        title="Parameter-Efficient Transfer Learning for NLP",
        authors="Neil Houlsby and Andrei Giurgiu and Stanislaw Jastrzebski and Bruna Morrone "
        "and Quentin de Laroussilhe and Andrea Gesmundo and Mona Attariyan and Sylvain Gelly",
        year=2019,
        venue="International Conference on Machine Learning",
        arxiv="1902.00751",
        code="google-research/adapter-bert",
    )
    printed = {}
    recipes = {
        "vtab": OSU,
        "mini": with_(MINI, lr=1e-2),
    }
    evaluate_every = 1
    grid = {**Pfeiffer.grid, "bottleneck": (4, 8, 16, 32)}  # OSU-MLB/ViT_PEFT_Vision

    def attach(self, vit: ViT | Swin) -> Encoder:
        replace(vit, "**.blocks.*", lambda block: AdaptedBlock(block, self.adapter(block), self.adapter(block)))
        return vit

    def published(self, suite: str, task: str) -> dict[str, Any]:
        return {"init": "xavier"} if suite == "vtab" else {}  # OSU-MLB/ViT_PEFT_Vision
