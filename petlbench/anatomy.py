"""Where a method enters a backbone: a drawing of one block, with what was added to it and what is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from petlbench import backbone
from petlbench.encoder import Encoder, Swin, ViT
from petlbench.method import Method
from petlbench.surgery import fold, trained

LEGEND = "● trained   ◐ trained in part   + added by the method   numbers: weights, and how many of them are trained"

EMPTY = (nn.Identity, nn.ModuleDict, nn.ModuleList, nn.ParameterDict, nn.ParameterList)
"""Modules that do nothing of their own."""


@dataclass
class Part:
    """One line of a drawing."""

    name: str
    kind: str
    """Class, with the sizes of a layer, or the shape of a parameter."""
    weights: int
    trained: int
    added: bool
    """Whether the method brought it; else it is the backbone's own."""
    parts: list[Part] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What a method makes of a backbone, found without memory for its weights."""

    weights: int
    """Weights of the frozen backbone, without a classifier."""
    trained: int
    """Weights that are trained."""
    left: int
    """Weights that remain beside the backbone's own when all that folds has been folded."""
    block: Part
    where: str
    """Which block was drawn, and whether the others are adapted too."""
    outside: list[Part]
    """What is trained outside of the blocks."""


def dissect(method: Method, name: str) -> Anatomy:
    """Build a method into a backbone and look inside. Raises InputError as `backbone.build` does."""
    with torch.device("meta"):
        vit = backbone.build(name)
        own = [*vit.modules(), *vit.parameters()]
        size = _size(vit.parameters())
        encoder = method.attach(vit)
        adapted = [bool(_size(trained(block))) for block in vit.blocks]
        middle = len(adapted) // 2
        index = middle if adapted[middle] or not any(adapted) else len(adapted) - 1 - adapted[::-1].index(True)
        look = _Look(encoder, vit, own)
        block, outside = look.whole(vit.blocks[index]), list(look.outside(encoder))
        weights = _size(trained(encoder))
        left = _size(fold(encoder).parameters()) - size
    which = "all of them adapted" if all(adapted) else f"{sum(adapted) or 'none'} of them adapted"
    where = f"block {index + 1} of {len(adapted)}, {which}"
    return Anatomy(weights=size, trained=weights, left=left, block=block, where=where, outside=outside)


def draw(parts: Iterable[Part]) -> list[str]:
    """Lines for parts below one another, in columns: mark, name, kind, weights, trained weights."""
    rows = [row for part in parts for row in _rows(part, "", "")]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return [
        f"{mark} {name:{widths[1]}}  {kind:{widths[2]}}  {weights:>{widths[3]}}  {learned:>{widths[4]}}".rstrip()
        for mark, name, kind, weights, learned in rows
    ]


def _rows(part: Part, branch: str, below: str) -> Iterator[tuple[str, str, str, str, str]]:
    mark = "●" if 0 < part.trained == part.weights else "◐" if part.trained else " "
    numbers = [f"{number:,}" if number else "" for number in (part.weights, part.trained)]
    yield mark, f"{branch}{'+ ' if part.added else ''}{part.name}", part.kind, numbers[0], numbers[1]
    for inner in part.parts:
        last = inner is part.parts[-1]
        yield from _rows(inner, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))


class _Look:
    """Turns modules into parts, knowing what the backbone had before."""

    def __init__(self, encoder: Encoder, vit: ViT | Swin, own: list[Any]) -> None:
        self.own = {id(each) for each in own}
        self.alive = own  # an id is that of one object only while the object lives
        self.blocks = {id(block) for block in vit.blocks}
        self.paths = {id(module): path for path, module in encoder.named_modules()}
        times = Counter(id(weight) for block in vit.blocks for weight in block.parameters())
        self.shared = {weight for weight, number in times.items() if number > 1}

    def whole(self, module: nn.Module) -> Part:
        """A module by its full path, with its parts, even where nothing of it was changed."""
        part = self.part(self.paths[id(module)], module)
        part.parts = part.parts or list(self.inside(module))
        return part

    def part(self, name: str, module: nn.Module) -> Part:
        """A module with the parts that are worth a line: those around what was added or trained in part."""
        learned = [weight for weight in module.parameters() if weight.requires_grad]
        size, added = _size(module.parameters()), id(module) not in self.own
        part = Part(name, _kind(module), size, _size(learned), added)
        untouched = all(id(each) in self.own for each in module.modules())
        if untouched and part.trained in (0, part.weights):
            return part
        children = list(module.children())
        if not children and not added:
            part.kind += f" ({', '.join(name for name, weight in module.named_parameters() if weight.requires_grad)})"
        elif isinstance(module, nn.ModuleList) and len({type(child) for child in children}) == 1:
            middle = len(children) // 2
            part.kind = f"{len(children)} x {type(children[0]).__name__}"
            if not _is_torch(children[0]) and id(children[0]) not in self.own:
                part.parts = [self.part(f"{middle}", children[middle])]
        elif children or not _is_torch(module):
            part.parts = list(self.inside(module))
        if part.weights and all(id(weight) in self.shared for weight in module.parameters()):
            part.kind += ", one for all blocks"
        return part

    def inside(self, module: nn.Module) -> Iterator[Part]:
        for name, weight in module.named_parameters(recurse=False):
            if weight.requires_grad or id(weight) not in self.own:
                yield self.weight(name, weight)
        for name, child in module.named_children():
            idle = isinstance(child, EMPTY) or (isinstance(child, nn.Dropout) and child.p == 0)
            if _size(child.parameters()) or (id(child) not in self.own and not idle):
                yield self.part(name, child)

    def outside(self, module: nn.Module) -> Iterator[Part]:
        """What is trained above and beside the blocks."""
        for name, weight in module.named_parameters(recurse=False):
            if weight.requires_grad:
                yield self.weight(f"{self.paths[id(module)]}.{name}".lstrip("."), weight)
        for child in module.children():
            if id(child) in self.blocks:
                continue
            if any(id(each) in self.blocks for each in child.modules()):
                yield from self.outside(child)
            elif any(True for _ in trained(child)):
                yield self.part(self.paths[id(child)], child)

    def weight(self, name: str, weight: nn.Parameter) -> Part:
        size = weight.numel()
        return Part(name, _shape(weight), size, size if weight.requires_grad else 0, added=id(weight) not in self.own)


def _kind(module: nn.Module) -> str:
    name = type(module).__name__
    if isinstance(module, nn.Linear):
        return f"{name} {module.in_features} → {module.out_features}"
    if isinstance(module, nn.Conv2d):
        return f"{name} {module.in_channels} → {module.out_channels}, {' x '.join(map(str, module.kernel_size))}"
    if isinstance(module, nn.Dropout):
        return f"{name} {module.p:g}"
    if isinstance(module, nn.ParameterList) and len(module):
        return f"{len(module)} x ({_shape(module[0])})"
    return name


def _shape(weight: torch.Tensor) -> str:
    return " x ".join(map(str, weight.shape)) or "1"


def _is_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.")


def _size(weights: Iterable[nn.Parameter]) -> int:
    return sum(weight.numel() for weight in weights)
