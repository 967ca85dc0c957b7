"""Optimiser and learning rate of a recipe: which weights move how fast, and when."""

from __future__ import annotations

import re

import torch
from timm.scheduler import CosineLRScheduler
from torch import nn

from petlbench.errors import InputError
from petlbench.recipe import Recipe


def optimizer_for(encoder: nn.Module, head: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser over whatever requires a gradient, in groups by learning rate and decay, highest rate first."""
    named = [(name, weight) for part in (encoder, head) for name, weight in part.named_parameters()]
    if recipe.layer_decay != 1 and any(STAGE.search(name) for name, _ in named):
        raise InputError(f"--recipe layer_decay={recipe.layer_decay}: for plain ViTs only, this backbone has stages")
    depth = 1 + max((int(found[1]) for name, _ in named if (found := BLOCK.search(name))), default=0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in named:
        if weight.requires_grad:
            scale = recipe.layer_decay ** (depth + 1 - _layer(name, depth))
            spared = not recipe.decay_all and (weight.ndim <= 1 or name.endswith(".bias"))
            groups.setdefault((scale, 0.0 if spared else recipe.weight_decay), []).append(weight)
    options = [
        {"params": weights, "lr_scale": scale, "weight_decay": decay}  # timm's schedules multiply by lr_scale
        for (scale, decay), weights in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(options, recipe.lr, momentum=recipe.momentum)
    return torch.optim.AdamW(options, recipe.lr, fused=True)  # one kernel for all weights: HST has many small ones


class Schedule:
    """timm's cosine with linear warm-up, set on every group of an optimiser."""

    def __init__(self, optimizer: torch.optim.Optimizer, recipe: Recipe) -> None:
        length = recipe.epochs - (recipe.warmup_epochs if recipe.warmup_prefix else 0)
        if length < 1:
            raise InputError(f"--recipe warmup_epochs={recipe.warmup_epochs}: leaves nothing of {recipe.epochs} epochs")
        self.recipe = recipe
        self.cosine = CosineLRScheduler(
            optimizer,
            t_initial=length,
            lr_min=recipe.min_lr,
            warmup_t=recipe.warmup_epochs,
            warmup_lr_init=recipe.warmup_lr,
            warmup_prefix=recipe.warmup_prefix,
        )

    def set(self, epoch: int, passed: float) -> None:
        """Set the rates for an epoch, of which a share in [0, 1) has passed."""
        time = epoch + (passed if self.recipe.schedule_per == "step" else 0.0) - self.recipe.schedule_lag
        self.cosine.step(max(0.0, time))  # type: ignore[arg-type]  # its formula takes any real number


BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)\.")
STAGE = re.compile(r"(?:^|\.)layers\.(\d+)\.blocks\.")
EMBEDDING = re.compile(r"(?:^|\.)(?:patch_embed|cls_token|reg_token|pos_embed|norm_pre)\b")
LAST_NORM = re.compile(r"(?:^|\.)model\.norm\.")


def _layer(name: str, depth: int) -> int:
    """Layer of a weight, as timm counts: 0 embeddings, 1 to `depth` blocks, then the head and all that is new."""
    if found := BLOCK.search(name):
        return int(found[1]) + 1
    if EMBEDDING.search(name):
        return 0
    return depth if LAST_NORM.search(name) else depth + 1
