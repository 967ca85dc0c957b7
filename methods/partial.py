"""Partial fine-tuning: the last blocks of the backbone are trained, the first ones stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from petlbench.encoder import Encoder, Swin, ViT
from petlbench.errors import InputError
from petlbench.method import Method, Paper
from petlbench.recipe import MINI

from .full import FullFineTuning


@dataclass(frozen=True, kw_only=True)
class PartialFineTuning(Method):
    """Unfreezes the last blocks, what stands between them and the norm behind them; "Partial-k" is `blocks=k`."""

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
        "mini": replace(MINI, lr=3e-3),
    }
    grid = FullFineTuning.grid

    blocks: int = 1
    """How many blocks are trained, counted from the last."""

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise InputError(f"partial: blocks={self.blocks} must be at least 1")

    def attach(self, vit: ViT | Swin) -> Encoder:
        if self.blocks > len(vit.blocks):
            raise InputError(f"partial: blocks={self.blocks}, but this backbone has {len(vit.blocks)}")
        for trained in (*vit.blocks[-self.blocks :], *self.between(vit), *norms(vit)):
            trained.requires_grad_()
        return vit

    def between(self, vit: ViT | Swin) -> Iterator[nn.Module]:
        """The patch mergings of a Swin that lie between trained blocks."""
        stages: Any = vit.model.layers if isinstance(vit, Swin) else []
        behind = 0
        for stage in reversed(stages):
            behind += len(stage.blocks)
            if self.blocks > behind:
                yield stage.downsample  # timm has it at the start of a stage


def norms(vit: ViT | Swin) -> list[nn.Module]:
    """The norm behind the last block, which for some poolings stands behind the pooling."""
    return [vit.model.norm, vit.model.fc_norm] if isinstance(vit, ViT) else [vit.model.norm]
