"""The card that `petlbench pretrain` writes beside its weights, which says what the shapes of tensors do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from petlbench import spec
from petlbench.errors import InputError
from petlbench.run import Backbone

SILENT = ("num_heads",)
"""Settings whose every value fits the same tensors, so that weights of another value load without a word."""


def check(backbone: Backbone, weights: str) -> None:
    """Raise InputError if a card beside the weights file says that they were trained with other heads.

    A card counts if it is that of this very file and of a backbone of this name.
    """
    card = read(Path(weights).with_suffix(".json")) if backbone.sha256 else {}
    if card.get("sha256") != backbone.sha256 or not isinstance(card.get("name"), str):
        return
    asked, trained = spec.single(backbone.name, "--backbone"), spec.single(card["name"], f"--weights {weights}")
    if asked.name != trained.name:
        return
    for setting in SILENT:
        if _set(asked, setting) != _set(trained, setting):
            raise InputError(
                f"--weights {weights}: its card says that it was trained as {trained}, which is not {asked}; "
                f"pass --backbone '{trained}'"
            )


def read(file: Path) -> dict[str, Any]:
    """The card in a file; empty if there is none that can be read."""
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def _set(named: spec.Spec, setting: str) -> Any:
    """A setting as it was written, or as it is in the embedded backbone; None for what timm takes."""
    from petlbench.backbone import MINI

    return named.fields.get(setting, MINI[setting] if named.name == "mini" else None)
