"""petlbench export: what a run has trained, as a folder that petlbench.restore reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from petlbench.commands import options as shared

if TYPE_CHECKING:
    from petlbench.commands import Commands

EPILOG = """examples:
  petlbench run --methods lora --suite mini --tasks digits --save-weights
  petlbench export results/mini/lora/digits-s0-0123456789ab.json --out digits
  petlbench export 0123456789ab --out digits --fold
"""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "export",
        help="give away what a run has trained",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="the record of a run, or the key at the end of its name")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write, new or empty")
    parser.add_argument("--fold", action="store_true", help="merge what can be, and write the whole network")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="the backbone's weights, where the run names a file"
    )
    parser.add_argument("--files", default="", metavar="FILE,...", help="of its method or suite, where not of the zoo")
    shared.add_results(parser)
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench.export import WEIGHTS, export
    from petlbench.store import Store

    record = Store(options.results).find(options.run)
    files = shared.names(options.files)
    export(record, options.results, options.out, folded=options.fold, weights=options.weights, files=files)
    size = (options.out / WEIGHTS).stat().st_size
    print(f"{record.run} in {options.out} ({size:,} bytes): encoder, head = petlbench.restore({str(options.out)!r})")
    return 0
