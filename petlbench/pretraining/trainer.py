"""The loop of a pre-training: from a recipe to weights with a card, stopped and gone on with at any line of its log."""

from __future__ import annotations

import hashlib
import io
import json
import math
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Generator, Tensor, nn

from petlbench import backbone as backbones
from petlbench import card, spec
from petlbench.drawing.pretraining import SIZE, PretrainingImages
from petlbench.encoder import ViT
from petlbench.errors import InputError
from petlbench.files import check_folder, write
from petlbench.machine import machine
from petlbench.pretraining.objective import Learner, Start, Teacher
from petlbench.pretraining.recipe import Pretraining

PROGRESS = ("step", "wall", "cpu", "log")
"""What a checkpoint keeps of a trainer besides weights and optimizer: steps done, seconds taken, lines logged."""


class Trainer:
    """A pre-training in progress: it can be stopped behind any line of its log and goes on to the same weights."""

    def __init__(
        self, recipe: Pretraining, out: Path, teacher: Path | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """`teacher` is a weights file that an earlier pre-training has written, beside its card. A GPU draws other
        pictures of the same classes than a CPU, and rounds otherwise, so its weights are others.

        Raises InputError for whatever cannot be trained.
        """
        self.device, objective = torch.device(device), recipe.made()
        spec.single(recipe.backbone, "--backbone")
        if backbones.has_windows(recipe.backbone):
            raise InputError(
                f"--backbone {recipe.backbone}: is trained without windows; its weights fit a run with `window` too"
            )
        found = backbones.describe(recipe.backbone, backbones.RANDOM, SIZE)
        self.recipe, self.out, self.checkpoint = replace(recipe, backbone=found.name), out, out / "checkpoint.pt"
        self.weights = out / f"{self.recipe.file}.safetensors"
        self.objective, self.teacher, self.teacher_file = objective, None, teacher
        if objective.taught != (teacher is not None):
            what = "needs --teacher FILE, the weights of a larger backbone" if objective.taught else "has no --teacher"
            raise InputError(f"--objective {recipe.objective}: {what}")
        if teacher is not None:
            self.teacher = _teacher(teacher, found.mean, found.std, self.device)
        self.pictures = PretrainingImages(recipe.seed, self.device)
        with self.device:
            self.mean, self.std = (torch.tensor(each).view(3, 1, 1) for each in (found.mean, found.std))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            with self._named():
                self.learner: Learner = objective.learner(Start(found.name, self.pictures.labels, self.teacher))
                self.learner.to(self.device)
                self._try()
        trained = [each for each in self.learner.parameters() if each.requires_grad]
        matrices = [each for each in trained if each.squeeze().ndim > 1]
        vectors = [each for each in trained if each.squeeze().ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, recipe.lr, weight_decay=recipe.weight_decay, fused=True)
        self.kept = 0
        """Pictures whose training is in the checkpoint."""
        self.step, self.wall, self.cpu = 0, 0.0, 0.0
        self.log: list[dict[str, float]] = []

    def run(self, report: Callable[[str], None] = print) -> None:
        """Train to the end. A hundred times on the way: log, save, and report one line.

        Raises InputError if the folder holds another training or cannot be written, or if loss or weights are not
        finite any more; what was saved before stays.
        """
        if self.step == 0 and self.checkpoint.exists():
            raise InputError(f"--out {self.out}: holds a training already; pass --resume or another folder")
        check_folder(self.out, "--out")
        scores: list[dict[str, Tensor]] = []
        wall, cpu = time.perf_counter(), time.process_time()
        while self.step < self.recipe.steps:
            scores.append(self._train_one_batch())
            self.step += 1
            if self.step % max(1, self.recipe.steps // 100) == 0 or self.step == self.recipe.steps:
                self.wall += time.perf_counter() - wall
                self.cpu += time.process_time() - cpu
                wall, cpu = time.perf_counter(), time.process_time()
                means = {name: torch.stack([each[name] for each in scores]).mean().item() for name in scores[0]}
                scores.clear()
                if not (all(map(math.isfinite, means.values())) and self._fits()):
                    raise InputError(
                        f"--lr {self.recipe.lr}: loss or weights are not finite any more after "
                        f"{self.step * self.recipe.batch_size:,} pictures; what was saved before is kept"
                    )
                line = {"images": self.step * self.recipe.batch_size, "hardness": self.recipe.hardness(self.step - 1)}
                self.log.append(line | means)
                try:
                    self.save()
                except OSError as error:
                    kept = "; what was saved before is kept, --resume goes on from there" if self.kept else ""
                    said = error.strerror or error
                    raise InputError(f"--out {self.out}: cannot be written: {said}{kept}") from error
                report(self._progress())

    def _fits(self) -> bool:
        """Whether the weights are numbers in the half precision of the file."""
        return all(bool(value.half().isfinite().all()) for value in self.learner.model.state_dict().values())

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Make an InputError of whatever a backbone raises that an objective cannot train."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # two heads, none, one patch of half a picture: all sorts of things
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise InputError(
                f"--backbone {self.recipe.backbone}: cannot be trained by --objective {self.recipe.objective}: {reason}"
            ) from error

    @torch.no_grad()
    def _try(self) -> None:
        """Ask for a loss once, so that a backbone that cannot give one is found out now."""
        generator = Generator(self.device).manual_seed(0)
        drawn = self.pictures.batch(16, generator, 0.0)
        with self.device:
            self.learner(drawn._replace(images=(drawn.images - self.mean) / self.std), generator)

    def _progress(self) -> str:
        """The last line of the log, for people."""
        last = self.log[-1]
        form = "{} {:4.1f} %" if self.learner.measure == "accuracy" else "{} {:.3f}"
        scores = "  ".join(form.format(name, last[name]) for name in self._scores())
        speed, left = last["images"] / self.wall, self.wall * (self.recipe.steps / self.step - 1) / 60
        return (
            f"{last['images']:,} images  loss {last['loss']:.3f}  {scores}  {speed:.0f} images/s  {left:.0f} min left"
        )

    def _scores(self) -> list[str]:
        """The names of the learner's scores in the log."""
        return [name for name in self.log[-1] if name not in ("images", "hardness", "loss")]

    def _train_one_batch(self) -> dict[str, Tensor]:
        """One step; returns the loss and the scores."""
        recipe = self.recipe
        # Each step has a seed of its own, so a resumed training draws the same pictures and masks.
        generator = Generator(self.device).manual_seed((recipe.seed * 1_000_003 + self.step + 1) % 2**32)
        drawn = self.pictures.batch(recipe.batch_size, generator, recipe.hardness(self.step))
        drawn = drawn._replace(images=(drawn.images - self.mean) / self.std)
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
        with self.device, half:
            loss, scores = self.learner(drawn, generator)
        loss.backward()
        nn.utils.clip_grad_norm_(self.learner.parameters(), recipe.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"loss": loss.detach(), **scores}

    def save(self) -> None:
        """Write the weights so far with their card, the log, and the checkpoint; each file whole or not at all."""
        state = self.learner.model.state_dict()
        weights = {
            name: value.half().cpu().contiguous() for name, value in state.items() if not name.startswith("head.")
        }
        write(self.weights, save(weights))
        write(self.weights.with_suffix(".json"), json.dumps(self.card(weights), indent=2).encode() + b"\n")
        write(self.out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in self.log).encode())
        buffer = io.BytesIO()
        progress = {name: getattr(self, name) for name in PROGRESS} | {"recipe": self._identity()}
        torch.save({"learner": self.learner.state_dict(), "optimizer": self.optimizer.state_dict()} | progress, buffer)
        write(self.checkpoint, buffer.getvalue())
        self.kept = self.step * self.recipe.batch_size

    def resume(self) -> None:
        """Go on from the checkpoint. Raises InputError if there is none, or one of another recipe."""
        if not self.checkpoint.is_file():
            raise InputError(f"--resume: no checkpoint in {self.out}")
        try:
            saved = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
            then = saved["recipe"]
            other = [name for name, value in self._identity().items() if then.get(name) != value]
            if other:
                now = ", ".join(f"{name} {self._identity()[name]}, there {then.get(name)}" for name in other)
                raise InputError(f"--resume: the checkpoint in {self.out} is of another training: {now}")
            self.learner.load_state_dict(saved["learner"])
            self.optimizer.load_state_dict(saved["optimizer"])
            for name in PROGRESS:
                setattr(self, name, saved[name])
            self.kept = self.step * self.recipe.batch_size
        except InputError:
            raise
        except Exception as error:  # a damaged or foreign file raises all sorts of things
            raise InputError(f"--resume: {self.checkpoint} cannot be read: {type(error).__name__}") from error

    def card(self, weights: dict[str, Tensor]) -> dict[str, Any]:
        """The model card of the weights so far, as data."""
        recipe, last, here, threads = self.recipe, self.log[-1], machine(self.device.type), torch.get_num_threads()
        capability, gpu = torch.backends.cpu.get_cpu_capability(), ""
        if self.device.type == "cuda":
            gpu = f"{torch.cuda.get_device_name(self.device)}, "
        (named,) = spec.parse(recipe.backbone)
        architecture = {**(backbones.MINI if named.name == "mini" else {"img_size": SIZE}), **named.fields}
        families, classes = ", ".join(self.pictures.labels), sum(map(len, self.pictures.labels.values()))
        means = {name: round(last[name], 1 if self.learner.measure == "accuracy" else 4) for name in self._scores()}
        return {
            "name": recipe.backbone,
            "architecture": architecture,
            "normalization": {"mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()},
            "sha256": hashlib.sha256(save(weights)).hexdigest(),
            "weights": sum(value.numel() for value in weights.values()),
            "data": f"generated {families} in {classes} classes; no photograph, nothing of third parties",
            "objective": self.objective.title,
            "teacher": {"name": self.teacher.name, "sha256": self.teacher.sha256} if self.teacher else None,
            "recipe": asdict(recipe),
            "command": self._command(threads),
            "images_seen": last["images"],
            "finished": self.step == recipe.steps,
            "train_loss": round(last["loss"], 3),
            f"train_{self.learner.measure}": means,
            "wall_hours": round(self.wall / 3600, 2),
            "cpu_hours": round(self.cpu / 3600, 2),
            "machine": f"{gpu}{here.cores}-core {here.cpu} ({capability}), {threads} thread{'s' * (threads > 1)}",
            "versions": here.versions,
            "license": "Apache-2.0",
        }

    def _identity(self) -> dict[str, Any]:
        """What has to be equal for a training to be gone on with to the same weights."""
        return {
            **asdict(self.recipe),
            "teacher": self.teacher.sha256 if self.teacher else None,
            "threads": torch.get_num_threads(),
            "device": self.device.type,
        }

    def _command(self, threads: int) -> str:
        """What to type to get the same weights."""
        recipe = self.recipe
        words = ["petlbench", "pretrain", "--objective", shlex.quote(recipe.objective)]
        if recipe.backbone != Pretraining.backbone:
            words += ["--backbone", shlex.quote(recipe.backbone)]
        if self.teacher_file is not None:
            words += ["--teacher", shlex.quote(self.teacher_file.name)]
        for name in ("images", "batch_size", "lr", "seed", "precision"):
            words += [f"--{name.replace('_', '-')}", str(getattr(recipe, name))]
        if self.device.type != "cpu":
            words += ["--device", str(self.device)]
        return " ".join([*words, "--threads", str(threads)])


def _teacher(file: Path, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> Teacher:
    """The teacher in a weights file; the card beside it says what it is. Raises InputError."""
    beside = file.with_suffix(".json")
    name = card.read(beside).get("name")
    if not isinstance(name, str):
        raise InputError(
            f"--teacher {file}: {beside.name} beside it should say what it is; `petlbench pretrain` writes both"
        )
    try:
        found = backbones.describe(name, str(file), SIZE)
        vit = backbones.build(name, str(file), image_size=SIZE)
    except InputError as error:
        raise InputError(str(error).replace("--weights", "--teacher", 1)) from error
    if not isinstance(vit, ViT):
        raise InputError(f"--teacher {file}: {name} is no ViT")
    if (found.mean, found.std) != (mean, std):
        raise InputError(f"--teacher {file}: {name} wants pixels normalised otherwise than the student")
    assert found.sha256 is not None, "it is a file"
    return Teacher(found.name, found.sha256, vit.to(device))
