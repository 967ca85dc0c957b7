"""A run: everything that decides a number, resolved and frozen. Its hash is its identity."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from petlbench.recipe import Recipe

Protocol = Literal["fixed"]
"""How hyper-parameters were chosen and what is scored: `fixed` takes the method's recipe and the last epoch."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A backbone as a run records it: enough to build it again and to tell two of them apart."""

    name: str
    weights: str
    """"pretrained" (those that belong to the name), "random", or the name of a file."""
    sha256: str | None
    """Digest of the weights file; None where timm fetches the weights or there are none."""
    image_size: int
    """Height and width that images are resized to, in pixels."""
    mean: tuple[float, float, float]
    """Normalisation that the backbone was pre-trained with, for pixels in [0, 1]."""
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One method, trained once on one task. Whatever could change its score stands in here."""

    suite: str
    task: str
    method: str
    fields: dict[str, Any]
    """Every hyper-parameter of the method, defaults included."""
    recipe: Recipe
    backbone: Backbone
    data: str
    """Fingerprint of the images and labels."""
    protocol: Protocol = "fixed"
    seed: int
    label: str
    """The method with the fields that differ from its defaults, as in "vpt(tokens=50)". Not part of the identity."""
    overrides: str = ""
    """What was asked to differ from the method's recipe, as in "epochs=4". Not part of the identity: `recipe` is."""

    @property
    def key(self) -> str:
        """Identity: 12 hexadecimal digits of the SHA-256 over all fields but the labels."""
        identity = {name: value for name, value in msgspec.to_builtins(self).items() if name not in LABELS}
        return hashlib.sha256(msgspec.json.encode(identity, order="sorted")).hexdigest()[:12]

    @property
    def path(self) -> Path:
        """Where its record lies below the results folder: a function of the run, so it is found without an index."""
        return Path(self.suite, self.method, f"{self.task}-s{self.seed}-{self.key}.json")

    def __str__(self) -> str:
        return f"{self.suite}/{self.task} {self.label} seed {self.seed}"


LABELS = ("label", "overrides")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run together with where this machine keeps what it needs: what an engine hands to a worker."""

    run: Run
    data: str
    """Folder of the task's data."""
    results: str
    """Folder of the results."""
    weights: str | None = None
    """Path of the weights file, where the run names one."""
    plugins: dict[str, str] = field(default_factory=dict)
    """Paths of the method's and the suite's file, where they are no names of the zoo."""
    device: str = "cpu"
    threads: int = 1
    """Threads of torch on the CPU."""

    @property
    def key(self) -> str:
        return self.run.key

    def __str__(self) -> str:
        return str(self.run)
