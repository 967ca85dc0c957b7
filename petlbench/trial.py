"""A trial: one encoder, one head and one task's training images, and the plain way to train the two on the third."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from copy import copy, deepcopy
from pathlib import Path
from typing import Any, Protocol

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from petlbench.augment import Augment
from petlbench.encoder import Encoder
from petlbench.errors import InputError
from petlbench.folder import Images
from petlbench.optimize import Schedule, optimizer_for
from petlbench.recipe import LATER, Recipe
from petlbench.record import Epoch
from petlbench.run import Backbone
from petlbench.suite import Suite
from petlbench.surgery import trained

Batch = tuple[Tensor, Tensor]
"""Normalised images (B, 3, H, W) float32 and labels (B,) int64, on the trial's device. Where a recipe mixes images,
probabilities (B, classes) stand in place of the labels."""

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
        self.found: dict[str, Any] = {}
        """What a method has chosen while it trained, such as what to prune; numbers, text and lists, for the record."""
        self.watch: Callable[[], None] | None = None
        """Called behind every epoch over all training images, under the protocol `paper`."""
        images, labels = train.all()
        self.images, self.labels = images.to(device), labels.to(device)
        self._normalize = Normalize(backbone).to(device)
        self._seed = seed
        self._order = torch.Generator().manual_seed(seed)
        self._seeds = random.Random(seed)
        self._size = backbone.image_size
        self._report = report

    def fit(self, recipe: Recipe | None = None) -> None:
        """Train whatever requires a gradient, head included, for one pass of the recipe.

        Raises DivergedError, naming the step, when the loss is not finite, and InputError for a recipe that these
        networks or this device cannot follow.
        """
        recipe = recipe or self.recipe
        if recipe.is_dense:
            names = ", ".join(name for name, value in LATER.items() if getattr(recipe, name) != value)
            raise InputError(f"--recipe {names}: for dense suites only")
        optimizer = optimizer_for(self.encoder, self.head, recipe)
        schedule = Schedule(optimizer, recipe)
        scaler = torch.amp.GradScaler(torch.device(self.device).type, enabled=recipe.precision == "fp16")
        weights = [*trained(self.encoder), *trained(self.head)]
        batches = self._cached if self._encoder_is_fixed() and not recipe.augments else self._batches
        steps = len(self.labels) // self._batch_size(recipe)
        for epoch in range(recipe.total_epochs):
            started, losses = time.perf_counter(), []
            for step, (inputs, targets, forward) in enumerate(batches(recipe)):
                schedule.set(epoch, step / steps)
                optimizer.zero_grad(set_to_none=True)
                losses.append(self._backward(inputs, targets, forward, recipe, scaler))
                if recipe.clip_norm is not None:
                    scaler.unscale_(optimizer)
                    nn.utils.clip_grad_norm_(weights, recipe.clip_norm)
                scaler.step(optimizer)
                scaler.update()
            mean = torch.stack(losses).mean().item()
            if not math.isfinite(mean):
                step = int((~torch.stack(losses).isfinite()).nonzero()[0])
                raise DivergedError(f"the loss is not finite any more (epoch {epoch + 1}, step {step + 1})")
            rate = optimizer.param_groups[0]["lr"]
            self.curve.append(Epoch(loss=mean, lr=rate, seconds=time.perf_counter() - started))
            self._report(epoch=epoch + 1, epochs=recipe.total_epochs, loss=mean)
            if self.watch is not None:
                self.watch()

    def keep_in(self, checkpoints: Path, pictures: Path | None = None) -> None:
        """Be told where checkpoints may be kept, and pictures of answers. This trial has neither: it is done within
        minutes, and its answers are labels."""

    def forget(self) -> None:
        """Delete what was kept: all is scored."""

    def batches(self, recipe: Recipe | None = None) -> Iterator[Batch]:
        """One epoch of shuffled training batches; an incomplete last one is dropped."""
        for images, targets, _ in self._batches(recipe or self.recipe):
            yield images, targets

    def loss(self, batch: Batch) -> Tensor:
        """The training loss of a batch."""
        images, targets = batch
        with self._autocast(self.recipe):
            return self.suite.loss(self.head(self.encoder(images)), targets, self.recipe.label_smoothing)

    def split(self) -> tuple[Trial, Trial]:
        """Two trials over the same networks: one on four fifths of the training images, one on the fifth left over.

        For a method that has to choose something, such as what to prune, which it may not do by the test split. The
        fifth is drawn with the seed, so it is the same one each time.
        """
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(self._seed))
        held = len(order) // 5
        parts = []
        for index in (order[held:], order[:held]):
            part = copy(self)
            part.__dict__.pop("_vectors", None)  # those are of all images
            part.watch = None
            part.images, part.labels = self.images[index.to(self.device)], self.labels[index.to(self.device)]
            parts.append(part)
        return parts[0], parts[1]

    def score(self) -> float:
        """The task's metric, in percent, of the networks as they are now over the trial's own images."""
        parts = zip(self.images.split(EVAL_BATCH), self.labels.split(EVAL_BATCH), strict=True)
        return next(self.suite.score(*self._outputs(parts)))[1]

    def state(self) -> dict[str, Any]:
        """A copy of both networks' weights, for `restore`."""
        return deepcopy({"encoder": self.encoder.state_dict(), "head": self.head.state_dict()})

    def restore(self, state: dict[str, Any]) -> None:
        """Put the weights of `state` back."""
        self.encoder.load_state_dict(state["encoder"])
        self.head.load_state_dict(state["head"])

    def outputs(self, data: Images) -> tuple[Tensor, Tensor]:
        """What the networks, in evaluation mode, say of every image of a split, and the labels; both on the CPU."""
        return self._outputs(data.chunks())

    @torch.inference_mode()
    def _outputs(self, chunks: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        self.encoder.eval()
        self.head.eval()
        outputs, labels = [], []
        for images, targets in chunks:
            for part in images.split(EVAL_BATCH):
                with self._autocast(self.recipe):
                    outputs.append(self.head(self.encoder(self._normalize(part.to(self.device)))).float().cpu())
            labels.append(targets.cpu())
        return torch.cat(outputs), torch.cat(labels)

    def _backward(
        self,
        inputs: Tensor,
        targets: Tensor,
        forward: Callable[[Tensor], Tensor],
        recipe: Recipe,
        scaler: torch.amp.GradScaler,
    ) -> Tensor:
        """Add the gradient of a batch's loss, part by part, and return the loss. A loss is a mean over images, so each
        part counts by its share of the batch."""
        losses = []
        parts = zip(inputs.tensor_split(recipe.accumulate), targets.tensor_split(recipe.accumulate), strict=True)
        for part, wanted in parts:
            with self._autocast(recipe):
                loss = self.suite.loss(self.head(forward(part)), wanted, recipe.label_smoothing)
            loss = loss * (len(part) / len(inputs))
            scaler.scale(loss).backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _batches(self, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]]:
        augment = Augment(
            recipe, self._normalize, self._seeds, size=self._size, classes=self._classes(recipe), device=self.device
        )
        self.encoder.train()
        self.head.train()
        self._check(recipe)
        for index in self._epoch(recipe):
            yield *augment(self.images[index], self.labels[index]), self.encoder

    def _cached(self, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]]:
        """As `_batches`, but with the vectors of the encoder in place of the images: an encoder without a trained
        weight says the same of an image in every epoch, so it is asked once."""
        if not hasattr(self, "_vectors"):
            self.encoder.eval()
            with torch.no_grad(), self._autocast(recipe):
                parts = [self.encoder(self._normalize(part)) for part in self.images.split(EVAL_BATCH)]
            self._vectors = torch.cat(parts).float()
        self.head.train()
        self._check(recipe)
        for index in self._epoch(recipe):
            yield self._vectors[index], self.labels[index], nn.Identity()

    def _epoch(self, recipe: Recipe) -> Iterator[Tensor]:
        """A fresh permutation of the training images, cut into batches; small sets are one batch."""
        order = torch.randperm(len(self.labels), generator=self._order)
        size = self._batch_size(recipe)
        return (index.to(self.device) for index in order[: len(order) // size * size].split(size))

    def _batch_size(self, recipe: Recipe) -> int:
        return min(recipe.batch_size, len(self.labels))

    def _classes(self, recipe: Recipe) -> int:
        """How many probabilities a mixed target has: as many as the head has outputs."""
        if not recipe.mixes:
            return 0
        with torch.no_grad():
            return self.head.eval()(torch.zeros(1, self.encoder.width, device=self.device)).shape[1]

    def _check(self, recipe: Recipe) -> None:
        """Raise InputError for what these networks, in training mode, and these batches do not allow."""
        size = self._batch_size(recipe)
        if recipe.mixes and size % 2:
            raise InputError(f"--recipe batch_size={size}: mixup and cutmix pair the images of a batch, make it even")
        if recipe.accumulate > size:
            raise InputError(f"--recipe accumulate={recipe.accumulate}: a batch has only {size} images")
        modules = [*self.encoder.modules(), *self.head.modules()]
        if recipe.accumulate > 1 and any(isinstance(module, _BatchNorm) and module.training for module in modules):
            raise InputError(
                f"--recipe accumulate={recipe.accumulate}: {type(self.encoder).__name__} has BatchNorm, whose "
                "statistics are those of the whole batch; use accumulate=1"
            )

    def _encoder_is_fixed(self) -> bool:
        drops = any(isinstance(module, DropPath) and module.drop_prob for module in self.encoder.modules())
        return not drops and not any(True for _ in trained(self.encoder))

    def _autocast(self, recipe: Recipe) -> torch.autocast:
        if recipe.precision == "fp16" and self.device == "cpu":
            raise InputError("--recipe precision=fp16: needs a GPU (CUDA); on the CPU use bf16 or fp32")
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
