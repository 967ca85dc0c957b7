"""What the report shows of a record when its cell is opened: texts in sections, a training curve, the end of a log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from petlbench.record import Epoch, Record
from petlbench.run import Backbone
from petlbench.selection import State

Rows = list[tuple[str, str]]
Section = tuple[str, Rows]
"""A title and its names and values."""

POINTS = 60
"""Points of a training curve at most: as many as a screen of a phone can tell apart."""
LOG_LINES, LOG_BYTES = 40, 6_000
"""How much of the end of a log is shown."""


def sections(record: Record, changed: Iterable[str]) -> list[Section]:
    """Everything that a record says, in words; `changed` are the modules whose code has changed since."""
    run, machine = record.run, record.machine
    recipe = asdict(run.recipe)
    protocol = {
        "protocol": run.protocol,
        "trained on": run.train,
        "scored on": run.score,
        "recipe replaced": run.overrides or "nothing",
        "trials allowed": run.search.trials if run.search else None,
        "searched": run.search.space if run.search else None,
        "trials spent": record.budget.trials if record.budget else None,
        "seconds of the search": record.budget.seconds if record.budget else None,
        "epochs between test evaluations": run.evaluate_every or None,
    }
    framing = {
        "size": f"{run.backbone.image_size} pixels",
        "resize": run.resize,
        "interpolation": run.interpolation,
    }
    images = {
        **({} if run.recipe.is_dense else framing),  # a dense task has sizes of its own
        "normalization": run.normalization,
        "data": run.data,
    }
    hardware = {
        "tag": machine.tag,
        "cpu": machine.cpu,
        "cores": machine.cores,
        "memory (GiB)": machine.memory_bytes / 2**30,
        "gpus": ", ".join(machine.gpus) or None,
        "system": machine.system,
        "driver": machine.driver,
        "cuda of torch": machine.cuda,
        "device of the run": record.device,
        "threads": record.threads,
    }
    gone = list(changed)
    code = {
        "state": "changed since: these scores are stale" if gone else "current",
        "changed modules": ", ".join(gone) or None,
        "commit": machine.commit,
        "checkout": {None: None, True: "with changes that are not in the commit", False: "clean"}[machine.dirty],
        "format of the record": record.format,
    }
    counts = asdict(record.counts) if record.counts else {}
    return [
        (title, _rows(facts))
        for title, facts in (
            ("Method", {"name": run.method, **run.fields}),
            ("Found while training", record.found),
            ("Protocol", protocol),
            ("Recipe", recipe),
            ("Backbone", _backbone(run.backbone)),
            ("Images", {**images, **{f"digest of {name}": digest for name, digest in record.digests.items()}}),
            ("Counted", counts),
            ("Code", code),
            ("Machine", hardware),
            ("Versions", machine.versions),
        )
        if facts
    ]


def outcome(record: Record, state: State, root: Path) -> dict[str, Any]:
    """What tells the seeds of a cell apart."""
    return {
        "seed": record.run.seed,
        "state": state,
        "reason": record.reason,
        "scores": {name: _number(value) for name, value in record.scores.items()},
        "seconds": {part: _number(value) for part, value in record.seconds.items()},
        "memory": record.peak_memory_bytes,
        "energy": record.energy_joules,
        "started": record.started,
        "file": record.run.path.as_posix(),
        **curves(record),
        "log": log_tail(root, record.log),
    }


def curves(record: Record) -> dict[str, Any]:
    """The curves of a training: "at", the epochs or steps that their points stand for, the "unit" of these, and titles
    and values under "curves". Losses by part, speeds and scores are there where a dense suite has kept them."""
    rows = record.curve
    metric = next((name for scores in (record.scores, *(row.scores for row in rows)) for name in scores), "")
    every, last = max(1, math.ceil(len(rows) / POINTS)), len(rows) - 1
    kept = [place for place, row in enumerate(rows) if place % every == 0 or place == last or row.scores]
    parts = [*dict.fromkeys(name for row in rows for name in row.parts)]
    scores = [row.scores.get(metric) for row in rows]
    if any(score is not None for score in scores):
        scores[-1] = record.scores.get(metric)  # metric is the task's own, which comes first
    found: dict[str, tuple[str, list[float | None]]] = {
        "loss": ("training loss", [row.loss for row in rows]),
        **{
            f"loss {name}": (f"loss: {name.replace('_', ' ')}", [row.parts.get(name) for row in rows])
            for name in (parts if len(parts) > 1 else ())
        },
        "score": (f"{metric.replace('_', ' ')} (%)", scores),
        "lr": ("learning rate", [row.lr for row in rows]),
        "speed": ("images per second", [row.images_per_second for row in rows]),
    }
    at = _places(rows)
    return {
        "unit": "step" if any(row.step for row in rows) else "epoch",
        "at": [at[place] for place in kept],
        "curves": {
            name: [title, [_number(values[place]) for place in kept]]
            for name, (title, values) in found.items()
            if any(value is not None for value in values)
        },
    }


def _places(rows: Sequence[Epoch]) -> list[int]:
    """Where the rows of a curve stand: at their steps, or their epochs from 1 on. A method with several phases counts
    each from the start; here one follows on the other."""
    found, before, begun = [], 0, 0
    for place, row in enumerate(rows, start=1):
        step = row.step or place
        if step <= before:
            begun += before
        before = step
        found.append(begun + step)
    return found


def log_tail(root: Path, log: str) -> str:
    """The end of a worker's log; empty if there is none.

    A record comes from anywhere, so a path that leads out of the folder of the logs is not followed.
    """
    if not log:
        return ""
    try:
        path = (root / log).resolve()
        if not path.is_relative_to((root / "logs").resolve()) or not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
    except (OSError, ValueError):  # not ours to read, or no path at all
        return ""
    lines = "".join(letter for letter in text if letter.isprintable() or letter in "\n\t").splitlines()
    return "\n".join(lines[-LOG_LINES:])


def _backbone(backbone: Backbone) -> dict[str, Any]:
    facts = asdict(backbone)
    del facts["image_size"]  # said with the images
    return facts


def _rows(facts: Mapping[str, Any]) -> Rows:
    return [(name.replace("_", " "), _text(value)) for name, value in facts.items() if value is not None]


def _text(value: Any) -> str:
    """A value as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_text(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)


def _number(value: float | None) -> float | None:
    """Short enough to be many, and what JSON can hold: what is not finite is None."""
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None
