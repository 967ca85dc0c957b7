"""Options that several commands share, and how they become a request."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from petlbench.engines.limits import Limits
    from petlbench.request import Request
    from petlbench.spec import Spec

LEAST = 2**30
"""Bytes below which no run can begin: Python and torch take nearly as much."""


def add_request(parser: argparse.ArgumentParser) -> None:
    """What to compare, on what, with what: the options of `run` and `plan`."""
    parser.add_argument(
        "--methods",
        required=True,
        metavar="NAME[(FIELD=VALUE,...)],...",
        help="methods of the zoo or files, such as 'hst,vpt(tokens=50),./my_method.py'; or all",
    )
    parser.add_argument("--suite", required=True, metavar="NAME", help="suite, see `petlbench list suites`")
    parser.add_argument("--tasks", metavar="NAME,...", help="tasks of the suite (default: all)")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="folder that holds the folders of the tasks")
    add_backbone(parser)
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="N",
        help="height and width that images are resized to, in pixels (default: the backbone's own)",
    )
    parser.add_argument("--seeds", metavar="N,...", help="one run each (default: 0; tuned: 0,1,2)")
    parser.add_argument(
        "--protocol",
        choices=["fixed", "tuned", "paper"],
        default="fixed",
        help="fixed: the method's recipe (default); tuned: searched on val200, as many trials for every method; "
        "paper: the published settings of each task, with the best test epoch beside the last",
    )
    parser.add_argument(
        "--trials", type=int, metavar="N", help="settings that a method may try on a task under tuned (default: 12)"
    )
    parser.add_argument(
        "--normalization",
        choices=["backbone", "imagenet", "half", "none"],
        default="backbone",
        help="mean and deviation of pixels: as in the backbone's pre-training (default), ImageNet's, 0.5, or 0 and 1",
    )
    parser.add_argument(
        "--resize",
        choices=["squash", "crop"],
        help="how images become square: both sides alike, or the middle of them (default: the suite's own way)",
    )
    parser.add_argument(
        "--interpolation", choices=["bicubic", "bilinear"], default="bicubic", help="of resizing (default: bicubic)"
    )
    parser.add_argument(
        "--recipe",
        metavar="FIELD=VALUE,...",
        help="replace settings of the recipes, such as epochs=4,lr=1e-3",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="processes that train one run together, each on a GPU of its own and a part of every batch; for dense "
        "suites (default: 1)",
    )
    parser.add_argument(
        "--save-weights", action="store_true", help="keep what was trained, for petlbench export and petlbench.restore"
    )
    add_results(parser)


def add_backbone(parser: argparse.ArgumentParser) -> None:
    """Which backbone, and where its weights come from."""
    parser.add_argument(
        "--backbone", default="mini", metavar="NAME", help="mini, or any ViT or Swin of timm (default: mini)"
    )
    parser.add_argument(
        "--weights",
        default="pretrained",
        metavar="FILE",
        help=".safetensors, .pth or .npz file; or 'random' (default: the weights that belong to the name)",
    )
    parser.add_argument(
        "--device", default=None, metavar="DEVICE", help="cpu or cuda (default: cuda where there is one)"
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads of torch per run on the CPU (default: 1)"
    )


def add_results(parser: argparse.ArgumentParser) -> None:
    """Where the records are."""
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="folder of the records")


def request(options: argparse.Namespace) -> Request:
    """The request that the options of `add_request` make. Raises InputError."""
    from petlbench.request import Request

    here = getattr(options, "engine", "local") == "local"
    return Request(
        methods=methods(options.methods, options.backbone),
        suite=options.suite,
        tasks=given("--tasks", options.tasks),
        backbone=options.backbone,
        weights=_weights(options.weights),
        image_size=image_size(options.image_size),
        data_root=options.data_root,
        results=options.results,
        seeds=_seeds(options.seeds, options.protocol),
        protocol=options.protocol,
        trials=trials(options.trials, options.protocol),
        normalization=options.normalization,
        resize=options.resize,
        interpolation=options.interpolation,
        overrides=_recipe(options.recipe),
        device=device(options.device, here),
        threads=threads(options.threads, here),
        processes=processes(options.processes, options.device),
        save_weights=options.save_weights,
    )


def methods(text: str, backbone: str) -> list[Spec]:
    """The methods that `--methods` names; "all" are those of the zoo that can be built into the backbone."""
    from petlbench import backbone as backbones
    from petlbench import spec, zoo

    spec.single(backbone, "--backbone")
    if text != "all":
        return spec.parse(text)
    fit = (name for name in zoo.methods() if backbones.kind(backbone) in zoo.method(name).backbones())
    return spec.parse(",".join(fit))


def sources(text: str) -> list[str]:
    """The sources in `published=SOURCE,...`; none for `published` alone. Raises InputError for anything else."""
    from petlbench.errors import InputError

    word, equals, rest = text.partition("=")
    if word != "published" or (equals and not names(rest)):
        raise InputError(f"--with {text}: expected published or published=SOURCE,..., such as published=hst,noah")
    return names(rest)


def given(option: str, text: str | None) -> list[str]:
    """The names in a list that may be left out. Raises InputError, naming the option, for one that is there and empty:
    it is what a variable holds that nobody has set, and all was hardly meant.
    """
    from petlbench.errors import InputError

    found = names(text or "")
    if text is not None and not found:
        raise InputError(f"{option} '{text}': is empty; write names separated by commas, or leave it out")
    return found


def _seeds(text: str | None, protocol: str) -> list[int]:
    if text is None:
        return [0, 1, 2] if protocol == "tuned" else [0]
    return numbers("--seeds", text)


def _recipe(text: str | None) -> dict[str, Any]:
    from petlbench import spec
    from petlbench.errors import InputError

    if text is not None and not text.strip():
        raise InputError("--recipe '': is empty; write field=value, or leave it out")
    return spec.fields(text, "--recipe") if text else {}


def _weights(text: str) -> str:
    from petlbench.errors import InputError

    if not text.strip():
        raise InputError("--weights '': is empty; valid: a file, 'random', 'pretrained'")
    return text


def names(text: str) -> list[str]:
    """The names in a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(option: str, text: str) -> list[int]:
    """The whole numbers in a comma-separated list. Raises InputError that names the option."""
    from petlbench.errors import InputError

    found = names(text)
    if not found or not all(number.isdecimal() for number in found):
        raise InputError(f"{option} {text or repr(text)}: expected whole numbers separated by commas, such as 0,1,2")
    return [int(number) for number in found]


def trials(number: int | None, protocol: str) -> int:
    """Checked budget of a search. Raises InputError."""
    from petlbench.errors import InputError
    from petlbench.search import TRIALS

    if number is None:
        return TRIALS
    if protocol != "tuned":
        raise InputError(f"--trials {number}: nothing is searched under --protocol {protocol}, valid: tuned")
    if number < 1:
        raise InputError(f"--trials {number}: expected at least 1")
    return number


def image_size(pixels: int | None) -> int | None:
    """Checked size of images; None for the backbone's own. Raises InputError."""
    from petlbench.errors import InputError

    if pixels is not None and pixels < 1:
        raise InputError(f"--image-size {pixels}: expected at least 1")
    return pixels


def threads(number: int, here: bool = True) -> int:
    """Checked number of threads, of this machine or of one we cannot see. Raises InputError."""
    from petlbench.errors import InputError

    if not here and number >= 1:
        return number
    if not 1 <= number <= (os.cpu_count() or 1):
        raise InputError(f"--threads {number}: expected 1 to {os.cpu_count()}, the cores of this machine")
    return number


def processes(number: int, device: str | None) -> int:
    """Checked number of processes that train one run. Raises InputError."""
    from petlbench.errors import InputError

    if number < 1:
        raise InputError(f"--processes {number}: expected at least 1")
    if number > 1 and device not in (None, "cpu", "cuda"):
        raise InputError(f"--device {device}: one GPU, and --processes {number} needs as many; valid: cuda, cpu")
    return number


def limits(options: argparse.Namespace, device: str) -> Limits:
    """What a run may take: `--time-limit`, `--memory-limit` and GPUs of this device. Raises InputError."""
    import torch

    from petlbench.engines import limits
    from petlbench.errors import InputError

    seconds = limits.seconds(options.time_limit) if options.time_limit else None
    memory = limits.size(options.memory_limit) if options.memory_limit else None
    if options.time_limit and seconds is None:
        raise InputError(f"--time-limit {options.time_limit}: expected a number and s, m, h or d, such as 90s or 2h")
    if options.memory_limit and memory is None:
        raise InputError(f"--memory-limit {options.memory_limit}: expected a number and K, M, G or T, such as 8G")
    if memory is not None and memory < LEAST:
        raise InputError(
            f"--memory-limit {options.memory_limit}: expected at least 1G; 0.9 GiB are gone before a run begins"
        )
    gpus = limits.gpus(device, torch.cuda.device_count)
    if getattr(options, "engine", "local") == "local" and device == "cuda" and len(gpus) < options.processes:
        raise InputError(f"--processes {options.processes}: needs as many GPUs, this machine shows {len(gpus)}")
    return limits.Limits(seconds=seconds, memory_bytes=memory, gpus=gpus)


def device(name: str | None, here: bool = True) -> str:
    """The device asked for, or the best there is; on a machine we cannot see, the CPU. Raises InputError for one that
    torch cannot use.
    """
    import torch

    from petlbench.errors import InputError

    if not here:
        if name not in (None, "cpu", "cuda"):
            raise InputError(f"--device {name}: valid: cpu, cuda; the engine chooses which one")
        return name or "cpu"
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not (name.split(":")[0] == "cuda" and torch.cuda.is_available()):
        valid = "cpu, cuda" if torch.cuda.is_available() else "cpu (torch sees no CUDA device here)"
        raise InputError(f"--device {name}: valid: {valid}")
    return name
