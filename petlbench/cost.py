"""What a method costs on this machine, measured without any data: parameters, FLOPs, memory, throughput."""

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
from petlbench.record import FORMAT
from petlbench.run import Backbone, portable
from petlbench.speed import Speed, speed

COSTS = "cost"
"""Folder of the costs below the results."""

CLASSES = 100
"""Classes of the linear head that costs are measured with."""


@dataclass(frozen=True, kw_only=True)
class CostJob:
    """One method on one backbone, to be measured in a process of its own with nothing else under way."""

    method: str
    fields: dict[str, Any]
    label: str
    backbone: Backbone
    results: str
    plugins: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"
    threads: int = 1
    batch_size: int = 32
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    timed: bool = True
    """Whether to measure speed and memory, too; False gives what can be counted."""

    @property
    def key(self) -> str:
        """Identity: 12 hexadecimal digits over what is measured, where and how; not over the weights."""
        parts = msgspec.to_builtins(self)
        identity = {name: parts[name] for name in ("method", "fields", "device", "threads", "batch_size", "precision")}
        identity |= {"backbone": self.backbone.name, "image_size": self.backbone.image_size, "timed": self.timed}
        return hashlib.sha256(msgspec.json.encode(identity, order="sorted")).hexdigest()[:12]

    @property
    def path(self) -> Path:
        """Where its result lies below the results folder."""
        return Path(COSTS, machine(self.device).tag, f"{portable(self.method)}-{self.key}.json")

    def __str__(self) -> str:
        return f"cost of {self.label} on {self.backbone.name}"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The costs of one method on one backbone and one machine. Speeds compare only within one machine tag."""

    format: int = FORMAT
    method: str
    label: str
    fields: dict[str, Any]
    backbone: Backbone
    classes: int = CLASSES
    counts: Counts
    speed: Speed | None
    machine: Machine
    code: dict[str, str]
    started: str


def work(job: CostJob) -> Cost:
    """Measure. A fresh head of `CLASSES` classes stands for a task; weights do not matter and are random."""
    started = datetime.datetime.now(datetime.UTC)
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    size = job.backbone.image_size
    here, plugin = machine(job.device), job.plugins.get(job.method, job.method)
    made = spec.make(zoo.method(plugin), job.fields, f"method {job.method}")
    encoder = made.attach(backbones.build(job.backbone.name, backbones.RANDOM, image_size=size))
    head = nn.Linear(encoder.width, CLASSES)
    counts = count(encoder, head, torch.randn(1, 3, size, size))
    timing = None
    if job.timed:
        timing = speed(
            encoder,
            head,
            image_size=size,
            classes=CLASSES,
            batch_size=job.batch_size,
            device=torch.device(job.device),
            precision=job.precision,
        )
    return Cost(
        method=job.method,
        label=job.label,
        fields=job.fields,
        backbone=job.backbone,
        counts=counts,
        speed=timing,
        machine=dataclasses.replace(here, versions=here.versions | provenance.libraries(plugin)),
        code=provenance.fingerprint(plugin),
        started=started.isoformat(timespec="seconds"),
    )
