"""A trained network to give away: a folder with its weights and a card, and the one call that gives it back."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import timm
import torch
from safetensors.torch import save
from torch import nn

from petlbench import backbone as backbones
from petlbench import kept, spec, zoo
from petlbench._version import __version__
from petlbench.encoder import Encoder
from petlbench.errors import InputError
from petlbench.files import write
from petlbench.kept import Networks
from petlbench.method import Method
from petlbench.record import Record
from petlbench.repeat import commands
from petlbench.run import Run
from petlbench.suite import Suite
from petlbench.surgery import fold

FORMAT = 1
CARD, WEIGHTS, README = "card.json", "weights.safetensors", "README.md"
LARGEST = 4096
"""Largest whole number that a card may name, be it a width, a depth, a rank or the side of an image, unless the field's
default is close to it."""
DEEPEST = 128
"""The same for the number of blocks, each of which takes some time to build."""
MOST = 4_000_000_000
"""Most weights of a network that is restored. A card with more was made to see a machine run out of memory."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a folder holds, for programs; its README.md says the same to people."""

    format: int = FORMAT
    run: Run
    """What was trained, on what, from what: everything that decides its score."""
    found: dict[str, Any] = field(default_factory=dict)
    """What the method chose while it trained."""
    scores: dict[str, float]
    """In percent, by metric, on the split `run.score`."""
    sha256: str
    """Digest of weights.safetensors."""
    folded: bool = False
    """Whether all that can be merged is, and the file holds the whole network, backbone included."""
    command: str
    """What repeats the run."""
    licence: str
    """That of the backbone's weights, as far as timm knows it."""
    petlbench: str = __version__
    """Version that wrote the card."""


def export(
    record: Record,
    results: Path,
    out: Path,
    *,
    folded: bool = False,
    weights: Path | None = None,
    files: Sequence[str] = (),
) -> Card:
    """Write what a run has trained into the folder `out`, which must be empty or new, and read it back to make sure.

    `weights` and `files` are those of `restore`. Raises InputError for a run whose weights were not kept.
    """
    run = record.run
    if record.status != "done":
        raise InputError(f"{run.path}: {record.status}, so there is nothing to export")
    source = results / kept.place(run)
    if not source.is_file():
        why = f" ({record.reason})" if record.reason else ""
        raise InputError(
            f"{run.path}: its weights were not kept{why}; train it again with: run --save-weights --rerun all"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: is not an empty folder")
    found = kept.read(source)
    if found.key != run.key:
        raise InputError(f"{source}: holds the weights of another run")
    content = source.read_bytes()
    if folded:
        networks = kept.fresh(run, *_plugins(run, files), record.found, weights=_text(weights))
        kept.fill(networks, found, source)
        whole = {name: value.clone().contiguous() for name, value in _folded(networks).state_dict().items()}
        content = save(whole, {"petlbench": kept.FORMAT, "key": run.key, "rest": kept.digest({})})
    card = Card(
        run=run,
        found=record.found,
        scores=record.scores,
        sha256=hashlib.sha256(content).hexdigest(),
        folded=folded,
        command=commands([record])[0],
        licence=_licence(run),
    )
    write(out / WEIGHTS, content)
    write(out / CARD, msgspec.json.format(msgspec.json.encode(card), indent=1) + b"\n")
    write(out / README, _readme(card).encode())
    restore(out, weights=weights, files=files)
    return card


def restore(
    path: str | Path, *, weights: str | Path | None = None, files: Sequence[str] = ()
) -> tuple[Encoder, nn.Module]:
    """Encoder and head of an exported folder, in evaluation mode, on the backbone that they were trained on.

    The head's outputs are those of `head(encoder(images))`, for images normalised as the folder's README.md says.
    `weights` is the file of the backbone's weights, where these came from a file. Nothing in the folder is executed:
    method and suite are looked up by name in the zoo and among `files`, the paths of your own, and every tensor is
    checked by name, shape and digest. Raises InputError in one line for whatever does not fit.
    """
    folder = Path(path)
    card = read_card(folder)
    run, file = card.run, folder / WEIGHTS
    found = kept.read(file)
    if hashlib.sha256(_bytes(file)).hexdigest() != card.sha256 or found.key != run.key:
        raise InputError(f"{file}: is not the file that {CARD} was written for")
    named = not card.folded and run.backbone.weights not in ("pretrained", "random")
    if named and weights is None:
        raise InputError(
            f"{folder}: the backbone's weights came from {run.backbone.weights}: say where it is, weights=FILE"
        )
    source = "random" if card.folded else _text(weights)
    try:
        _check_shapes(card, found, file, files)
        networks = _network(card, source, files)
        if card.folded and (missing := sorted({*networks.state_dict()} - {*found.tensors})):
            raise InputError(f"{file}: lacks {missing[0]}, though it should hold the whole network")
        kept.fill(networks, found, file)
    except InputError as error:
        raise error if str(error).startswith(str(folder)) else InputError(f"{folder / CARD}: {error}") from error
    except Exception as error:  # a card may ask of timm and of methods whatever it likes
        raise InputError(f"{folder / CARD}: what it describes cannot be built: {type(error).__name__}") from error
    networks.eval().requires_grad_(False)
    return networks.encoder, networks.head


def read_card(folder: Path) -> Card:
    """The card of a folder. Raises InputError in one line for a file that is none."""
    file = folder / CARD
    try:
        card = msgspec.json.decode(_bytes(file), type=Card)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InputError, ValueError) as error:
        if isinstance(error, InputError) and not error.__cause__:
            raise
        raise InputError(f"{file}: not a card of petlbench: {str(error).splitlines()[0]}") from error
    if card.format > FORMAT:
        raise InputError(f"{file}: written by a newer petlbench (format {card.format}, this one reads {FORMAT})")
    return card


def _check_shapes(card: Card, found: kept.Weights, file: Path, files: Sequence[str]) -> None:
    """Compare without building: whoever wrote the card, nothing large is there before the shapes fit.

    Methods that are not of petlbench may ask their weights for values while they are built in, which shapes alone have
    not. Whoever has named or installed one trusts it, so only the backbone, which the card chooses, is measured then.
    """
    run = card.run
    try:
        with torch.device("meta"):
            network = _network(card, "random", files)
    except InputError:
        raise
    except Exception:
        owners = {kind.__module__.rpartition(".")[0] for kind in _plugins(run, files)}
        if owners <= {zoo.METHODS, zoo.BENCHMARKS}:
            raise
        with torch.device("meta"):
            backbone = backbones.build(run.backbone.name, "random", image_size=run.backbone.image_size)
        kept.limit(backbone, file, MOST)
    else:
        kept.compare(network, found, file, MOST)


def _network(card: Card, weights: str | None, files: Sequence[str]) -> Networks:
    """The network of a card before its weights are filled in."""
    run = card.run
    method, suite = _plugins(run, files)
    defaults = {each.name: each.default for each in dataclasses.fields(method)}
    (backbone,) = spec.parse(run.backbone.name)
    for name, value in {**run.fields, **backbone.fields, "image_size": run.backbone.image_size, **card.found}.items():
        default = defaults.get(name)
        usual = 100 * default if isinstance(default, int) else 0
        largest = max(DEEPEST if name.startswith("depth") else LARGEST, usual)
        if any(abs(number) > largest for number in _numbers(value)):
            raise InputError(f"{name} is beyond {largest}, which nothing of petlbench needs")
    networks = kept.fresh(run, method, suite, card.found, weights=weights)
    return _folded(networks) if card.folded else networks


def _numbers(value: Any) -> Iterator[int]:
    """Every whole number in a value, however deep it stands."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _numbers(each)


def _plugins(run: Run, files: Sequence[str]) -> tuple[type[Method], type[Suite]]:
    """Method and suite of a run. A file that a card or a record names is never imported, but those are that a person
    has named and whose names it gives."""
    given = {zoo.name_of(file): file for file in files}
    for package, kind, name in ((zoo.METHODS, "method", run.method), (zoo.BENCHMARKS, "suite", run.suite)):
        if name not in given and (zoo.is_path(name) or not zoo.is_known(package, name)):
            raise InputError(f"{kind} {name!r} is not in the zoo; if you have its file, name it: files=[...]")
    return zoo.method(given.get(run.method, run.method)), zoo.suite(given.get(run.suite, run.suite))


def _folded(networks: Networks) -> Networks:
    networks.eval()
    merged = fold(networks.encoder)
    assert isinstance(merged, Encoder), "folding keeps the encoder an encoder"
    return Networks(merged, networks.head)


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error


def _licence(run: Run) -> str:
    name = run.backbone.name.partition("(")[0]
    if run.backbone.weights == "random":
        return "none: the backbone is random"
    if name == "mini":
        return "Apache-2.0, that of petlbench"
    config = timm.get_pretrained_cfg(name) if run.backbone.weights == "pretrained" else None
    return str(config.license) if config and config.license else "unknown: see where they come from"


def _readme(card: Card) -> str:
    """The card for people, in Markdown."""
    run = card.run
    backbone = run.backbone
    fields = ", ".join(f"{name}={value!r}" for name, value in run.fields.items()) or "none"
    scores = ", ".join(f"{metric} {value:.2f} %" for metric, value in card.scores.items())
    file = "" if backbone.weights in ("pretrained", "random") or card.folded else f', weights="{backbone.weights}"'
    holds = (
        "the whole network, the backbone included, with all merged that can be"
        if card.folded
        else "what was trained, and not the backbone"
    )
    return f"""# {run.label} on {run.suite}/{run.task}

| | |
|---|---|
| method | `{run.label}`; all fields: {fields} |
| backbone | `{backbone.name}`, weights {backbone.weights}, SHA-256 {backbone.sha256 or "not known: fetched by timm"} |
| licence of the backbone's weights | {card.licence} |
| task | {run.suite}/{run.task}, trained on {run.train}, seed {run.seed}, protocol {run.protocol} |
| score on {run.score} | {scores} |
| this folder holds | {holds}; SHA-256 {card.sha256} |
| repeated by | `{card.command}` |
| written by | petlbench {card.petlbench} |

```python
import petlbench

encoder, head = petlbench.restore("."{file})
# images: (B, 3, {backbone.image_size}, {backbone.image_size}), pixels in 0..1,
# minus the mean {backbone.mean}, divided by the deviation {backbone.std}
outputs = head(encoder(images))
```

Images become square by `{run.resize}` with {run.interpolation} interpolation, as in training. Whoever passes the
folder on minds the licence of the backbone as well as that of the images.
"""
