"""Images and objects of a detection data set in the format of COCO 2017.

    ROOT/annotations/instances_train2017.json  instances_val2017.json
    ROOT/train2017/000000000009.jpg ...        ROOT/val2017/000000000139.jpg ...

The file of a split lists images, categories and annotations; an annotation is a box [left, top, width, height] and the
outline of one object: polygons, or a run-length code (RLE), plain or compressed. Ids of categories have gaps (1 to 90
for 80 classes); networks see labels without gaps, 1 to 80 in the order of the ids.

What contradicts itself is an error that names the file and the annotation. What is merely of no use to training is
left out of it, as mmdetection does, and counted: crowds, objects less than a pixel wide or high, without area or
outside of their image, outlines of fewer than three points, and then images without an object left or less than 32
pixels wide or high. Evaluation sees everything.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from faster_coco_eval import mask as rle
from PIL import Image

from petlbench.dense.head import Target
from petlbench.errors import InputError

SMALLEST = 32
"""Pixels that an image has at least in both directions to be trained on."""


class Outline(msgspec.Struct, frozen=True, gc=False):
    """Pixels of an object as lengths of runs, column by column; `counts` is a list, or COCO's compressed text."""

    size: tuple[int, int]
    """Height and width."""
    counts: list[int] | str


class Annotation(msgspec.Struct, frozen=True, gc=False):
    """One object."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    """Left, top, width, height."""
    area: float
    iscrowd: int = 0
    segmentation: list[list[float]] | Outline = []


class Photo(msgspec.Struct, frozen=True, gc=False):
    """One image."""

    id: int
    file_name: str
    height: int
    width: int


class Category(msgspec.Struct, frozen=True, gc=False):
    """One class."""

    id: int
    name: str


class Contents(msgspec.Struct, frozen=True, gc=False):
    """What an annotation file holds, as far as it matters here."""

    images: list[Photo]
    annotations: list[Annotation]
    categories: list[Category]


@dataclass(frozen=True)
class Instances:
    """A split: its images, each with its objects."""

    file: Path
    folder: Path
    contents: Contents
    photos: tuple[Photo, ...]
    """The images that are used."""
    objects: Mapping[int, tuple[Annotation, ...]]
    """The objects that are used, by the id of their image."""
    left_out: Mapping[str, int]
    """What training does not use, counted by its reason."""

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def categories(self) -> tuple[int, ...]:
        """Ids of the categories; that of label 1 comes first."""
        return tuple(sorted(category.id for category in self.contents.categories))

    @cached_property
    def labels(self) -> dict[int, int]:
        """The label, from 1, of each category's id."""
        return {category: label for label, category in enumerate(self.categories, start=1)}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes; that of label 1 comes first."""
        names = {category.id: category.name for category in self.contents.categories}
        return tuple(names[category] for category in self.categories)

    def part(self, indices: Sequence[int]) -> Instances:
        """Some of the images."""
        return replace(self, photos=tuple(self.photos[index] for index in indices))

    def files(self) -> list[Path]:
        """Every file that the split is made of."""
        return [self.file, *(self.folder / photo.file_name for photo in self.contents.images)]

    def image(self, index: int) -> Image.Image:
        """An image as RGB, whatever its file holds (COCO has grey ones).

        Raises InputError for a file that is missing, cut short or of another size than the annotations say.
        """
        photo = self.photos[index]
        path = self.folder / photo.file_name
        try:
            with Image.open(path) as image:
                if image.size != (photo.width, photo.height):
                    raise InputError(
                        f"{path}: is {image.width} x {image.height}, but {self.file.name} says that image {photo.id} "
                        f"is {photo.width} x {photo.height}"
                    )
                return image.convert("RGB")
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"{path}: image {photo.id} of {self.file.name} cannot be read: {error}") from error

    def target(self, index: int) -> Target:
        """The objects of an image of height H and width W, under torchvision's names.

        "boxes" (N, 4) float32 as corners, cut at the border of the image; "labels" (N,) int64 from 1; "masks" (N, H, W)
        uint8; "image_id".
        """
        photo = self.photos[index]
        objects = self.objects.get(photo.id, ())
        boxes = torch.tensor([corners(each, photo) for each in objects], dtype=torch.float32).reshape(-1, 4)
        masks = np.zeros((len(objects), photo.height, photo.width), dtype=np.uint8)
        for mask, each in zip(masks, objects, strict=True):
            mask[:] = rle.decode(encoded(each, photo))
        return {
            "boxes": boxes,
            "labels": torch.tensor([self.labels[each.category_id] for each in objects], dtype=torch.int64),
            "masks": torch.from_numpy(masks),
            "image_id": photo.id,
        }


def read(file: Path, folder: Path, classes: int, *, training: bool) -> Instances:
    """Read and check an annotation file and the names of the images in `folder`.

    Raises InputError for a file that is missing or not in COCO's format, another number of categories than `classes`,
    an id used twice, an annotation of an unknown category or image, a run-length code that does not fit its image, and
    images that are missing.
    """
    try:
        contents = msgspec.json.decode(file.read_bytes(), type=Contents)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
    except msgspec.DecodeError as error:
        raise InputError(f"{file}: is not an instances file of COCO: {error}") from error
    check(file, contents, classes)
    check_files(file, folder, contents.images)
    photos = {photo.id: photo for photo in contents.images}
    objects: dict[int, list[Annotation]] = {}
    left_out: Counter[str] = Counter()
    for each in contents.annotations:
        why = useless(each, photos[each.image_id]) if training else ""
        if why:
            left_out[why] += 1
        else:
            objects.setdefault(each.image_id, []).append(each)
    used = []
    for photo in contents.images:
        why = useless_image(photo, photo.id in objects) if training else ""
        if why:
            left_out[why] += 1
        else:
            used.append(photo)
    kept = {image: tuple(those) for image, those in objects.items()}
    return Instances(file, folder, contents, tuple(used), kept, dict(left_out))


def check(file: Path, contents: Contents, classes: int) -> None:
    """Raise InputError for the first thing that contradicts another."""
    if len(contents.categories) != classes:
        raise InputError(f"{file}: has {len(contents.categories)} categories where the task has {classes}")
    photos = {photo.id: photo for photo in contents.images}
    categories = {category.id for category in contents.categories}
    ids: dict[str, Sequence[Photo | Category | Annotation]] = {
        "image": contents.images,
        "category": contents.categories,
        "annotation": contents.annotations,
    }
    for kind, things in ids.items():
        for twice, times in Counter(thing.id for thing in things).items():
            if times > 1:
                raise InputError(f"{file}: the id {twice} stands for more than one {kind}")
    for each in contents.annotations:
        where = f"{file}: annotation {each.id}"
        if each.id < 1:
            raise InputError(f"{where}: ids start at 1, since evaluation takes 0 for no object at all")
        if each.image_id not in photos:
            raise InputError(f"{where}: is of image {each.image_id}, which is not in the list of images")
        if each.category_id not in categories:
            known = ", ".join(map(str, sorted(categories)))
            raise InputError(f"{where}: is of category {each.category_id}; the categories are {known}")
        if isinstance(each.segmentation, Outline):
            check_outline(where, each.segmentation, photos[each.image_id])


def check_outline(where: str, outline: Outline, photo: Photo) -> None:
    """Raise InputError for a run-length code that is not one of this image."""
    height, width = outline.size
    if (height, width) != (photo.height, photo.width):
        raise InputError(
            f"{where}: its run-length code is for {width} x {height} pixels, but image {photo.id} has "
            f"{photo.width} x {photo.height}"
        )
    if isinstance(outline.counts, list):
        if min(outline.counts, default=0) < 0 or sum(outline.counts) != height * width:
            raise InputError(f"{where}: the runs of its code cover {sum(outline.counts)} of {height * width} pixels")
        return
    try:
        rle.decode({"size": [height, width], "counts": outline.counts.encode()})
    except ValueError as error:
        raise InputError(f"{where}: its run-length code does not fit: {error}") from error


def check_files(file: Path, folder: Path, photos: list[Photo]) -> None:
    """Raise InputError, naming the first, if images are not there. One look at the folder, not one per image."""
    try:
        there = {entry.name for entry in os.scandir(folder)}
    except OSError as error:
        raise InputError(f"{folder}: the images of {file.name} belong here ({error.strerror or error})") from error
    for photo in photos:
        if Path(photo.file_name).name != photo.file_name:
            raise InputError(f"{file}: image {photo.id}: '{photo.file_name}' is not a plain file name")
    missing = [photo for photo in photos if photo.file_name not in there]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of the {len(photos)} images in {file.name} are missing; the first is "
            f"{missing[0].file_name} (image {missing[0].id})"
        )


def useless(each: Annotation, photo: Photo) -> str:
    """Why an object is of no use to training, or nothing."""
    left, top, width, height = each.bbox
    if each.iscrowd:
        return "crowds"
    if width < 1 or height < 1 or each.area <= 0:
        return "objects without area"
    if min(left + width, photo.width) <= max(left, 0) or min(top + height, photo.height) <= max(top, 0):
        return "objects outside of their image"
    if not isinstance(each.segmentation, Outline) and not polygons(each.segmentation):
        return "objects without an outline"
    return ""


def useless_image(photo: Photo, has_objects: bool) -> str:
    """Why an image is of no use to training, or nothing."""
    if not has_objects:
        return "images without objects"
    return "images too small" if min(photo.width, photo.height) < SMALLEST else ""


def corners(each: Annotation, photo: Photo) -> list[float]:
    """Left, top, right and bottom of an object, within its image."""
    left, top, width, height = each.bbox
    return [max(left, 0.0), max(top, 0.0), min(left + width, photo.width), min(top + height, photo.height)]


def polygons(outline: list[list[float]]) -> list[list[float]]:
    """Those polygons that have three points or more; pycocotools would take four numbers for a box."""
    return [points for points in outline if len(points) >= 6 and len(points) % 2 == 0]


def encoded(each: Annotation, photo: Photo) -> dict[str, Any]:
    """The pixels of an object as pycocotools' compressed run-length code."""
    outline, height, width = each.segmentation, photo.height, photo.width
    if not isinstance(outline, Outline):
        parts = polygons(outline)
        if not parts:
            return rle.encode(np.zeros((height, width), dtype=np.uint8, order="F"))
        return rle.merge(rle.frPyObjects(parts, height, width))
    if isinstance(outline.counts, list):
        return rle.frPyObjects({"size": list(outline.size), "counts": outline.counts}, height, width)
    return {"size": list(outline.size), "counts": outline.counts.encode()}
