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


def do(options: argparse.Namespace) -> int:
    import tempfile
    from pathlib import Path

    from petlbench.data.bench import compare
    from petlbench.errors import InputError
    from petlbench.machine import machine

    for name in ("images", "source", "size", "repeats"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name} {getattr(options, name)}: expected at least 1")
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
