"""petlbench why: the state of one run, and the reason for it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from petlbench.commands import options as shared

if TYPE_CHECKING:
    from petlbench.commands import Commands
    from petlbench.overview import Place

EPILOG = """examples:
  petlbench why 5f0c
  petlbench why results/mini/lora/digits-s0-5f0c9a1e77d2.json

A run is named by its key (the end of its record's name), the beginning of that, or the path of its record.
"""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "why",
        help="why a run is stale, failed, waits or will be done again",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="its key, the beginning of it, or the path of its record")
    shared.add_results(parser)
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench import overview

    place = overview.find(options.results, options.run)
    print(f"{place.name}\n  {options.results / place.path}")
    for line in _reasons(options.results, place):
        print(f"  {line}")
    return 0


def _reasons(results: Path, place: Place) -> Iterator[str]:
    from petlbench import provenance, zoo

    if place.owner:
        yield f"running: in hand on {place.owner}; petlbench logs {place.key} -f follows it"
    if place.kept is None:
        if not place.owner:
            yield "new: planned and not begun, or ended before it was done; the command that planned it does it"
        return
    kept, changed = place.kept, provenance.changed(place.kept)
    if kept.status != "done":
        yield f"{kept.status}: {kept.reason or 'for no reason that it knows'} (tried {kept.started})"
        if (results / "logs" / f"{place.key}.log").is_file():
            yield f"its log: petlbench logs {place.key}"
        if place.is_answered:
            yield "a trial that diverged counts as tried, so it is not done again"
        else:
            yield "the command that planned it tries it again"
    elif changed:
        yield "stale: done, but by code that has changed since:"
        yield from (f"  {name} {_how(place, name)}" for name in changed)
        yield "tables mark it; petlbench run ... --rerun stale does it again"
    else:
        scores = ", ".join(f"{metric} {value:.1f} %" for metric, value in kept.scores.items())
        yield f"done and current: {scores} (on {kept.started}); no command does it again but with --rerun all"
    for package, name in ((zoo.METHODS, kept.run.method), (zoo.BENCHMARKS, kept.run.suite)):
        if not zoo.is_known(package, name):
            yield f"not judged: {name} came from a file, and no record says where that lies"


def _how(place: Place, module: str) -> str:
    from petlbench import provenance

    assert place.kept is not None
    if module not in place.kept.code:
        return "counts since"
    return "has changed" if provenance.is_there(module) else "counts no more, or is gone"
