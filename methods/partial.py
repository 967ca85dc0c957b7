"""Partial fine-tuning: the last blocks of the backbone are trained, the first ones stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from petlbench.encoder import Encoder, ViT
from petlbench.errors import InputError
from petlbench.method import Method, Paper
from petlbench.recipe import MINI

from .full import FullFineTuning


@dataclass(frozen=True, kw_only=True)
class PartialFineTuning(Method):
    """Unfreezes the last blocks and the norm behind them; "Partial-k" of many tables is `partial(blocks=k)`."""

    family = "selective"
    paper = Paper(
        title="How Transferable Are Features in Deep Neural Networks?",
        authors="Jason Yosinski and Jeff Clune and Yoshua Bengio and Hod Lipson",
        year=2014,
        venue="Advances in Neural Information Processing Systems",
        arxiv="1411.1792",
    )
    recipes = {
        "vtab": FullFineTuning.recipes["vtab"],  # KMnP/vpt trains both alike
        "mini": replace(MINI, lr=1e-3),
    }
    grid = FullFineTuning.grid

    blocks: int = 1
    """How many blocks are trained, counted from the last."""

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise InputError(f"partial: blocks={self.blocks} must be at least 1")

    def attach(self, vit: ViT) -> Encoder:
        if self.blocks > vit.depth:
            raise InputError(f"partial: blocks={self.blocks}, but this backbone has {vit.depth}")
        for trained in (*vit.blocks[-self.blocks :], vit.model.norm):
            trained.requires_grad_()
        return vit
