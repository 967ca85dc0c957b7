"""What a run has trained, kept beside its record: the weights that tell the adapted network from a fresh one.

    results/weights/SUITE/METHOD/TASK-sSEED-KEY.safetensors

A fresh network is the backbone with the method built in from the run's seed. A file holds every tensor of encoder and
head that is trained or has changed since, and a digest of all others, so that nobody loads it onto another backbone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from petlbench import backbone as backbones
from petlbench import spec
from petlbench.encoder import Encoder
from petlbench.errors import InputError
from petlbench.files import write
from petlbench.method import Method
from petlbench.run import Job, Run
from petlbench.suite import Suite
from petlbench.surgery import trained_state

FORMAT = "1"
HEADER = 8
"""Bytes of a safetensors file that say how long its header is."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The content of a file."""

    tensors: dict[str, Tensor]
    """By their names in `Networks`: "encoder.model.blocks.0...", "head.weight"."""
    key: str
    """Identity of the run that trained them."""
    rest: str
    """SHA-256 of all that is not in the file, see `digest`."""


class Networks(nn.Module):
    """An encoder and its head under the names that files use."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head


def place(run: Run) -> Path:
    """Where the weights of a run lie below the results folder."""
    return Path("weights", run.path).with_suffix(".safetensors")


def keep(
    job: Job, method: type[Method], suite: type[Suite], encoder: Encoder, head: nn.Module, found: Mapping[str, Any]
) -> Path:
    """Keep what a job has trained; `found` is what the method chose meanwhile. Returns the path of the file.

    Raises InputError for a method that has changed its modules in a way that `fresh` cannot repeat.
    """
    run = job.run
    made = Networks(encoder, head).cpu()
    trained = {f"encoder.{name}" for name in trained_state(encoder)} | {f"head.{name}" for name in trained_state(head)}
    state = made.state_dict()
    blank = fresh(run, method, suite, found, weights=job.weights).state_dict()
    if problem := _difference(state, blank):
        raise InputError(f"method {run.method} changes while it trains, so its weights cannot be kept: {problem}")
    changed = {name for name, value in state.items() if not torch.equal(value.to(blank[name].dtype), blank[name])}
    shared = {name for name, _ in made.named_parameters(remove_duplicate=False)} - dict(made.named_parameters()).keys()
    tensors = {name: state[name].clone().contiguous() for name in state if name in (trained | changed) - shared}
    rest = digest({name: value for name, value in blank.items() if name not in tensors and name not in shared})
    path = Path(job.results) / place(run)
    write(path, save(tensors, {"petlbench": FORMAT, "key": run.key, "rest": rest}))
    return path


def fresh(
    run: Run,
    method: type[Method],
    suite: type[Suite],
    found: Mapping[str, Any],
    *,
    weights: str | None = None,
) -> Networks:
    """The networks of a run as they were before training, built from its seed; `weights` is a file of the backbone's.

    Where what a method has found are values of its own fields, such as the sizes of a sub-net, it is built with them.
    """
    made = spec.make(method, run.fields, f"method {run.method}")
    if found and {*found} <= {field.name for field in dataclasses.fields(method)}:
        with suppress(InputError):  # names that only look alike: masks of prompts for a number of prompts
            made = spec.make(method, {**run.fields, **found}, f"method {run.method}")
    task = suite().task(run.task)
    backbone = run.backbone
    with _seeded(run.seed):
        source = weights or backbone.weights
        size, drop_path = backbone.image_size, run.recipe.drop_path
        encoder = made.attach(backbones.build(backbone.name, source, image_size=size, drop_path=drop_path))
        return Networks(encoder, suite().head(encoder, task))


def read(path: Path) -> Weights:
    """Read a file of weights, which may be anybody's. Raises InputError in one line for whatever is none."""
    try:
        content = path.read_bytes()
        length = int.from_bytes(content[:HEADER], "little")
        header = msgspec.json.decode(content[HEADER : HEADER + length])
        facts = msgspec.convert(header["__metadata__"], dict[str, str])
        if facts["petlbench"] != FORMAT:
            raise InputError(f"{path}: written by another petlbench (format {facts['petlbench'][:20]!r}, not {FORMAT})")
        return Weights(tensors=load(content), key=facts["key"], rest=facts["rest"])
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except InputError:
        raise
    except (SafetensorError, msgspec.MsgspecError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: holds no weights of petlbench, or is damaged") from error
    except (MemoryError, OverflowError, RuntimeError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read as weights: {type(error).__name__}") from error


def fill(networks: Networks, weights: Weights, path: Path) -> None:
    """Load weights into networks as `fresh` made them. Raises InputError, naming `path`, for those of other ones."""
    compare(networks, weights, path)
    state = networks.state_dict()
    shared = {name for name, _ in networks.named_parameters(remove_duplicate=False)}
    shared -= dict(networks.named_parameters()).keys()
    if digest({n: v for n, v in state.items() if n not in weights.tensors and n not in shared}) != weights.rest:
        raise InputError(
            f"{path}: the backbone is another one than that which these weights were trained on; "
            "its own file may be given as weights=FILE"
        )
    networks.load_state_dict(weights.tensors, strict=False)


def compare(networks: Networks, weights: Weights, path: Path, most: int | None = None) -> None:
    """Raise InputError if weights do not fit into networks, whose own need not be there (on torch's device "meta"), or
    if these have more than `most`."""
    state = networks.state_dict()
    if most is not None:
        limit(networks, path, most)
    held = {name: state[name] for name in state if name in weights.tensors}
    if problem := _difference(weights.tensors, held):
        raise InputError(f"{path}: not weights of this method on this backbone: {problem}")


def limit(network: nn.Module, path: Path, most: int) -> None:
    """Raise InputError, naming the file that asks for it, if a network has more weights."""
    if sum(value.numel() for value in network.state_dict().values()) > most:
        raise InputError(f"{path}: would need a network of more than {most:,} weights")


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors, in the order of their names."""
    found = hashlib.sha256()
    for name, value in sorted(state.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _difference(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """In words, the first tensor in which two states differ in name, shape or type. A mask may be kept as yes and no
    where it is multiplied as a number."""
    for name in sorted({*given, *expected}):
        if name not in expected:
            return f"{name} is not part of it"
        if name not in given:
            return f"{name} is missing"
        if given[name].shape != expected[name].shape:
            return f"{name} is of shape {tuple(given[name].shape)}, expected {tuple(expected[name].shape)}"
        if given[name].dtype not in (expected[name].dtype, torch.bool):
            return f"{name} is {given[name].dtype}, expected {expected[name].dtype}"
    return ""


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Every generator that a method may draw from, seeded as for a run, and afterwards as it was."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
