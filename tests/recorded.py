"""Records and costs as runs would leave them, made by hand for the tests of what reads them."""

import dataclasses
from typing import Any

from petlbench import spec
from petlbench.cost import Cost
from petlbench.machine import machine
from petlbench.measure import Counts
from petlbench.recipe import Recipe
from petlbench.record import Record, Status
from petlbench.run import Backbone, Run
from petlbench.speed import Speed

STARTED = "2025-01-01T00:00:00+00:00"
BACKBONE = Backbone(
    name="vit", weights="pretrained", sha256=None, image_size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)


def counts(method: int = 294_912, head: int = 1_000) -> Counts:
    return Counts(
        method_parameters=method,
        head_parameters=head,
        trainable_parameters=method + head,
        total_parameters=86_000_000,
        stored_bytes=3 * 2**20,
        flops=17_580_000_000,
        flops_folded=16_870_000_000,
        training_flops=70_000_000_000,
        saved_bytes=77 * 2**20,
    )


def record(label: str, task: str, score: float, seed: int = 0, status: Status = "done", **changes: Any) -> Record:
    """A record; `changes` are fields of the run or of the record."""
    made = spec.parse(label)[0]
    run = {"suite": "tiny", "data": f"{task:-<64}", "backbone": BACKBONE, "recipe": Recipe(), "fields": made.fields}
    rest = {"counts": counts(), "seconds": {"total": 10.0}, "threads": 1, "device": "cpu", "started": STARTED}
    for name, value in changes.items():
        (run if name in Run.__dataclass_fields__ else rest)[name] = value
    return Record(
        run=Run(method=made.name, label=label, task=task, seed=seed, **run),  # type: ignore[arg-type]
        status=status,
        scores={"accuracy": score, "f1": score / 2} if status == "done" else {},
        machine=machine("cpu"),
        **rest,  # type: ignore[arg-type]
    )


def row(label: str, **scores: float | list[float]) -> list[Record]:
    """Records of one method; a list holds the scores of seeds 0, 1, ..."""
    return [
        record(label, task, score, seed)
        for task, of_seeds in scores.items()
        for seed, score in enumerate(of_seeds if isinstance(of_seeds, list) else [of_seeds])
    ]


def cost(label: str, *, tag: str = "", timed: bool = True, faster: float = 1.0, **changes: Any) -> Cost:
    """A cost on this machine or on one with another tag; `changes` are fields of its speed."""
    made = spec.parse(label)[0]
    speed = Speed(
        device="cpu",
        threads=1,
        precision="fp32",
        image_size=64,
        batch_size=32,
        warmup=3,
        repeats=10,
        train_images_per_second=100 * faster,
        train_spread=0.01,
        inference_images_per_second=300 * faster,
        inference_spread=0.01,
        folded_images_per_second=320 * faster,
        folded_spread=0.01,
        latency_ms=12.5 / faster,
        latency_spread=0.01,
        memory_kind="process resident (VmHWM)",
        train_memory_bytes=2**30,
        inference_memory_bytes=2**29,
        train_reserved_bytes=None,
        inference_reserved_bytes=None,
    )
    here = machine("cpu")
    return Cost(
        method=made.name,
        label=label,
        fields=dict(made.fields),
        backbone=BACKBONE,
        counts=counts(),
        speed=dataclasses.replace(speed, **changes) if timed else None,
        machine=dataclasses.replace(here, tag=tag or here.tag),
        code={},
        started=STARTED,
    )
