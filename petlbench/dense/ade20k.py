"""Images and label maps in the layout of ADEChallengeData2016, ADE20K as it is used for scene parsing.

    ROOT/ADEChallengeData2016/images/{training,validation}/ADE_{train,val}_00000001.jpg
    ROOT/ADEChallengeData2016/annotations/{training,validation}/ADE_{train,val}_00000001.png
    ROOT/ADEChallengeData2016/objectInfo150.txt

A label map is a PNG of one 8-bit channel: 0 is "other", which nobody trains on or scores, and 1 to 150 are the
classes, which networks see as 0 to 149. The newer full ADE20K has another layout, with colours for classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from petlbench.dense.head import Target
from petlbench.dense.images import IGNORED
from petlbench.errors import InputError
from petlbench.folder import Refuse, strict

FOLDER = "ADEChallengeData2016"
BAD = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that is missing, cut short or no image."""


def locate(root: Path) -> Path | None:
    """The folder itself, or the one of that name below it; None if neither is there."""
    return next((folder for folder in (root / FOLDER, root) if (folder / "images").is_dir()), None)


@dataclass(frozen=True)
class LabelMaps:
    """A split: images, and the class of each of their pixels."""

    images: tuple[Path, ...]
    maps: tuple[Path, ...]
    classes: int

    def __len__(self) -> int:
        return len(self.images)

    def files(self) -> Sequence[Path]:
        return (*self.images, *self.maps)

    def path(self, index: int) -> Path:
        """The file of an image."""
        return self.images[index]

    def image(self, index: int) -> Image.Image:
        """As RGB, whatever the file holds. Raises InputError for one that is missing or cut short."""
        try:
            with Image.open(self.images[index]) as file:
                return file.convert("RGB")
        except BAD as error:
            raise InputError(f"{self.images[index]}: not a readable image: {error}") from error

    def target(self, index: int) -> Target:
        """ "map" (H, W) int64: classes from 0, and 255 for "other".

        Raises InputError for a map that cannot be read, is not of one 8-bit channel, has another size than its image
        or a label above the number of classes.
        """
        path = self.maps[index]
        try:
            with Image.open(path) as file:
                if file.mode not in ("L", "P"):
                    raise InputError(
                        f"{path}: its pixels are of mode {file.mode}; a label map has one 8-bit channel (L), with 0 "
                        f"for other and 1..{self.classes} for the classes"
                    )
                size, labels = file.size, np.asarray(file).astype(np.int64)
            with Image.open(self.images[index]) as image:
                wanted = image.size
        except InputError:
            raise
        except BAD as error:
            raise InputError(f"{path}: not a readable label map: {error}") from error
        if size != wanted:
            raise InputError(
                f"{path}: is {size[0]} x {size[1]}, but its image {self.images[index].name} is "
                f"{wanted[0]} x {wanted[1]}"
            )
        if labels.max() > self.classes:
            raise InputError(f"{path}: has the label {labels.max()}; valid: 0 (other) to {self.classes}")
        return {"map": torch.from_numpy(np.where(labels == 0, IGNORED, labels - 1)), "image_id": index}


def read(folder: Path, part: str, classes: int, refuse: Refuse = strict) -> LabelMaps:
    """The split "training" or "validation".

    Raises InputError for folders that are not there or empty, and for an image without a label map or the reverse,
    unless `refuse` does otherwise: then these are left out.
    """
    found: dict[str, dict[str, Path]] = {}
    for kind, suffixes in (("images", (".jpg", ".jpeg")), ("annotations", (".png",))):
        place = folder / kind / part
        if not place.is_dir():
            raise InputError(f"{place}: no such folder; {FOLDER} holds images/{part} and annotations/{part}")
        found[kind] = {path.stem: path for path in sorted(place.iterdir()) if path.suffix.lower() in suffixes}
        if not found[kind]:
            raise InputError(f"{place}: holds no {suffixes[0]} file")
    for kind, other in (("images", "annotations"), ("annotations", "images")):
        alone = sorted(found[kind].keys() - found[other].keys())
        if alone:
            what = "image has no label map" if kind == "images" else "label map has no image"
            error = InputError(
                f"{found[kind][alone[0]]}: this {what} in {folder / other / part} ({len(alone)} such of "
                f"{len(found[kind])})"
            )
            refuse(error)
    names = sorted(found["images"].keys() & found["annotations"].keys())
    return LabelMaps(
        tuple(found["images"][name] for name in names), tuple(found["annotations"][name] for name in names), classes
    )


def class_names(folder: Path, classes: int) -> tuple[str, ...]:
    """The names in objectInfo150.txt, the first of several that a class has; numbers where there is no such file."""
    file = folder / "objectInfo150.txt"
    numbers = tuple(str(number) for number in range(1, classes + 1))
    if not file.is_file():
        return numbers
    try:
        rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    if len(rows) != classes:
        raise InputError(f"{file}: names {len(rows)} classes, the task has {classes}")
    return tuple(row[-1].partition(",")[0].strip() for row in rows)
