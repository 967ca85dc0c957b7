"""petlbench bench: how fast the harness itself is, against the plain way of doing the same."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from petlbench.commands import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser("bench", help="speed of the harness itself", epilog="petlbench bench data --size 224")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    each = actions.add_parser("data", help="a DataLoader over PNG files against decoded arrays, side by side")
    each.add_argument("--images", type=int, default=1000, metavar="N", help="PNG files to write (default: 1000)")
    each.add_argument("--source", type=int, default=256, metavar="N", help="their height and width (default: 256)")
    each.add_argument("--size", type=int, default=224, metavar="N", help="what they are resized to (default: 224)")
    workers = os.cpu_count() or 1
    each.add_argument(
        "--workers", type=int, default=workers, metavar="N", help="processes of the DataLoader (default: cores)"
    )
    each.add_argument("--repeats", type=int, default=3, metavar="N", help="of which the median counts (default: 3)")
    each.set_defaults(do=do)
    each = actions.add_parser("overhead", help="a run against a bare training loop of the same steps, side by side")
    each.add_argument(
        "--backbone", default="mini", metavar="NAME", help="mini, or any ViT of timm, random (default: mini)"
    )
    each.add_argument("--device", default=None, metavar="DEVICE", help="cpu or cuda (default: cuda where there is one)")
    each.add_argument("--batch-size", type=int, default=64, metavar="N", help="images a step (default: 64)")
    each.add_argument("--steps", type=int, default=10, metavar="N", help="steps an epoch (default: 10)")
    each.add_argument("--epochs", type=int, default=2, metavar="N", help="epochs a turn (default: 2)")
    each.add_argument("--turns", type=int, default=5, metavar="N", help="times that both are timed (default: 5)")
    each.set_defaults(do=overhead)


def do(options: argparse.Namespace) -> int:
    import tempfile
    from pathlib import Path

    from petlbench.data.bench import compare
    from petlbench.errors import InputError
    from petlbench.machine import machine

    _at_least_one(options, "images", "source", "size", "repeats")
    if options.workers < 0:
        raise InputError(f"--workers {options.workers}: expected at least 0")
    with tempfile.TemporaryDirectory(prefix="petlbench-") as folder:
        rates = compare(Path(folder), options.images, options.source, options.size, options.workers, options.repeats)
    print(
        f"{options.images:,} PNG files of {options.source} x {options.source} to {options.size} x {options.size}, "
        f"median of {options.repeats}, on {machine('cpu').tag}"
    )
    rows = (
        (f"DataLoader, {options.workers} workers, every epoch", rates.loader),
        ("petlbench, first run: decode and keep", rates.first),
        ("petlbench, second run: read what was kept", rates.second),
        ("petlbench, later epochs: from memory", rates.epoch),
    )
    for name, rate in rows:
        print(f"  {name:44} {rate:10,.0f} images/s  x {rate / rates.loader:.2f}")
    return 0


def overhead(options: argparse.Namespace) -> int:
    import torch

    from petlbench import spec
    from petlbench.commands import options as shared
    from petlbench.machine import machine
    from petlbench.overhead import METHOD, Pair, start, steps

    spec.single(options.backbone, "--backbone")
    _at_least_one(options, "batch_size", "steps", "epochs", "turns")
    device = shared.device(options.device)
    torch.set_num_threads(1)
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    step = steps(
        options.backbone,
        batch=options.batch_size,
        number=options.steps,
        epochs=options.epochs,
        turns=options.turns,
        device=device,
    )
    begin = start(options.turns)
    clock = "CPU time" if device == "cpu" else "wall time"
    print(
        f"{METHOD} on {options.backbone}, {options.turns} turns of {options.epochs} x {options.steps} steps of "
        f"{options.batch_size} images, one thread, on {machine(device).tag} (load {load})"
    )

    def row(name: str, pair: Pair, values: list[float], unit: str, scale: float = 1.0) -> None:
        low, middle, high = (scale * each for each in _spread(values))
        bare, ours = (_spread(each)[1] for each in (pair.bare, pair.harness))
        print(f"  {name:38} {bare:9.4f} {ours:9.4f}   {middle:+7.2f} {unit} ({low:+.2f} to {high:+.2f})")

    print(f"  {'medians in seconds':38} {'bare':>9} {'harness':>9}   {'difference':>10} (min to max)")
    row(f"a training step, {clock}", step, [ratio - 1 for ratio in step.ratios], "%", 100)
    row("from process start to training, CPU time", begin, begin.differences, "s")
    print("  start: bare has imported torch and timm; the harness has also built the networks and read the images")
    return 0


def _spread(values: list[float]) -> tuple[float, float, float]:
    import statistics

    return min(values), statistics.median(values), max(values)


def _at_least_one(options: argparse.Namespace, *names: str) -> None:
    from petlbench.errors import InputError

    for name in names:
        if getattr(options, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} {getattr(options, name)}: expected at least 1")
