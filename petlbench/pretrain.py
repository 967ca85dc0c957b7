"""Pre-trains the embedded backbone `mini` on generated pictures, from nothing but a seed."""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from timm.models.vision_transformer import VisionTransformer
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from petlbench.backbone import MINI, MINI_NORMALIZATION
from petlbench.drawing.pretraining import PretrainingImages
from petlbench.errors import InputError
from petlbench.files import write
from petlbench.machine import machine

PROGRESS = ("step", "wall", "cpu", "log")
"""What a checkpoint keeps of a trainer besides weights and optimizer: steps done, seconds taken, lines logged."""


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """All that decides the weights; the same values on the same kind of CPU, with one thread, give the same file."""

    images: int = 1_200_000
    """Pictures to train on; each is seen once."""
    batch_size: int = 64
    seed: int = 0
    """Of the classes, of the first weights and of every picture."""
    lr: float = 1e-3
    """Peak learning rate of AdamW, behind a linear warm-up and in front of a cosine that ends at 0."""
    warmup: float = 0.03
    """Part of the training that the warm-up takes."""
    weight_decay: float = 0.05
    """Of matrices only."""
    label_smoothing: float = 0.05
    clip_norm: float = 1.0
    hardening: tuple[float, float] = (0.15, 0.6)
    """Parts of the training at which the pictures' hardness starts to rise from 0 and reaches 1."""
    precision: Literal["bf16", "fp32"] = "bf16"

    @property
    def steps(self) -> int:
        return max(1, self.images // self.batch_size)

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        done = (step + 1) / self.steps
        return self.lr * min(done / self.warmup, 0.5 + 0.5 * math.cos(math.pi * done))

    def hardness(self, step: int) -> float:
        """Hardness of the pictures of a step; see `PretrainingImages.batch`."""
        start, end = self.hardening
        return min(1.0, max(0.0, (step / self.steps - start) / (end - start)))


class Supervised(nn.Module):
    """The objective "name the class": cross-entropy of a linear classifier on the class token."""

    def __init__(self, recipe: Pretraining, labels: dict[str, range]) -> None:
        super().__init__()
        self.model = VisionTransformer(**MINI, num_classes=sum(map(len, labels.values())))
        for block in self.model.blocks:
            attention: Any = block.attn
            attention.fused_attn = False  # 17 tokens: the plain product is twice as fast in bf16 on a CPU
        self.label_smoothing, self.labels = recipe.label_smoothing, labels

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and the accuracy in percent per family of pictures."""
        logits = self.model(images).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        right = 100.0 * (logits.argmax(1) == labels)
        members = {name: (labels >= own.start) & (labels < own.stop) for name, own in self.labels.items()}
        return loss, {name: right[own].mean() for name, own in members.items()}


class Trainer:
    """A pre-training in progress: it can be stopped behind any line of its log and goes on to the same weights."""

    def __init__(self, recipe: Pretraining, out: Path) -> None:
        if recipe.batch_size < 8 or recipe.images < recipe.batch_size:
            raise InputError("--batch-size must be at least 8 and --images at least one batch")
        self.recipe, self.out, self.checkpoint = recipe, out, out / "checkpoint.pt"
        self.pictures = PretrainingImages(recipe.seed)
        self.mean, self.std = (torch.tensor(MINI_NORMALIZATION[key]).view(3, 1, 1) for key in ("mean", "std"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.objective = Supervised(recipe, self.pictures.labels)
        matrices = [each for each in self.objective.parameters() if each.squeeze().ndim > 1]
        vectors = [each for each in self.objective.parameters() if each.squeeze().ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, recipe.lr, weight_decay=recipe.weight_decay, fused=True)
        self.step, self.wall, self.cpu = 0, 0.0, 0.0
        self.log: list[dict[str, float]] = []

    def run(self, report: Callable[[str], None] = print) -> None:
        """Train to the end. A hundred times on the way: log, save, and report one line."""
        if self.step == 0 and self.checkpoint.exists():
            raise InputError(f"--out {self.out}: holds a training already; pass --resume or another folder")
        scores: list[Tensor] = []
        wall, cpu = time.perf_counter(), time.process_time()
        while self.step < self.recipe.steps:
            scores.append(self._train_one_batch())
            self.step += 1
            if self.step % max(1, self.recipe.steps // 100) == 0 or self.step == self.recipe.steps:
                self.wall += time.perf_counter() - wall
                self.cpu += time.process_time() - cpu
                wall, cpu = time.perf_counter(), time.process_time()
                means = torch.stack(scores).mean(0).tolist()
                scores.clear()
                line = {"images": self.step * self.recipe.batch_size, "hardness": self.recipe.hardness(self.step - 1)}
                self.log.append(line | dict(zip(["loss", *self.pictures.labels], means, strict=True)))
                self.save()
                report(self._progress())

    def _progress(self) -> str:
        """The last line of the log, for people."""
        last = self.log[-1]
        scores = "  ".join(f"{name} {last[name]:4.1f} %" for name in self.pictures.labels)
        speed, left = last["images"] / self.wall, self.wall * (self.recipe.steps / self.step - 1) / 60
        return (
            f"{last['images']:,} images  loss {last['loss']:.3f}  {scores}  {speed:.0f} images/s  {left:.0f} min left"
        )

    def _train_one_batch(self) -> Tensor:
        """One step; returns the loss and the accuracies as one vector."""
        recipe = self.recipe
        # Each step has a seed of its own, so a resumed training draws the same pictures.
        generator = Generator().manual_seed((recipe.seed * 1_000_003 + self.step + 1) % 2**32)
        images, labels = self.pictures.batch(recipe.batch_size, generator, recipe.hardness(self.step))
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            loss, scores = self.objective((images - self.mean) / self.std, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.objective.parameters(), recipe.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return torch.stack([loss.detach(), *scores.values()])

    def save(self) -> None:
        """Write the weights so far with their card, the log, and the checkpoint; each file whole or not at all."""
        state = self.objective.model.state_dict()
        weights = {name: value.half() for name, value in state.items() if not name.startswith("head.")}
        write(self.out / "mini.safetensors", save(weights))
        write(self.out / "mini.json", json.dumps(self.card(weights), indent=2).encode() + b"\n")
        write(self.out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in self.log).encode())
        buffer = io.BytesIO()
        progress = {name: getattr(self, name) for name in PROGRESS} | {"recipe": asdict(self.recipe)}
        torch.save({"model": state, "optimizer": self.optimizer.state_dict()} | progress, buffer)
        write(self.checkpoint, buffer.getvalue())

    def resume(self) -> None:
        """Go on from the checkpoint. Raises InputError if there is none, or one of another recipe."""
        if not self.checkpoint.is_file():
            raise InputError(f"--resume: no checkpoint in {self.out}")
        try:
            saved = torch.load(self.checkpoint, weights_only=True)
        except Exception as error:  # a damaged file raises all sorts of things
            raise InputError(f"--resume: {self.checkpoint} cannot be read: {type(error).__name__}") from error
        other = [name for name, value in asdict(self.recipe).items() if saved["recipe"].get(name) != value]
        if other:
            raise InputError(f"--resume: the checkpoint in {self.out} has another {' and '.join(other)}")
        self.objective.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        for name in PROGRESS:
            setattr(self, name, saved[name])

    def card(self, weights: dict[str, Tensor]) -> dict[str, Any]:
        """The model card of the weights so far, as data."""
        recipe, last, here, threads = self.recipe, self.log[-1], machine("cpu"), torch.get_num_threads()
        capability = torch.backends.cpu.get_cpu_capability()
        return {
            "name": "mini",
            "architecture": MINI,
            "normalization": MINI_NORMALIZATION,
            "sha256": hashlib.sha256(save(weights)).hexdigest(),
            "weights": sum(value.numel() for value in weights.values()),
            "data": "generated shapes, fractals and textures in 532 classes; no photograph, nothing of third parties",
            "objective": "supervised classification",
            "recipe": asdict(recipe),
            "command": f"petlbench pretrain --images {recipe.images} --batch-size {recipe.batch_size} --lr {recipe.lr} "
            f"--seed {recipe.seed} --precision {recipe.precision} --threads {threads}",
            "images_seen": last["images"],
            "finished": self.step == recipe.steps,
            "train_loss": round(last["loss"], 3),
            "train_accuracy": {name: round(last[name], 1) for name in self.pictures.labels},
            "wall_hours": round(self.wall / 3600, 2),
            "cpu_hours": round(self.cpu / 3600, 2),
            "machine": f"{here.cores}-core {here.cpu} ({capability}), {threads} thread{'s' * (threads > 1)}",
            "versions": here.versions,
            "license": "Apache-2.0",
        }
