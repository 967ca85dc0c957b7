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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
from faster_coco_eval import mask as rle
from PIL import Image

from petlbench.dense.head import Target
from petlbench.errors import InputError
from petlbench.folder import Refuse, strict

SMALLEST = 32
"""Pixels that an image has at least in both directions to be trained on."""
NAMED = 5
"""Ids that a remark names."""


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

    def path(self, index: int) -> Path:
        """The file of an image."""
        return self.folder / self.photos[index].file_name

    def image(self, index: int) -> Image.Image:
        """An image as RGB, whatever its file holds (COCO has grey ones).

        Raises InputError for a file that is missing, cut short or of another size than the annotations say.
        """
        photo = self.photos[index]
        path = self.path(index)
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


def read(file: Path, folder: Path, classes: int, *, training: bool, refuse: Refuse = strict) -> Instances:
    """Read and check an annotation file and the names of the images in `folder`.

    Raises InputError for a file that is missing or not in COCO's format. Raises it as well for another number of
    categories than `classes`, an id used twice, an annotation of an unknown category or image, a run-length code that
    does not fit its image, and images that are missing, unless `refuse` does otherwise: then these are left out.
    """
    try:
        contents = msgspec.json.decode(file.read_bytes(), type=Contents)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
    except msgspec.DecodeError as error:
        raise InputError(f"{file}: is not an instances file of COCO: {error}") from error
    contents = checked(file, contents, classes, refuse)
    contents = msgspec.structs.replace(contents, images=present(file, folder, contents.images, refuse))
    photos = {photo.id: photo for photo in contents.images}
    objects: dict[int, list[Annotation]] = {}
    left_out: Counter[str] = Counter()
    for each in contents.annotations:
        if each.image_id not in photos:  # one that is missing
            continue
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


def checked(file: Path, contents: Contents, classes: int, refuse: Refuse = strict) -> Contents:
    """What is left once everything that contradicts something before it is refused."""
    if len(contents.categories) != classes:
        refuse(InputError(f"{file}: has {len(contents.categories)} categories where the task has {classes}"))
    images = _once(file, "image", contents.images, refuse)
    photos = {photo.id: photo for photo in images}
    categories = {each.id: each for each in _once(file, "category", contents.categories, refuse)}
    annotations = []
    for each in _once(file, "annotation", contents.annotations, refuse):
        try:
            check(f"{file}: annotation {each.id}", each, photos, categories)
            annotations.append(each)
        except InputError as error:
            refuse(error)
    return Contents(images, annotations, list(categories.values()))


Thing = TypeVar("Thing", Photo, Category, Annotation)


def _once(file: Path, kind: str, things: Sequence[Thing], refuse: Refuse) -> list[Thing]:
    """The first of each id."""
    found: dict[int, Thing] = {}
    twice = set()
    for thing in things:
        if thing.id in found and thing.id not in twice:
            twice.add(thing.id)
            refuse(InputError(f"{file}: the id {thing.id} stands for more than one {kind}"))
        found.setdefault(thing.id, thing)
    return list(found.values())


def check(where: str, each: Annotation, photos: Mapping[int, Photo], categories: Mapping[int, Category]) -> None:
    """Raise InputError for an annotation that contradicts the rest of its file."""
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


def present(file: Path, folder: Path, photos: Sequence[Photo], refuse: Refuse = strict) -> list[Photo]:
    """The images that are there; if some are not, their number and the first are refused. One look at the folder, not
    one per image."""
    try:
        there = {entry.name for entry in os.scandir(folder)}
    except OSError as error:
        raise InputError(f"{folder}: the images of {file.name} belong here ({error.strerror or error})") from error
    plain = []
    for photo in photos:
        if Path(photo.file_name).name == photo.file_name:
            plain.append(photo)
        else:
            refuse(InputError(f"{file}: image {photo.id}: '{photo.file_name}' is not a plain file name"))
    missing = [photo for photo in plain if photo.file_name not in there]
    if missing:
        first = InputError(
            f"{folder}: {len(missing)} of the {len(photos)} images in {file.name} are missing; the first is "
            f"{missing[0].file_name} (image {missing[0].id})"
        )
        refuse(first)
    return [photo for photo in plain if photo.file_name in there]


def remarks(split: Instances) -> Iterator[str]:
    """What training leaves out and what it cuts, a line for each reason with the first ids."""
    photos = {photo.id: photo for photo in split.contents.images}
    found: dict[tuple[str, str, str], list[int]] = {}
    useful = set()
    for each in split.contents.annotations:
        if each.image_id not in photos:
            continue
        photo, (left, top, width, height) = photos[each.image_id], each.bbox
        if why := useless(each, photo):
            found.setdefault((why, "annotations", "of no use to training"), []).append(each.id)
            continue
        useful.add(each.image_id)
        if min(left, top, photo.width - left - width, photo.height - top - height) < -1:
            found.setdefault(("boxes reach out of their image", "annotations", "cut at its border"), []).append(each.id)
    for photo in split.contents.images:
        if why := useless_image(photo, photo.id in useful):
            found.setdefault((why, "images", "of no use to training"), []).append(photo.id)
    for (what, kind, then), ids in found.items():
        first = ", ".join(map(str, ids[:NAMED])) + (", ..." if len(ids) > NAMED else "")
        yield f"{split.file.name}: {len(ids):,} {what} ({kind} {first}); {then}"


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
