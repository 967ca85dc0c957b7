"""petlbench: compare ways of adapting a frozen Vision Transformer.

In your own training code:

    import petlbench

    vit = petlbench.backbone.build("vit_base_patch16_224.augreg_in21k", "pretrained")
    encoder = petlbench.load("lora")(rank=8).attach(vit)      # trains whatever requires a gradient

In a notebook:

    petlbench.results("results").table("mini")                # a DataFrame that shows itself as a table of a paper

The names below are public; they are imported when they are first used, so `petlbench --help` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from petlbench._version import __version__

if TYPE_CHECKING:
    from petlbench import backbone, zoo
    from petlbench.classification import Classification
    from petlbench.encoder import Encoder, Swin, ViT
    from petlbench.errors import InputError
    from petlbench.export import restore
    from petlbench.method import Method, Paper
    from petlbench.notebook import results
    from petlbench.recipe import Recipe
    from petlbench.suite import Suite, Task
    from petlbench.surgery import fold, replace, trained, trained_state
    from petlbench.trial import Trial
    from petlbench.zoo import method as load

_HOMES = {
    "Classification": "classification",
    "Encoder": "encoder",
    "InputError": "errors",
    "Method": "method",
    "Paper": "method",
    "Recipe": "recipe",
    "Suite": "suite",
    "Swin": "encoder",
    "Task": "suite",
    "Trial": "trial",
    "ViT": "encoder",
    "backbone": "",
    "fold": "surgery",
    "load": "zoo",
    "replace": "surgery",
    "restore": "export",
    "results": "notebook",
    "trained": "surgery",
    "trained_state": "surgery",
    "zoo": "",
}

__all__ = [
    "Classification",
    "Encoder",
    "InputError",
    "Method",
    "Paper",
    "Recipe",
    "Suite",
    "Swin",
    "Task",
    "Trial",
    "ViT",
    "__version__",
    "backbone",
    "fold",
    "load",
    "replace",
    "restore",
    "results",
    "trained",
    "trained_state",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'petlbench' has no attribute '{name}'")
    if not _HOMES[name]:
        return importlib.import_module(f"petlbench.{name}")
    return getattr(importlib.import_module(f"petlbench.{_HOMES[name]}"), "method" if name == "load" else name)
