"""What a method costs on this machine, measured without any data: parameters, FLOPs, memory, throughput.

Of an encoder with a linear head or, for a task of a dense suite, of the whole detector or segmenter.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from torch import nn

from petlbench import backbone as backbones
from petlbench import provenance, spec, zoo
from petlbench.machine import Machine, machine
from petlbench.measure import Counts, count
from petlbench.method import Method
from petlbench.record import FORMAT
from petlbench.run import Backbone, portable
from petlbench.speed import Speed, speed

COSTS = "cost"
"""Folder of the costs below the results."""

CLASSES = 100
"""Classes of the linear head that costs are measured with."""

BATCH = 32
"""Images per batch, unless another number is asked for."""
DENSE_BATCH = 2
"""The same for dense suites, whose images are large."""


@dataclass(frozen=True, kw_only=True)
class CostJob:
    """One method on one backbone, to be measured in a process of its own with nothing else under way."""

    method: str
    fields: dict[str, Any]
    label: str
    backbone: Backbone
    suite: str = ""
    """A dense suite, whose neck and head are measured, too; empty for a linear head."""
    task: str = ""
    results: str
    plugins: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"
    threads: int = 1
    batch_size: int = BATCH
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    timed: bool = True
    """Whether to measure speed and memory, too; False gives what can be counted."""

    @property
    def key(self) -> str:
        """Identity: 12 hexadecimal digits over what is measured, where and how; not over the weights."""
        parts = msgspec.to_builtins(self)
        identity = {name: parts[name] for name in ("method", "fields", "device", "threads", "batch_size", "precision")}
        identity |= {"backbone": self.backbone.name, "image_size": self.backbone.image_size, "timed": self.timed}
        if self.suite:
            identity |= {"suite": self.suite, "task": self.task}
        return hashlib.sha256(msgspec.json.encode(identity, order="sorted")).hexdigest()[:12]

    @property
    def path(self) -> Path:
        """Where its result lies below the results folder."""
        return Path(COSTS, machine(self.device).tag, f"{portable(self.method)}-{self.key}.json")

    def __str__(self) -> str:
        within = f" in {self.suite}/{self.task}" if self.suite else ""
        return f"cost of {self.label} on {self.backbone.name}{within}"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The costs of one method on one backbone and one machine. Speeds compare only within one machine tag."""

    format: int = FORMAT
    method: str
    label: str
    fields: dict[str, Any]
    backbone: Backbone
    suite: str = ""
    task: str = ""
    size: tuple[int, int] | None = None
    """Height and width of the images of a dense suite; None for squares of the backbone's size."""
    classes: int = CLASSES
    counts: Counts
    speed: Speed | None
    machine: Machine
    code: dict[str, str]
    started: str


def work(job: CostJob) -> Cost:
    """Measure. Weights do not matter and are random; a fresh head of `CLASSES` classes stands for a classifier's."""
    started = datetime.datetime.now(datetime.UTC)
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    here, plugin = machine(job.device), job.plugins.get(job.method, job.method)
    made = spec.make(zoo.method(plugin), job.fields, f"method {job.method}")
    heads = job.plugins.get(job.suite, job.suite)
    measured = _dense(job, made, heads) if heads else _classifier(job, made)
    return Cost(
        method=job.method,
        label=job.label,
        fields=job.fields,
        backbone=job.backbone,
        **measured,
        machine=dataclasses.replace(here, versions=here.versions | provenance.libraries(plugin)),
        code=provenance.cost_fingerprint(plugin, heads),
        started=started.isoformat(timespec="seconds"),
    )


def _classifier(job: CostJob, made: Method) -> dict[str, Any]:
    size = job.backbone.image_size
    encoder = made.attach(backbones.build(job.backbone.name, backbones.RANDOM, image_size=size))
    head = nn.Linear(encoder.width, CLASSES)
    counts = count(encoder, head, torch.randn(1, 3, size, size))
    how: dict[str, Any] = {"image_size": size, "classes": CLASSES} | _how(job)
    return {"counts": counts, "speed": speed(encoder, head, **how) if job.timed else None}


def _dense(job: CostJob, made: Method, heads: str) -> dict[str, Any]:
    suite: Any = zoo.suite(heads)()
    task = suite.task(job.task)
    built = backbones.build(job.backbone.name, backbones.RANDOM, image_size=job.backbone.image_size, any_size=True)
    encoder = made.attach(built)
    head = suite.head(encoder, task)
    counts = suite.count(encoder, head, job.backbone)
    timed = suite.speed(encoder, head, task, **_how(job)) if job.timed else None
    facts = {"suite": job.suite, "task": job.task, "size": suite.counted, "classes": task.classes}
    return {"counts": counts, "speed": timed} | facts


def _how(job: CostJob) -> dict[str, Any]:
    return {"batch_size": job.batch_size, "device": torch.device(job.device), "precision": job.precision}
