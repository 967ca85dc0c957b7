"""petlbench merge: join another results folder into this one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from petlbench.commands import options as shared

if TYPE_CHECKING:
    from petlbench.commands import Commands

EPILOG = """examples:
  petlbench merge /mnt/laptop/results
  petlbench merge results.cluster --prefer newer

Copies records, costs, plans and logs that are missing here. Where both have a record of the same run and they differ,
nothing is changed unless --prefer says whose is kept; but what is done takes the place of what failed.
Exit code 1: conflicts are left.
"""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "merge",
        help="join another results folder into this one",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("other", type=Path, metavar="OTHER_RESULTS", help="the folder to join; it is only read")
    parser.add_argument(
        "--prefer", choices=["ours", "theirs", "newer"], help="whose record is kept of a run that both have"
    )
    shared.add_results(parser)
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench.merge import merge
    from petlbench.store import Store

    if options.other.is_dir():
        Store(options.results).check_writable()
    outcome = merge(options.other, options.results, options.prefer)
    for line in outcome.skipped:
        print(f"skipped   {line}")
    for line in outcome.decided:
        print(f"decided   {line}")
    for line in outcome.conflicts:
        print(f"conflict  {line}")
    copied = ", ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in outcome.copied.items()) or "nothing"
    print(
        f"{copied} copied, {outcome.equal} equal, {len(outcome.decided)} decided, {len(outcome.conflicts)} in conflict"
    )
    if outcome.conflicts:
        print("nothing in conflict was changed: --prefer ours, theirs or newer decides")
    return 1 if outcome.conflicts else 0
