"""Other layouts than VTAB-1K's that a task's folder may have; `read` tells them apart by what is there.

    TASK/train.json  val.json  test.json      {"001.Albatross/1.jpg": 1, ...}, images in TASK, images/, Images/ or jpg/
    TASK/train/CLASS/...  val/...  test/...   one folder per class, as torchvision's ImageFolder reads it; val may lack

The JSON lists are those that VPT distributes for FGVC. Either layout gives the same splits under the same names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from petlbench.errors import InputError
from petlbench.folder import BOTH, SPLITS, Listing, Refuse, inside, read_list, strict

SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
PARTS = {"train800": ("train",), "val200": ("val",), BOTH: ("train", "val"), "test": ("test",)}
"""What holds the images of each split."""
IMAGES = ("", "images", "Images", "jpg")
"""Folders that the paths in a JSON list may be relative to."""
EACH = 5
"""Without val/, every fifth image of a class, in the order of their names, is set aside."""


def read(folder: Path, split: str, classes: int, refuse: Refuse = strict) -> Listing:
    """The images and labels of a split in whichever layout the folder has. Raises InputError as `read_list` does."""
    if not any((folder / f"{name}.txt").is_file() for name in SPLITS):
        if any((folder / f"{part}.json").is_file() for part in ("train", "val", "test")):
            return read_json(folder, split, classes, refuse)
        if (folder / "train").is_dir() and (folder / "test").is_dir():
            return read_tree(folder, split, classes, refuse)
    return read_list(folder, split, classes, refuse)


def read_json(folder: Path, split: str, classes: int, refuse: Refuse = strict) -> Listing:
    """A split from JSON objects that map image paths to classes.

    As in VPT's code, classes are numbered in the order of their sorted names; here the names are those of all three
    lists, so that a class that a list lacks does not shift the others.
    """
    names: list[tuple[Path, int]] = []
    try:
        lists = {part: _pairs(folder / f"{part}.json") for part in ("train", "val", "test")}
        number = _numbers(folder, lists, classes)
    except InputError as error:
        refuse(error)
        return Listing(folder / f"{PARTS[split][0]}.json", (), ())
    for part in PARTS[split]:
        base = _base(folder, [name for name, _ in lists[part]])
        for name, label in lists[part]:
            try:
                names.append((inside(base, name, str(folder / f"{part}.json")), number[label]))
            except InputError as error:
                refuse(error)
    file = folder / f"{'+'.join(PARTS[split])}.json"
    return Listing(file, tuple(path for path, _ in names), tuple(label for _, label in names))


def _pairs(file: Path) -> list[tuple[str, Any]]:
    """The entries of a JSON object in their order, repeated ones included."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=tuple)
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such list; a task's folder holds train.json, val.json and test.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read as a list: {error}") from error
    if not isinstance(found, tuple) or not all(isinstance(label, int | str) for _, label in found):
        raise InputError(f'{file}: expected an object {{"path": class, ...}}')
    if not found:
        raise InputError(f"{file}: the list is empty")
    return list(found)


def _numbers(folder: Path, lists: dict[str, list[tuple[str, Any]]], classes: int) -> dict[Any, int]:
    labels = {label for pairs in lists.values() for _, label in pairs}
    if len({type(label) for label in labels}) > 1:
        raise InputError(f"{folder / 'train.json'}: classes must all be numbers or all be names")
    if len(labels) > classes:
        raise InputError(f"{folder / 'train.json'}: the lists name {len(labels)} classes, expected {classes}")
    return {label: number for number, label in enumerate(sorted(labels))}


def _base(folder: Path, names: list[str]) -> Path:
    """The folder that the paths are relative to: the one where the first of them is found."""
    return next((folder / base for base in IMAGES for name in names[:20] if (folder / base / name).is_file()), folder)


def read_tree(folder: Path, split: str, classes: int, refuse: Refuse = strict) -> Listing:
    """A split from one folder per class; classes are numbered in the order of their names below train/."""
    names = class_names(folder)
    if len(names) != classes:
        refuse(InputError(f"{folder / 'train'}: {len(names)} folders of classes, expected {classes}"))
    found: list[tuple[Path, int]] = []
    for part in PARTS[split]:
        place = folder / part
        held = part == "val" and not place.is_dir()
        cut = part == "train" and not (folder / "val").is_dir()
        place = folder / "train" if held else place
        for label, name in enumerate(names[:classes]):
            files = sorted(path for path in (place / name).rglob("*") if path.suffix.lower() in SUFFIXES)
            if held or cut:
                files = [path for index, path in enumerate(files) if (index % EACH == EACH - 1) == held]
            found += [(path, label) for path in files]
        for name in sorted({path.name for path in place.iterdir() if path.is_dir()} - set(names)):
            refuse(InputError(f"{place / name}: is no class of {folder / 'train'}"))
    if not found:
        refuse(InputError(f"{folder / PARTS[split][0]}: holds no image, or too few to set some aside"))
    file = folder / "+".join(PARTS[split])
    return Listing(file, tuple(path for path, _ in found), tuple(label for _, label in found))


def class_names(folder: Path) -> list[str]:
    """The classes of a folder with train/CLASS/..., in the order of their numbers."""
    return sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
