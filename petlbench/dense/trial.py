"""A trial on images of any size: training by steps that survives being stopped, and answers in place of vectors."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from petlbench.dense.checkpoint import Alarm, Checkpoints, Stateful
from petlbench.dense.head import DenseHead, Target
from petlbench.dense.images import Batch, Examples, Part, Source, ahead, collated, moved, order, pixels, stacked
from petlbench.dense.ranks import ALONE, Ranks, Released, ranks
from petlbench.dense.suite import SHOWN, DenseSuite, DenseTask, Drawing, Evaluator
from petlbench.encoder import Encoder, Swin, ViT
from petlbench.errors import InputError
from petlbench.files import write
from petlbench.framing import Framing
from petlbench.optimize import StepSchedule, optimizer_for
from petlbench.recipe import Recipe
from petlbench.record import Epoch
from petlbench.run import Backbone
from petlbench.surgery import trained
from petlbench.trial import DivergedError, Normalize, Report, Trial, silent

ROWS = 50
"""Rows of the curve of a training, at most."""
MINUTES = 10.0
"""Minutes between checkpoints."""
PIXELS = 2**18
"""Pixels that a batch of evaluation may have, unless a single image has more."""


class DenseTrial(Trial):
    """What `Method.fit` may touch, as in `Trial`; a batch is a `petlbench.dense.images.Batch`."""

    head: DenseHead

    def __init__(
        self,
        encoder: Encoder,
        head: nn.Module,
        suite: DenseSuite,
        task: Any,
        recipe: Recipe,
        train: Examples,
        backbone: Backbone,
        *,
        seed: int = 0,
        device: str = "cpu",
        report: Report = silent,
        workers: int = 2,
    ) -> None:
        """`workers` are threads that read images; how many there are changes nothing but the time."""
        assert isinstance(head, DenseHead)
        self.encoder, self.head = encoder.to(device), head.to(device)
        self.suite: DenseSuite = suite
        self.task: DenseTask = task
        self.recipe, self.device = recipe, device
        self.train = train
        self.curve, self.found, self.watch = [], {}, None
        self.workers, self.minutes = workers, MINUTES
        self.ranks = ranks()
        self._source = train.source
        self._normalize = Normalize(backbone)
        self._seed = seed
        self._report = report
        self._calls = count()  # shared with the parts of `split`, as are the two below
        self._keeps: list[Checkpoints] = []
        self._best: dict[str, float] = {}
        self._pictures: Path | None = None
        if recipe.checkpointing:
            recompute(encoder)

    def keep_in(self, checkpoints: Path, pictures: Path | None = None) -> None:
        self._keeps[:] = [Checkpoints(checkpoints)]
        self._pictures = pictures

    def forget(self) -> None:
        for keep in self._keeps:
            keep.remove()

    def fit(self, recipe: Recipe | None = None) -> None:
        """Train whatever requires a gradient for one pass of the recipe; goes on where an earlier process stopped.

        Every call of a method's `fit` has a checkpoint of its own, and one that was finished is not repeated: what the
        method does in between is done again, on the same weights. Raises as `Trial.fit` does.
        """
        recipe, call = recipe or self.recipe, next(self._calls)
        self._check(recipe)
        size = min(recipe.batch_size, len(self._source))
        steps = recipe.steps or recipe.total_epochs * (len(self._source) // size)
        optimizer = optimizer_for(self.encoder, self.head, recipe)
        schedule = StepSchedule(optimizer, recipe, steps)
        scaler = torch.amp.GradScaler(torch.device(self.device).type, enabled=recipe.precision == "fp16")
        state: dict[str, Stateful] = {
            "encoder": self.encoder,
            "head": self.head,
            "optimizer": optimizer,
            "scaler": scaler,
        }
        keep = self._keeps[0] if self._keeps else None
        first, found = 0, keep.load(call, state) if keep else None
        if found:
            first, self._best = found["step"], found["best"]
            self.curve[:] = msgspec.convert(found["curve"], list[Epoch])
        meter = Meter(size, found["losses"] if found else [])
        row, saved = -(-steps // ROWS), time.monotonic()
        networks = (self.encoder, self.head)
        self.ranks.agree(networks, first)
        loaded = self._loaded(recipe, call, first * size, (steps - first) * size, self.ranks)
        with Alarm() as alarm, self.ranks.whole_batches(networks):
            for step, batch in enumerate(loaded, first):
                schedule.set(step)
                optimizer.zero_grad(set_to_none=True)
                with self.ranks.chance(self._seed, call, step):
                    meter.add(self._step(batch, recipe, scaler))
                if recipe.clip_norm is not None:
                    scaler.unscale_(optimizer)
                    nn.utils.clip_grad_norm_([*trained(self.encoder), *trained(self.head)], recipe.clip_norm)
                scaler.step(optimizer)
                scaler.update()
                done = step + 1
                looks = bool(recipe.evaluate_steps) and done % recipe.evaluate_steps == 0 and done < steps
                if done % row == 0 or done == steps or looks:
                    self.curve.append(meter.row(done, schedule.rate(step)))
                    self._report(epoch=done, epochs=steps, loss=self.curve[-1].loss)
                if self.ranks.rank > 0:
                    continue
                if looks:
                    self._evaluate()
                if keep and (alarm.rings or done == steps or time.monotonic() - saved > 60 * self.minutes):
                    curve = msgspec.to_builtins(self.curve)
                    facts = {"step": done, "curve": curve, "best": self._best, "losses": meter.rows()}
                    keep.save(call, state, facts)
                    saved = time.monotonic()
                alarm.answer()

    def batches(self, recipe: Recipe | None = None) -> Iterator[Batch]:  # type: ignore[override]
        """One epoch of shuffled training batches; an incomplete last one is dropped. What is done with them is not
        shared: each process of a run sees all of every batch, and comes to the same."""
        recipe = recipe or self.recipe
        size = min(recipe.batch_size, len(self._source))
        yield from self._loaded(recipe, next(self._calls), 0, len(self._source) // size * size)

    def loss(self, batch: Batch) -> Tensor:  # type: ignore[override]
        return self.suite.loss(self._losses(batch, self.recipe), batch.targets)

    def split(self) -> tuple[DenseTrial, DenseTrial]:
        index = np.random.default_rng(self._seed).permutation(len(self._source)).tolist()
        held = len(index) // 5
        parts = []
        for chosen in (index[held:], index[:held]):
            part = copy(self)
            part.watch = None
            part._source = Part(self._source, chosen)
            parts.append(part)
        return parts[0], parts[1]

    def score(self) -> float:
        return self.ranks.first(lambda: next(self._answers(self._source, self.suite.plain(self.task)).scores())[1])

    def outputs(self, data: Examples) -> tuple[Outcome, Examples]:  # type: ignore[override]
        """The scores of the networks as they are now over a split, and the split; the first answers are drawn.

        Raises Released in all processes of a run but the first.
        """
        if self.ranks.rank > 0:
            raise Released
        evaluator = self._answers(data.source)
        if self._pictures is not None and isinstance(evaluator, Drawing):
            for index in range(min(SHOWN, len(data))):
                content = io.BytesIO()
                evaluator.picture(index).save(content, "png")
                write(self._pictures / f"{index}.png", content.getvalue())
        return Outcome(evaluator, self._best), data

    def _evaluate(self) -> None:
        """Score the images to score on, and remember the best of each metric."""
        test = self.suite.data(self.task, "test", self.train.folder, Framing(1))
        scores = {name: value for name, value in self._answers(test.source).scores() if "/" not in name}
        self._best = {name: max(value, self._best.get(name, -math.inf)) for name, value in scores.items()}
        self.curve[-1] = replace(self.curve[-1], scores=scores)

    @torch.inference_mode()
    def _answers(self, source: Source, task: DenseTask | None = None) -> Evaluator:
        task = task or self.task
        self.encoder.eval()
        self.head.eval()
        evaluator = self.suite.evaluator(task, source)
        shorter, longer = task.sides
        at_once = max(1, PIXELS // (shorter * longer))
        groups = [range(i, min(i + at_once, len(source))) for i in range(0, len(source), at_once)]
        for group, images in zip(
            groups, ahead(lambda group: [source.image(i) for i in group], groups, self.workers), strict=True
        ):
            answers = self.suite.answers(task, self.look, images)
            for index, image, (found, seen) in zip(group, images, answers, strict=True):
                evaluator.add(index, found, seen, (image.height, image.width))
        return evaluator

    def look(self, views: Sequence[Image]) -> list[dict[str, Any]]:
        """The head's answers to images of the size that they are to be seen in; on the CPU."""
        images = stacked([pixels(each) for each in views], self._normalize).to(self.device)
        with self._autocast(self.recipe):
            found = self.head.predict(self.encoder.pyramid(images), images, [(v.height, v.width) for v in views])
        return [
            {name: value.cpu() if isinstance(value, Tensor) else value for name, value in each.items()}
            for each in found
        ]

    def _loaded(self, recipe: Recipe, call: int, start: int, images: int, ranks: Ranks = ALONE) -> Iterator[Batch]:
        """Batches of augmented images, or of each what is our own, from a place in the endless row of permutations on,
        in training mode. The place is the first of a batch.

        Each image has random numbers of its own, by its place in the row: threads cannot change them.
        """
        size = min(recipe.batch_size, len(self._source))

        def load(place: int, index: int) -> tuple[Tensor, Target]:
            rng = np.random.default_rng([self._seed, call, place])
            image, target = self._source.image(index), self._source.target(index)
            image, target = self.suite.augmented(self.task, recipe, image, target, rng)
            return pixels(image), target

        own = ranks.own(size)
        row = zip(range(start, start + images), order(len(self._source), (self._seed, call), start), strict=False)
        loaded = ahead(lambda item: load(*item), (item for item in row if item[0] % size in own), self.workers)
        self.encoder.train()
        self.head.train()
        while parts := list(islice(loaded, len(own))):
            self.encoder.train()  # whoever has a batch may have evaluated in between
            self.head.train()
            yield moved(collated(parts, self._normalize), self.device)

    def _losses(self, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
        with self._autocast(recipe):
            return self.head.losses(self.encoder.pyramid(batch.images), batch.images, batch.targets)

    def _step(self, batch: Batch, recipe: Recipe, scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
        """Take the gradient of a batch's loss, part by part, and return its parts; each counts by its share in the
        batch of all processes."""
        total: dict[str, Tensor] = {}
        size, whole = len(batch.targets), self._share(batch)
        for part in range(recipe.accumulate):
            some = slice(part * size // recipe.accumulate, (part + 1) * size // recipe.accumulate)
            piece = Batch(batch.images[some], batch.targets[some])
            losses = self._losses(piece, recipe)
            share = whole * len(piece.targets) / size
            scaler.scale(self.suite.loss(losses, piece.targets) * share).backward()
            for name, value in losses.items():
                total[name] = total.get(name, torch.zeros((), device=value.device)) + value.detach().float() * share
        self.ranks.sum_gradients([*trained(self.encoder), *trained(self.head)])
        self.ranks.sum(list(total.values()))
        return total

    def _share(self, batch: Batch) -> float:
        """How much of what the losses are means over is ours."""
        if self.ranks.size == 1:
            return 1.0
        own = self.head.counted(batch.targets)
        return own / max(self.ranks.total(own, self.device), 1.0)

    def _check(self, recipe: Recipe) -> None:
        size = min(recipe.batch_size, len(self._source))
        for name in ("mixup", "cutmix", "erasing", "label_smoothing"):
            if getattr(recipe, name):
                raise InputError(f"--recipe {name}={getattr(recipe, name)}: not for dense suites, valid: {name}=0")
        if recipe.accumulate * self.ranks.size > size:
            each = f" for each of {self.ranks.size} processes" if self.ranks.size > 1 else ""
            raise InputError(f"--recipe accumulate={recipe.accumulate}: a batch has only {size} images{each}")
        self.encoder.train()
        self.head.train()
        modules = [*self.encoder.modules(), *self.head.modules()]
        if recipe.accumulate > 1 and any(isinstance(module, _BatchNorm) and module.training for module in modules):
            raise InputError(
                f"--recipe accumulate={recipe.accumulate}: there is BatchNorm, whose statistics are those of the whole "
                "batch; use accumulate=1"
            )


class Outcome:
    """Scores of the last step and, where there were evaluations before it, the best of all as METRIC_best."""

    def __init__(self, last: Evaluator, best: dict[str, float]) -> None:
        self._last, self._best = last, best

    def scores(self) -> Iterator[tuple[str, float]]:
        for name, value in self._last.scores():
            yield name, value
            if name in self._best:
                yield f"{name}_best", max(value, self._best[name])


class Meter:
    """Losses by part since the last row of the curve, and how fast they came."""

    def __init__(self, images: int, earlier: Sequence[dict[str, float]] = ()) -> None:
        self.images = images
        self._earlier = list(earlier)
        self._losses: list[dict[str, Tensor]] = []
        self._began = time.perf_counter()

    def add(self, losses: dict[str, Tensor]) -> None:
        self._losses.append(losses)

    def rows(self) -> list[dict[str, float]]:
        """Each step's losses as numbers."""
        return [*self._earlier, *({name: value.item() for name, value in each.items()} for each in self._losses)]

    def row(self, step: int, rate: float) -> Epoch:
        """The mean of what was added, and a fresh start. Raises DivergedError for what is not finite."""
        rows, seconds = self.rows(), time.perf_counter() - self._began
        parts = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        speed = len(self._losses) * self.images / seconds
        for number, values in enumerate(rows):
            if not all(math.isfinite(value) for value in values.values()):
                raise DivergedError(f"the loss is not finite any more (step {step - len(rows) + number + 1})")
        self._earlier, self._losses, self._began = [], [], time.perf_counter()
        loss = sum(parts.values())
        return Epoch(loss=loss, lr=rate, seconds=seconds, step=step, parts=parts, images_per_second=round(speed, 2))


def recompute(encoder: Encoder) -> None:
    """Let each block of the backbone keep its input only and compute the rest again in the backward pass."""
    for module in encoder.modules():
        if isinstance(module, ViT | Swin):
            for block in module.blocks:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
