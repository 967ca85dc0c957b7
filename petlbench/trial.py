"""A trial: one encoder, one head and one task's training images, and the plain way to train the two on the third."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, Protocol

import torch
from timm.layers import DropPath
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn

from petlbench.encoder import Encoder
from petlbench.folder import Images
from petlbench.recipe import Recipe
from petlbench.record import Epoch
from petlbench.run import Backbone
from petlbench.suite import Suite
from petlbench.surgery import trained

Batch = tuple[Tensor, Tensor]
"""Normalised images (B, 3, H, W) float32 and labels (B,) int64, on the trial's device."""

EVAL_BATCH = 250
"""Images per batch of evaluation; affects no score beyond rounding."""


class Report(Protocol):
    """What a trial tells while it runs."""

    def __call__(self, *, epoch: int, epochs: int, loss: float | None) -> None: ...


def silent(*, epoch: int, epochs: int, loss: float | None) -> None:
    """Report nothing."""


class DivergedError(RuntimeError):
    """The training loss was no longer finite."""


class Trial:
    """What `Method.fit` may touch: the networks, the recipe, the batches and the loss."""

    def __init__(
        self,
        encoder: Encoder,
        head: nn.Module,
        suite: Suite,
        recipe: Recipe,
        train: Images,
        backbone: Backbone,
        *,
        seed: int = 0,
        device: str = "cpu",
        report: Report = silent,
    ) -> None:
        self.encoder = encoder.to(device)
        self.head = head.to(device)
        self.suite = suite
        self.recipe = recipe
        self.device = device
        self.curve: list[Epoch] = []
        """One entry per epoch trained so far, over all phases of a method."""
        images, labels = train.all()
        self.images, self.labels = images.to(device), labels.to(device)
        self._normalize = Normalize(backbone).to(device)
        self._order = torch.Generator().manual_seed(seed)
        self._report = report

    def fit(self, recipe: Recipe | None = None) -> None:
        """Train whatever requires a gradient, head included, for one pass of the recipe.

        The learning rate follows timm's cosine with warm-up, set once per epoch. Raises DivergedError, naming the step,
        when the loss is not finite.
        """
        recipe = recipe or self.recipe
        optimizer = _optimizer(self.encoder, self.head, recipe)
        schedule = _schedule(optimizer, recipe)
        scaler = torch.amp.GradScaler(self.device, enabled=recipe.precision == "fp16")
        weights = [*trained(self.encoder), *trained(self.head)]
        batches = self._cached if self._encoder_is_fixed() else self._batches
        for epoch in range(recipe.total_epochs):
            schedule.step(epoch)
            started, losses = time.perf_counter(), []
            for inputs, labels, forward in batches(recipe):
                with self._autocast(recipe):
                    loss = self.suite.loss(self.head(forward(inputs)), labels, recipe.label_smoothing)
                optimizer.zero_grad(set_to_none=True)
                scaler.scale(loss).backward()
                if recipe.clip_norm is not None:
                    scaler.unscale_(optimizer)
                    nn.utils.clip_grad_norm_(weights, recipe.clip_norm)
                scaler.step(optimizer)
                scaler.update()
                losses.append(loss.detach())
            mean = torch.stack(losses).mean().item()
            if not math.isfinite(mean):
                step = int((~torch.stack(losses).isfinite()).nonzero()[0])
                raise DivergedError(f"the loss is not finite any more (epoch {epoch + 1}, step {step + 1})")
            rate = optimizer.param_groups[0]["lr"]
            self.curve.append(Epoch(loss=mean, lr=rate, seconds=time.perf_counter() - started))
            self._report(epoch=epoch + 1, epochs=recipe.total_epochs, loss=mean)

    def batches(self, recipe: Recipe | None = None) -> Iterator[Batch]:
        """One epoch of shuffled training batches; an incomplete last one is dropped."""
        for images, labels, _ in self._batches(recipe or self.recipe):
            yield images, labels

    def loss(self, batch: Batch) -> Tensor:
        """The training loss of a batch."""
        images, labels = batch
        with self._autocast(self.recipe):
            return self.suite.loss(self.head(self.encoder(images)), labels, self.recipe.label_smoothing)

    def state(self) -> dict[str, Any]:
        """A copy of both networks' weights, for `restore`."""
        return deepcopy({"encoder": self.encoder.state_dict(), "head": self.head.state_dict()})

    def restore(self, state: dict[str, Any]) -> None:
        """Put the weights of `state` back."""
        self.encoder.load_state_dict(state["encoder"])
        self.head.load_state_dict(state["head"])

    @torch.inference_mode()
    def outputs(self, data: Images) -> tuple[Tensor, Tensor]:
        """What the networks, in evaluation mode, say of every image of a split, and the labels; both on the CPU."""
        self.encoder.eval()
        self.head.eval()
        outputs, labels = [], []
        for images, targets in data.chunks():
            for part in images.split(EVAL_BATCH):
                with self._autocast(self.recipe):
                    outputs.append(self.head(self.encoder(self._normalize(part.to(self.device)))).float().cpu())
            labels.append(targets)
        return torch.cat(outputs), torch.cat(labels)

    def _batches(self, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]]:
        self.encoder.train()
        self.head.train()
        for index in self._epoch(recipe):
            yield self._normalize(self.images[index]), self.labels[index], self.encoder

    def _cached(self, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]]:
        """As `_batches`, but with the vectors of the encoder in place of the images: an encoder without a trained
        weight says the same of an image in every epoch, so it is asked once."""
        if not hasattr(self, "_vectors"):
            self.encoder.eval()
            with torch.no_grad(), self._autocast(recipe):
                parts = [self.encoder(self._normalize(part)) for part in self.images.split(EVAL_BATCH)]
            self._vectors = torch.cat(parts).float()
        self.head.train()
        for index in self._epoch(recipe):
            yield self._vectors[index], self.labels[index], nn.Identity()

    def _epoch(self, recipe: Recipe) -> Iterator[Tensor]:
        """A fresh permutation of the training images, cut into batches; small sets are one batch."""
        order = torch.randperm(len(self.labels), generator=self._order)
        size = min(recipe.batch_size, len(order))
        return (index.to(self.device) for index in order[: len(order) // size * size].split(size))

    def _encoder_is_fixed(self) -> bool:
        random = any(isinstance(module, DropPath) and module.drop_prob for module in self.encoder.modules())
        return not random and not any(True for _ in trained(self.encoder))

    def _autocast(self, recipe: Recipe) -> torch.autocast:
        lower = {"fp32": torch.bfloat16, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.precision]
        return torch.autocast(torch.device(self.device).type, lower, enabled=recipe.precision != "fp32")


class Normalize(nn.Module):
    """Pixels (B, 3, H, W) uint8 to float32, with the mean and deviation that the backbone was pre-trained with."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(backbone.std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean) / self.std


def _optimizer(encoder: nn.Module, head: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    both = nn.ModuleList([encoder, head])
    groups: list[dict[str, Any]]
    if recipe.decay_all:
        groups = [{"params": list(trained(both)), "weight_decay": recipe.weight_decay}]
    else:
        groups = param_groups_weight_decay(both, recipe.weight_decay)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.lr, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, recipe.lr)


def _schedule(optimizer: torch.optim.Optimizer, recipe: Recipe) -> CosineLRScheduler:
    return CosineLRScheduler(
        optimizer,
        t_initial=recipe.epochs,
        lr_min=recipe.min_lr,
        warmup_t=recipe.warmup_epochs,
        warmup_lr_init=recipe.warmup_lr,
    )
