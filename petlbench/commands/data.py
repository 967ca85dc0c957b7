"""petlbench data: which data sets there are, whether those on disk are whole, and what they look like."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from petlbench.commands import options as shared

if TYPE_CHECKING:
    from petlbench.classification import Classification
    from petlbench.commands import Commands
    from petlbench.dense.suite import DenseSuite
    from petlbench.suite import Task

EPILOG = """examples:
  petlbench data list vtab --data-root DATA
  petlbench data verify vtab --data-root DATA --tasks cifar100,dtd
  petlbench data verify coco --data-root DATA
  petlbench data prepare vtab --from tfds --data-root DATA
  petlbench data show vtab dtd --data-root DATA --out dtd.png
  petlbench data show ade20k upernet --data-root DATA --split test --out ade.png
  petlbench data make mini-coco --out DATA/mini-coco
  petlbench data suite DATA/my_photos && petlbench run --methods lora --suite ./my_photos.py --data-root DATA
"""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "data",
        help="list, check and look at data sets",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    each = actions.add_parser("list", help="tasks, their sizes, and whether they are found")
    each.add_argument("suite", nargs="?", metavar="SUITE", help="(default: all suites)")
    _add_root(each)
    each.set_defaults(do=do_list)

    each = actions.add_parser("verify", help="read every image and say what is not as it should be")
    each.add_argument("suite", metavar="SUITE", help="suite, see `petlbench list suites`")
    _add_root(each)
    each.add_argument("--tasks", default="", metavar="NAME,...", help="tasks of the suite (default: all)")
    each.set_defaults(do=do_verify)

    each = actions.add_parser("prepare", help="make the tasks of vtab that are missing from another library's copy")
    each.add_argument("suite", metavar="SUITE", help="vtab")
    each.add_argument("--from", dest="source", choices=["tfds"], required=True, help="tfds: TensorFlow Datasets")
    _add_root(each)
    each.add_argument("--tasks", default="", metavar="NAME,...", help="tasks of the suite (default: all)")
    each.add_argument(
        "--format", choices=["png", "jpg"], default="png", help="png: lossless; jpg: as NOAH's export (default: png)"
    )
    each.add_argument("--tfds-dir", metavar="DIR", help="where TFDS keeps its own files (default: its own choice)")
    each.set_defaults(do=do_prepare)

    each = actions.add_parser(
        "show", help="write a contact sheet of a task's images with their labels, objects or label maps"
    )
    each.add_argument("suite", metavar="SUITE", help="suite, see `petlbench list suites`")
    each.add_argument("task", metavar="TASK", help="task of the suite")
    _add_root(each)
    each.add_argument("--split", default="train800val200", metavar="SPLIT", help="(default: train800val200)")
    each.add_argument(
        "--images", type=int, metavar="N", help="images on the sheet (default: 60, or 12 with objects or label maps)"
    )
    each.add_argument("--out", type=Path, required=True, metavar="FILE", help="picture to write, .png or .jpg")
    each.set_defaults(do=do_show)

    each = actions.add_parser("make", help="write a data set that petlbench draws, in the layout of a real one")
    each.add_argument("name", metavar="NAME", help="mini-coco (as COCO 2017) or mini-ade20k (as ADEChallengeData2016)")
    each.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write, not there yet")
    each.set_defaults(do=do_make)

    each = actions.add_parser("suite", help="write a suite file for a folder of your own with train/ and test/")
    each.add_argument(
        "folder", type=Path, metavar="DIR", help="train/CLASS/..., test/CLASS/... and perhaps val/CLASS/..."
    )
    each.add_argument("--out", type=Path, metavar="FILE", help="(default: the folder's name with .py)")
    each.set_defaults(do=do_suite)


def _add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="folder that holds the folders of the tasks")


def do_list(options: argparse.Namespace) -> int:
    import sys

    from rich.console import Console
    from rich.table import Table

    from petlbench import zoo

    root = options.data_root
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("suite", "task", "group"):
        table.add_column(name, no_wrap=True)
    for name in ("classes", "train", "of it val", "test"):
        table.add_column(name, justify="right", no_wrap=True)
    if root is not None:
        table.add_column("folder", overflow="fold")
    for name in [options.suite] if options.suite else zoo.suites():
        suite = _any_suite(name, root)
        for task in suite.tasks:
            sizes = [f"{number:,}" for number in (task.classes, task.train, task.val, task.test)]
            place = [str(suite.locate(task, root) or "missing")] if root is not None else []
            table.add_row(zoo.name_of(name), task.name, task.group, *sizes, *place)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 0


def do_verify(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from petlbench.data import verify, verify_dense
    from petlbench.dense.suite import DenseSuite

    suite = _any_suite(options.suite, options.data_root)
    tasks = [suite.task(name) for name in shared.names(options.tasks)] or list(suite.tasks)
    is_dense = isinstance(suite, DenseSuite)
    groups = [tasks] if is_dense else [[task] for task in tasks]  # tasks that read the same files
    what = "data sets" if is_dense else "tasks"
    errors = broken = 0
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        whole = bar.add_task(what, total=len(groups))
        row = bar.add_task("", total=None, visible=False)

        def progress(done: int, total: int) -> None:
            bar.update(row, completed=done, total=total)

        for group in groups:
            bar.reset(row, description=group[0].name, total=None, visible=True)
            if isinstance(suite, DenseSuite):
                findings = verify_dense.verify(suite, group, options.data_root, progress)
            else:
                findings = verify.verify(suite, group[0], options.data_root, progress)
            for finding in findings:
                print(finding, flush=True)
            bad = sum(finding.level == "error" for finding in findings)
            errors, broken = errors + bad, broken + bool(bad)
            bar.advance(whole)
    print(f"{len(groups) - broken} of {len(groups)} {what} without an error" + (f", {errors} errors" if errors else ""))
    return 1 if errors else 0


def do_prepare(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.status import Status

    from petlbench.data import tfds
    from petlbench.errors import InputError

    if options.data_root is None:
        raise InputError("--data-root DIR: say which folder is to hold the folders of the tasks")
    suite, tasks = _suite_and_tasks(options)
    if not all(task.name in tfds.SOURCES for task in suite.tasks):
        raise InputError(f"suite {options.suite}: can only be made for vtab; `petlbench data list` names the folders")
    library = tfds.library()
    console = Console(stderr=True)
    for task in tasks:
        if suite.locate(task, options.data_root) is not None:
            print(f"{task.name} is there already")
            continue
        place = options.data_root / (task.folders[0] if task.folders else task.name)
        with console.status(task.name) as status:

            def progress(split: str, done: int, name: str = task.name, show: Status = status) -> None:
                show.update(f"{name}: {done:,} of {split}")

            try:
                tfds.prepare(task.name, place, library, options.format, options.tfds_dir, progress)
            except OSError as error:
                raise InputError(f"{place}: cannot be written: {error.strerror or error}") from error
        print(f"made {task.name} in {place}")
    print(f"now check it: petlbench data verify {options.suite} --data-root {options.data_root}")
    return 0


def do_show(options: argparse.Namespace) -> int:
    from petlbench.data import show, show_dense
    from petlbench.dense.suite import DenseSuite
    from petlbench.errors import InputError, unknown
    from petlbench.folder import SPLITS
    from petlbench.framing import Framing

    suite = _any_suite(options.suite, options.data_root)
    task = suite.task(options.task)
    if options.split not in SPLITS:
        raise unknown("split", options.split, SPLITS)
    is_dense = isinstance(suite, DenseSuite)
    wanted = options.images if options.images is not None else 12 if is_dense else 60
    if wanted < 1:
        raise InputError(f"--images {wanted}: expected at least 1")
    if options.out.suffix not in (".png", ".jpg"):
        raise InputError(f"--out {options.out}: expected a name that ends in .png or .jpg")
    data = suite.prepare(task, options.data_root)
    if isinstance(suite, DenseSuite):
        source = suite.data(task, options.split, data, Framing(1)).source
        page, size = show_dense.sheet(suite, source, task.classes, wanted), len(source)
    else:
        listing = suite.listing(task, options.split, data)
        page, size = show.sheet(listing, wanted, show.class_names(data, task.classes)), len(listing)
    try:
        page.save(options.out)
    except OSError as error:
        raise InputError(f"--out {options.out}: cannot be written: {error.strerror or error}") from error
    print(f"wrote {options.out}: {min(wanted, size):,} of {size:,} images of {options.split}")
    return 0


def do_make(options: argparse.Namespace) -> int:
    from petlbench.drawing import annotated
    from petlbench.errors import InputError, unknown

    if options.name not in annotated.WRITERS:
        raise unknown("data set", options.name, annotated.WRITERS)
    if options.out.exists():
        raise InputError(f"--out {options.out}: exists already")
    annotated.make(options.name, options.out)
    suite = options.name.replace("-", "_")
    print(f"wrote {options.out}; use it with: --suite {suite} --data-root {options.out}")
    return 0


def do_suite(options: argparse.Namespace) -> int:
    from petlbench.data.describe import describe
    from petlbench.errors import InputError

    name, source = describe(options.folder)
    out = options.out or Path(f"{name}.py")
    if out.suffix != ".py" or out.exists():
        raise InputError(f"--out {out}: " + ("exists already" if out.exists() else "expected a name that ends in .py"))
    try:
        out.write_text(source, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    print(f"wrote {out}; use it with: --suite ./{out} --data-root {options.folder.resolve().parent}")
    return 0


def _suite_and_tasks(options: argparse.Namespace) -> tuple[Classification, list[Task]]:
    suite = _suite(options.suite, options.data_root)
    return suite, [suite.task(name) for name in shared.names(options.tasks)] or list(suite.tasks)


def _any_suite(name: str, root: Path | None) -> Classification | DenseSuite:
    from petlbench import zoo
    from petlbench.classification import Classification
    from petlbench.dense.suite import DenseSuite
    from petlbench.errors import InputError

    if root is not None and not root.is_dir():
        raise InputError(f"--data-root {root}: no such folder")
    suite = zoo.suite(name)()
    if not isinstance(suite, Classification | DenseSuite):
        raise InputError(f"suite {name}: `petlbench data` knows suites of images, and this one is another kind")
    return suite


def _suite(name: str, root: Path | None) -> Classification:
    from petlbench.classification import Classification
    from petlbench.errors import InputError

    suite = _any_suite(name, root)
    if not isinstance(suite, Classification):
        raise InputError(f"suite {name}: `petlbench data` knows suites that classify images, and this one does not")
    return suite
