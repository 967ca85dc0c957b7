"""The recipe of a pre-training: all that decides its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from petlbench import spec
from petlbench.errors import InputError, unknown
from petlbench.pretraining.distill import Distill
from petlbench.pretraining.mim import Mim
from petlbench.pretraining.objective import Objective
from petlbench.pretraining.supervised import Supervised

OBJECTIVES: dict[str, type[Objective]] = {"supervised": Supervised, "mim": Mim, "distill": Distill}


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """The same values on the same kind of CPU, with one thread and the same teacher, give the same file."""

    objective: str = "supervised(sketch=10.0)"
    """A name of OBJECTIVES, which may carry settings."""
    backbone: str = "mini"
    """As `petlbench run --backbone` takes it, such as `mini(embed_dim=192, num_heads=3)`; it sees 64 x 64 pixels."""
    images: int = 2_200_000
    """Pictures to train on, in whole batches; each is seen once."""
    batch_size: int = 64
    seed: int = 0
    """Of the classes, of the first weights, of every picture and of every mask."""
    lr: float = 1e-3
    """Peak learning rate of AdamW, behind a linear warm-up and in front of a cosine that ends at 0."""
    warmup: float = 0.03
    """Part of the training that the warm-up takes."""
    weight_decay: float = 0.05
    """Of matrices only."""
    clip_norm: float = 1.0
    hardening: tuple[float, float] = (0.15, 0.6)
    """Parts of the training at which the pictures' hardness starts to rise from 0 and reaches 1."""
    precision: Literal["bf16", "fp32"] = "bf16"

    def __post_init__(self) -> None:
        if self.batch_size < 8 or self.images < self.batch_size:
            raise InputError("--batch-size must be at least 8 and --images at least one batch")
        if not 0 < self.lr < math.inf:
            raise InputError(f"--lr {self.lr}: expected a number above 0")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed {self.seed}: expected 0 to {2**32 - 1}")

    def made(self) -> Objective:
        """The objective with its settings. Raises InputError for one that does not exist or cannot have these."""
        name, fields = self._named
        return spec.make(OBJECTIVES[name], fields, f"--objective {name}")

    @property
    def file(self) -> str:
        """What the weights and their card are called: mini for the weights of that name, mini-mim, and so on."""
        backbone, (name, _) = spec.single(self.backbone, "--backbone"), self._named
        return backbone.name if name == "supervised" else f"{backbone.name}-{name}"

    @property
    def _named(self) -> tuple[str, dict[str, object]]:
        found = spec.single(self.objective, "--objective")
        if found.name not in OBJECTIVES:
            raise unknown("--objective", found.name, OBJECTIVES)
        return found.name, dict(found.fields)

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
