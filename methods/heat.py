"""HEAT, now called Heart-LoRA: LoRA that adapts the important attention heads only.

Follows the abstracts of its two versions and the appendix of the second; there is no code. From there: the importance
of a head is a first-order Taylor score, the least important heads are not adapted, and heads are ranked over all layers
or, in a variant, within each. Ours: what is scored are the updates of LoRA, after a warm-up, because they begin at zero
and have no score before; the training then begins anew; the share of heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as with_
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from petlbench.encoder import Encoder, Swin, ViT
from petlbench.errors import InputError, unknown
from petlbench.method import Paper
from petlbench.recipe import MINI, PETL_VIT

from .lora import LoRA, LowRank

if TYPE_CHECKING:
    from petlbench.trial import Trial


@dataclass(frozen=True, kw_only=True)
class HEAT(LoRA):
    """Trains as LoRA for a warm-up, scores the heads, goes back to the start and trains without the worst ones.

    A head's update of q, k or v is its rows of B. Heads that are switched off keep the zeros which B begins with.
    """

    family = "reparameterization"
    paper = Paper(
        title="Rethinking Low-Rank Adaptation in Vision: Exploring Head-Level Responsiveness across Diverse Tasks",
        authors="Yibo Zhong and Yao Zhou",
        year=2024,
        arxiv="2404.08894",
    )
    printed = {}
    recipes = {
        "vtab": with_(PETL_VIT, source=f"{PETL_VIT.source}; no settings of HEAT are published"),
        "mini": with_(MINI, lr=1e-2),
    }
    grid = {**LoRA.grid, "switched_off": (0.25, 0.5)}

    switched_off: float = 0.25
    """Share of the heads that is not updated."""
    ranking: Literal["global", "layer"] = "global"
    """Whether heads are ranked over all blocks or within each block."""
    warmup: float = 0.1
    """Epochs (or steps, where a recipe has these) of training before the score, as a share of the recipe's; two at
    least."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for target in self.targets:
            if target not in ("q", "k", "v"):
                raise InputError(f"heat: target '{target}' has no heads, valid: q, k, v")
        for name in ("switched_off", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"heat: {name}={getattr(self, name)} must be a share from 0 to below 1")
        if self.ranking not in ("global", "layer"):
            raise unknown("ranking of heat", self.ranking, ("global", "layer"))

    def attach(self, vit: ViT | Swin) -> Encoder:
        super().attach(vit)
        for block in vit.blocks:
            attn: Any = block.get_submodule("attn")
            for update in updates(attn):
                update.add_module("up", ByHead(self.rank, update.up.out_features, attn.num_heads))
        return vit

    def fit(self, trial: Trial) -> None:
        initial, recipe = trial.state(), trial.recipe
        epochs = max(2, round(self.warmup * recipe.epochs))  # fewer are no cosine
        steps = recipe.steps and max(2, round(self.warmup * recipe.steps))  # where training is measured in steps
        recipe = with_(recipe, epochs=epochs, steps=steps, warmup_epochs=0, warmup_steps=0, cooldown_epochs=0)
        trial.fit(recipe)
        scores = self.importance(trial)
        trial.restore(initial)
        self.switch_off(trial.encoder, scores)
        trial.found = {"heads": [[head[0].requires_grad for head in block] for block in heads_of(trial.encoder)]}
        trial.fit()

    def importance(self, trial: Trial) -> Sequence[Tensor]:
        """A score for each head of each block: |sum of weight * gradient| over the head's rows of B, summed over the
        targets and over the batches of one epoch."""
        blocks = heads_of(trial.encoder)
        weights = [weight for block in blocks for head in block for weight in head]
        total = torch.zeros(len(weights), device=trial.device)
        for batch in trial.batches():
            gradients = torch.autograd.grad(trial.loss(batch), weights)
            total += torch.stack([(w * g).sum().abs() for w, g in zip(weights, gradients, strict=True)]).detach()
        return total.view(-1, len(blocks[0][0])).sum(1).split([len(block) for block in blocks])

    def switch_off(self, encoder: Encoder, scores: Sequence[Tensor]) -> None:
        """Train the least important heads no longer."""
        blocks = heads_of(encoder)
        if self.ranking == "global":
            blocks, scores = [[head for block in blocks for head in block]], [torch.cat(list(scores))]
        for heads, ranked in zip(blocks, scores, strict=True):
            for index in ranked.sort(stable=True).indices[: round(self.switched_off * len(heads))].tolist():
                for weight in heads[index]:
                    weight.requires_grad_(False)


class ByHead(nn.Module):
    """A linear layer without bias, zero at the start, with a matrix for each head: (..., rank) -> (..., outputs)."""

    def __init__(self, rank: int, outputs: int, heads: int) -> None:
        super().__init__()
        self.heads = nn.ParameterList(torch.zeros(outputs // heads, rank) for _ in range(heads))

    @property
    def weight(self) -> Tensor:
        """The matrix of all heads, (outputs, rank)."""
        return torch.cat(list(self.heads))

    def forward(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight)


def updates(block: nn.Module) -> list[LowRank]:
    """The low-rank updates of a block, one for each target."""
    return [module for module in block.modules() if isinstance(module, LowRank)]


def heads_of(encoder: Any) -> list[list[tuple[nn.Parameter, ...]]]:
    """By block and head: the head's rows of B in every target."""
    return [list(zip(*(update.up.parameters() for update in updates(block)), strict=True)) for block in encoder.blocks]
