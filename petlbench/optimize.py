"""Optimiser and learning rate of a recipe: which weights move how fast, and when."""

from __future__ import annotations

import math
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
    heads = {id(weight) for weight in head.parameters()}
    for name, weight in named:
        if weight.requires_grad:
            is_head = id(weight) in heads  # the blocks that a neck may have are none of the backbone's
            scale = recipe.head_lr if is_head else recipe.layer_decay ** (depth + 1 - _layer(name, depth))
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


class StepSchedule:
    """A learning rate that falls over so many steps by a power or at milestones, behind a linear warm-up.

    As in mmsegmentation and mmdetection: the warm-up overlays the start of the decay. With `cosine`, half a cosine.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int) -> None:
        warmup = recipe.warmup_steps
        if warmup >= steps:
            raise InputError(f"--recipe warmup_steps={warmup}: leaves nothing of {steps} steps")
        self.optimizer, self.recipe, self.steps = optimizer, recipe, steps

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        recipe, share = self.recipe, step / self.steps
        if recipe.decay == "steps":
            rate = recipe.lr * 0.1 ** sum(share >= milestone for milestone in recipe.milestones)
        elif recipe.decay == "poly":
            rate = recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 - share) ** recipe.power
        else:
            rate = recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + math.cos(math.pi * share)) / 2
        if step < recipe.warmup_steps:
            rate = min(rate, recipe.warmup_lr + (recipe.lr - recipe.warmup_lr) * (step + 1) / recipe.warmup_steps)
        return rate

    def set(self, step: int) -> None:
        """Set the rates for a step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step) * group["lr_scale"]


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
