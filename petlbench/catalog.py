"""The zoo as facts: what shelf a method stands on, whose it is, and how many weights of a ViT-B/16 it trains."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from petlbench import backbone, zoo
from petlbench.method import Family, Paper
from petlbench.surgery import trained

REFERENCE = "vit_base_patch16_224"


@dataclass(frozen=True)
class Entry:
    """What can be said of a method, with its default fields, without training it."""

    name: str
    family: Family
    paper: Paper | None
    backbones: tuple[str, ...]
    folds: bool
    """Whether some of what it adds can be merged into the backbone."""
    weights: int
    """Trained weights of a ViT-B/16 at 224 pixels, without the head."""
    printed: Mapping[str, float]
    """What publications print of them, in millions, by the fields it holds for; see `Method.printed`."""
    lines: int
    """Length of the method's file."""


def entries() -> Iterator[Entry]:
    """One entry per method of the zoo, family by family. Networks are built without memory for their weights."""
    kinds = {name: zoo.method(name) for name in zoo.methods()}
    shelves = list(Family.__args__)  # type: ignore[attr-defined]
    for name, kind in sorted(kinds.items(), key=lambda item: (shelves.index(item[1].family), item[0])):
        with torch.device("meta"):
            encoder = kind().attach(backbone.build(REFERENCE))
        weights = sum(weight.numel() for weight in trained(encoder))
        lines = len(inspect.getsource(inspect.getmodule(kind) or kind).splitlines())
        yield Entry(name, kind.family, kind.paper, kind.backbones(), _folds(encoder), weights, kind.printed, lines)


def _folds(encoder: nn.Module) -> bool:
    return any(callable(getattr(module, "fold", None)) for module in encoder.modules())
