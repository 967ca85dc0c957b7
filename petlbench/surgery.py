"""Operations on built networks: replace modules by path, fold what can be merged, keep what was trained."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from petlbench.encoder import Swin, ViT


def replace(root: nn.Module, pattern: str, make: Callable[[Any], nn.Module]) -> None:
    """Replace every module whose path matches by `make(module)`.

    A `*` stands for exactly one part of the path, `**` for any number of parts: "blocks.*.attn.qkv" fits a ViT,
    "**.blocks.*.attn.qkv" a ViT and a Swin. In both, the paths are those of the timm model. A pattern without a match
    raises LookupError, so a typing error cannot leave a backbone untouched.
    """
    root = root.model if isinstance(root, ViT | Swin) else root
    paths = [path for path, _ in root.named_modules() if path and _matches(path, pattern)]
    if not paths:
        raise LookupError(f"no module of {type(root).__name__} matches '{pattern}'")
    for path in paths:
        parent, _, name = path.rpartition(".")
        owner = root.get_submodule(parent)
        setattr(owner, name, make(getattr(owner, name)))


def _matches(path: str, pattern: str) -> bool:
    wanted = pattern.split(".")
    parts = ["[^.]+" if part == "*" else re.escape(part) for part in wanted if part != "**"]
    anywhere = wanted[0] == "**"
    if "**" in wanted[1:]:
        raise LookupError(f"in '{pattern}', ** may only stand at the start")
    return re.fullmatch(("(.+\\.)?" if anywhere else "") + "\\.".join(parts), path) is not None


def fold(root: nn.Module) -> nn.Module:
    """Merge, in place, every module that can be merged, and return the root.

    A module is mergeable if it has a method `fold()` that returns an equivalent plain module without the added
    weights. Inner modules are folded first, so a wrapper around a mergeable module only has to fold itself.
    """
    for name, child in root.named_children():
        setattr(root, name, fold(child))
    merge = getattr(root, "fold", None)
    return merge() if callable(merge) else root


def trained(root: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that require a gradient: what a method trains."""
    return (parameter for parameter in root.parameters() if parameter.requires_grad)


def trained_state(root: nn.Module) -> dict[str, Tensor]:
    """What must be stored to get this network back from its backbone: trained weights and running statistics.

    A weight that several modules share is stored once, under the first of its names.
    """
    weights = {name for name, _ in root.named_parameters(remove_duplicate=False)}
    stored = {name for name, parameter in root.named_parameters() if parameter.requires_grad}
    return {name: value for name, value in root.state_dict().items() if name in stored or name not in weights}
