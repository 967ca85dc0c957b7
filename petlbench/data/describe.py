"""A suite file for a data set of one's own: counts its classes and images once, and writes them down as facts."""

from __future__ import annotations

from pathlib import Path

from petlbench import layouts
from petlbench.errors import InputError

TEMPLATE = '''"""{title}: {classes} classes, {train} images to train on and {test} to score on."""

from petlbench import Classification, Task


class {title}(Classification):
    """Counted by `petlbench data suite` from train/, val/ and test/, one folder per class."""

    tasks = (
        Task(
            name="{name}",
            group="{name}",
            classes={classes},
            train={train},
            val={val},
            test={test},
            folders={folders},
            note="a data set of one's own",
        ),
    )
'''


def describe(data: Path) -> tuple[str, str]:
    """Name and source of a suite with this one folder as its task. Raises InputError for a folder in another layout."""
    data = data.resolve()
    if not all((data / part).is_dir() for part in ("train", "test")):
        raise InputError(f"{data}: expected train/CLASS/... and test/CLASS/... (val/CLASS/... may lack)")
    classes = len(layouts.class_names(data))
    if classes < 2:
        raise InputError(f"{data / 'train'}: {classes} folders of classes, expected at least 2")
    sizes = {split: len(layouts.read_tree(data, split, classes)) for split in layouts.PARTS}
    name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in data.name.lower()).strip("_")
    name = name if name.isidentifier() else f"data_{name}"
    facts = {"train": sizes["train800val200"], "val": sizes["val200"], "test": sizes["test"], "classes": classes}
    folders = f"({data.name!r},)" if data.name != name else "()"
    return name, TEMPLATE.format(title=name.title().replace("_", ""), name=name, folders=folders, **facts)
