"""What the harness costs: the same steps through it and in a bare training loop, turn by turn in one process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from petlbench import backbone as backbones
from petlbench import spec, zoo
from petlbench.classification import Classification
from petlbench.data.bench import write
from petlbench.folder import Images
from petlbench.framing import Framing
from petlbench.meters import synchronize
from petlbench.plan import plan
from petlbench.recipe import Recipe
from petlbench.request import Request
from petlbench.trial import Trial

METHOD = "bitfit"
"""What both train, biases and head: it adds no module, so the bare loop needs timm and torch only."""
CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Seconds of the same work, bare and through the harness, once for each turn."""

    bare: list[float]
    harness: list[float]

    @property
    def ratios(self) -> list[float]:
        """Harness to bare, turn by turn: what disturbs the machine for longer than a turn disturbs both."""
        return [ours / bare for bare, ours in zip(self.bare, self.harness, strict=True)]

    @property
    def differences(self) -> list[float]:
        """Harness minus bare in seconds, turn by turn."""
        return [ours - bare for bare, ours in zip(self.bare, self.harness, strict=True)]


def steps(backbone: str, *, batch: int, number: int, epochs: int, turns: int, device: str) -> Pair:
    """Time one training step both ways: `epochs` of `number` steps on `batch` images a turn, one turn to warm up first.

    Every second turn begins with the harness. The clock is that of the process on a CPU, so that other work on the
    machine does not count, and the wall's on a GPU. Both must come to the same losses.
    """
    with tempfile.TemporaryDirectory(prefix="petlbench-") as folder:
        facts = backbones.describe(backbone, backbones.RANDOM)
        listing = write(Path(folder), batch * number, facts.image_size)  # labels go round modulo ten
        data = Images(listing, Framing(facts.image_size))
        data.all()
        recipe = Recipe(epochs=epochs, batch_size=batch, warmup_epochs=0)
        torch.manual_seed(0)
        vit: Any = backbones.build(backbone)
        head = nn.Linear(vit.width, CLASSES)

        def ours() -> Callable[[], list[float]]:
            method = zoo.method(METHOD)()
            encoder = method.attach(deepcopy(vit))
            trial = Trial(encoder, deepcopy(head), Classification(), recipe, data, facts, device=device)

            def train() -> list[float]:
                method.fit(trial)
                return [epoch.loss or 0.0 for epoch in trial.curve]

            return train

        def bare() -> Callable[[], list[float]]:
            return _Bare(deepcopy(vit.model), deepcopy(head), data, facts.mean, facts.std, recipe, device).train

        losses, seconds = {}, {bare: list[float](), ours: list[float]()}
        for turn in range(turns + 1):
            for make in (bare, ours) if turn % 2 else (ours, bare):
                losses[make], taken = _timed(make(), device)
                seconds[make].append(taken / (epochs * number))
            torch.testing.assert_close(torch.tensor(losses[ours]), torch.tensor(losses[bare]), rtol=1e-3, atol=1e-4)
    return Pair(bare=seconds[bare][1:], harness=seconds[ours][1:])


class _Bare:
    """The loop that one would write: images in memory, AdamW, a cosine, nothing else."""

    def __init__(
        self,
        model: nn.Module,
        head: nn.Module,
        data: Images,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        recipe: Recipe,
        device: str,
    ) -> None:
        self.model, self.head, self.recipe, self.device = model.to(device), head.to(device), recipe, device
        images, labels = data.all()
        self.images, self.labels = images.to(device), labels.to(device)
        self.mean, self.std = (255 * torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std))

    def train(self) -> list[float]:
        model, head, recipe = self.model, self.head, self.recipe
        for name, weight in model.named_parameters():
            weight.requires_grad_("bias" in name)
        weights = [weight for part in (model, head) for weight in part.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, recipe.lr, weight_decay=recipe.weight_decay, fused=True)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs, recipe.min_lr)
        order = torch.Generator().manual_seed(0)
        means = []
        model.train()
        head.train()
        for _ in range(recipe.epochs):
            losses: list[Tensor] = []
            for index in torch.randperm(len(self.labels), generator=order).split(recipe.batch_size):
                index = index.to(self.device)
                images = (self.images[index].float() - self.mean) / self.std
                loss = functional.cross_entropy(head(model(images)), self.labels[index])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            cosine.step()
            means.append(torch.stack(losses).mean().item())
        return means


def start(turns: int) -> Pair:
    """CPU seconds from the start of a process until torch and timm are imported, and until a worker has given a method
    its networks and images: those of a task of `mini`, drawn before."""
    with tempfile.TemporaryDirectory(prefix="petlbench-") as folder:
        suite = zoo.suite("mini")()
        request = Request(
            methods=spec.parse(METHOD), suite="mini", tasks=(suite.tasks[0].name,), results=Path(folder, "results")
        )
        (planned, *_) = plan(request)
        job = Path(folder, "job.json")
        job.write_bytes(msgspec.json.encode(replace(planned.job, results=str(Path(folder, "results")))))
        taken = [(_started(IMPORTS), _started(WORKER, str(job))) for _ in range(turns)]
    return Pair(bare=[bare for bare, _ in taken], harness=[ours for _, ours in taken])


IMPORTS = "import time, torch, timm; print(time.process_time())"
WORKER = """
import os, sys, time
from petlbench import worker
from petlbench.method import Method
def fit(self, trial):
    print(time.process_time(), flush=True)
    os._exit(0)
Method.fit = fit
worker.main(sys.argv[1:])
"""


def _started(code: str, *arguments: str) -> float:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _timed(work: Callable[[], list[float]], device: str) -> tuple[list[float], float]:
    clock = time.process_time if device == "cpu" else time.perf_counter
    synchronize(torch.device(device))
    started = clock()
    found = work()
    synchronize(torch.device(device))
    return found, clock() - started
