"""A run: everything that decides a number, resolved and frozen. Its hash is its identity."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from petlbench.errors import InputError
from petlbench.framing import Framing, Interpolation, Resize
from petlbench.recipe import LATER, Recipe

Protocol = Literal["fixed", "tuned", "paper"]
"""How hyper-parameters were chosen and what is scored.

`fixed`: the method's recipe. `tuned`: searched in the method's grid on val200. `paper`: the published settings, and the
best test epoch beside the last. See docs/protocols.md.
"""
Normalization = Literal["backbone", "imagenet", "half", "none"]
"""Whose mean and deviation normalise the pixels. What equals the backbone's own is called `backbone`."""


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
    """Normalisation for pixels in [0, 1]: the one of the pre-training, unless another was asked for."""
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Search:
    """What settings were chosen from."""

    trials: int
    """Budget: the largest number of settings to try, the same for every method."""
    space: dict[str, list[Any]]
    """Values by the name of a field, of the method or of the recipe; empty if nothing was left to search."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a search has spent on one task."""

    trials: int
    """Settings that were tried, those that diverged included."""
    seconds: float
    """Wall time of all trials, one after the other."""


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
    normalization: Normalization = "backbone"
    """The name of the normalisation in `backbone`."""
    resize: Resize = "squash"
    """How images become square."""
    interpolation: Interpolation = "bicubic"
    train: Literal["train800", "train800val200"] = "train800val200"
    """Split that is trained on."""
    score: Literal["val200", "test"] = "test"
    """Split that is scored: val200 for the trials of a search, which never see the test split."""
    search: Search | None = None
    """What the settings of a final run under `tuned` were chosen from; None for all other runs."""
    evaluate_every: int = 0
    """Epochs between evaluations of the test split under `paper`; 0, everywhere else: the last epoch only."""
    seed: int
    label: str
    """The method with the fields that differ from its defaults, as in "vpt(tokens=50)". Not part of the identity."""
    overrides: str = ""
    """What was asked to differ from the method's recipe, as in "epochs=4". Not part of the identity: `recipe` is."""

    @cached_property
    def key(self) -> str:
        """Identity: 12 hexadecimal digits of the SHA-256 over all fields but the labels, and but those of the recipe
        that came later and say nothing new."""
        identity = {name: value for name, value in msgspec.to_builtins(self).items() if name not in LABELS}
        as_before = msgspec.to_builtins(LATER)
        identity["recipe"] = {
            name: value
            for name, value in identity["recipe"].items()
            if name not in as_before or value != as_before[name]
        }
        return hashlib.sha256(msgspec.json.encode(identity, order="sorted")).hexdigest()[:12]

    @property
    def framing(self) -> Framing:
        """What is done to each image of the task before anything else."""
        return Framing(self.backbone.image_size, self.resize, self.interpolation)

    @property
    def is_trial(self) -> bool:
        """Whether it is a step of a search, whose score is for choosing settings and never for a table."""
        return self.score == "val200"

    @property
    def path(self) -> Path:
        """Where its record lies below the results folder: a function of the run, so it is found without an index."""
        return Path(self.place)

    @property
    def place(self) -> str:
        """`path` as text: a plan looks up ten thousand of them.

        Raises InputError for a run, as a stranger's record may hold one, whose names would lead out of the folder.
        """
        suite, method = self.suite, portable(self.method)
        if not LEADS_OUT.isdisjoint((suite, method)) or SEPARATORS.search(f"{suite}{method}{self.task}"):
            raise InputError(f"run of {method!r} on {suite!r}, task {self.task!r}: these are no names but paths")
        return f"{suite}/{method}/{self.task}-s{self.seed}-{self.key}.json"

    def __str__(self) -> str:
        trial = f" trial {self.overrides}".rstrip() if self.is_trial else ""
        return f"{self.suite}/{self.task} {self.label}{trial} seed {self.seed}"


LABELS = ("label", "overrides")

LEADS_OUT = frozenset(("", ".", ".."))
SEPARATORS = re.compile(r"[/\\\0]")


def portable(name: str) -> str:
    """The name of a method as part of a path: peft-dora for peft:dora, since not every system allows a colon."""
    return name.replace(":", "-")


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
    """Threads of torch on the CPU, in each process."""
    processes: int = 1
    """Processes that train the run together, each on a GPU of its own; for dense suites only."""
    budget: Budget | None = None
    """What the search for the run's settings has spent, if there was one."""
    replaces: str = ""
    """`Record.stamp` of the record that the run had when it was planned; a worker that finds another leaves it."""
    save_weights: bool = False
    """Whether what was trained is kept, see `petlbench.kept`."""

    @property
    def key(self) -> str:
        return self.run.key

    @property
    def path(self) -> Path:
        return self.run.path

    def __str__(self) -> str:
        return str(self.run)
