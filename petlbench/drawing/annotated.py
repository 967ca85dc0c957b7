"""Writes drawn streets as data sets in the layouts of the field: COCO 2017 for detection, ADE20K for segmentation."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray
from PIL import Image

from petlbench.cached import home
from petlbench.drawing import outdoors
from petlbench.drawing.canvas import generator
from petlbench.drawing.outdoors import CLASSES, OTHER, Picture
from petlbench.errors import InputError

VERSIONS = {"mini-coco": 3, "mini-ade20k": 1}
"""Rises with every change to a picture or annotation; results of different versions cannot be compared."""
VIEWS = {"mini-coco": outdoors.NEAR, "mini-ade20k": outdoors.FAR}
"""Detectors of a laptop find what is several patches large; segmenters name small things too."""
SIZES = {"train": 240, "val": 60}
"""Pictures of each split."""
CATEGORIES = {"ball": 1, "crate": 3, "barrel": 4, "cone": 9, "truck": 18, "chair": 44}
"""Category ids in the COCO files; as in COCO, they have gaps."""
QUALITY = 92
"""Of the JPEG files."""


def cached(name: str) -> Path:
    """Where the generated data set of this name ("mini-coco" or "mini-ade20k") is kept."""
    return home() / f"{name}-v{VERSIONS[name]}"


def make(name: str, folder: Path, sizes: dict[str, int] | None = None) -> None:
    """Write a data set into a folder that does not exist yet; it appears whole or not at all.

    Raises InputError where it cannot be written. Whoever comes second uses what is there.
    """
    part = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        part.mkdir(parents=True)
        WRITERS[name](part, sizes or SIZES)
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_coco(folder: Path, sizes: dict[str, int]) -> None:
    """annotations/instances_{train,val}2017.json and {train,val}2017/000000000009.jpg ..., as COCO 2017 has them."""
    (folder / "annotations").mkdir()
    version = VERSIONS["mini-coco"]
    for split, size in sizes.items():
        place = f"{split}2017"
        (folder / place).mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        ids = np.cumsum(generator(version, "ids", split).integers(1, 40, size)) + 8
        for image_id, picture in zip(ids.tolist(), pictures("mini-coco", split, size), strict=True):
            name = f"{image_id:012d}.jpg"
            Image.fromarray(picture.pixels).save(folder / place / name, quality=QUALITY)
            height, width = picture.classes.shape
            images.append({"id": image_id, "file_name": name, "height": height, "width": width, "license": 1})
            for found in objects(picture):
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, **found})
        content = {
            "info": {"description": "Streets drawn by petlbench", "version": str(version), "year": 2026},
            "licenses": [{"id": 1, "name": "Apache License 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}],
            "images": images,
            "annotations": annotations,
            "categories": [{"id": number, "name": name, "supercategory": "toy"} for name, number in CATEGORIES.items()],
        }
        text = json.dumps(content)
        (folder / "annotations" / f"instances_{place}.json").write_text(text, encoding="utf-8")


def objects(picture: Picture) -> Iterator[dict[str, Any]]:
    """The annotations of a picture: polygons, or a run-length code for a crowd. What hides another hides it here."""
    for number, kind in enumerate(picture.kinds, 1):
        mask = picture.instances == number
        if kind not in CATEGORIES or mask.sum() < 12:  # a speck behind something
            continue
        is_crowd = number in picture.crowds
        outlines = [] if is_crowd else polygons(mask)
        if not is_crowd and not outlines:
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y = int(columns[0]), int(rows[0])
        yield {
            "category_id": CATEGORIES[kind],
            "iscrowd": int(is_crowd),
            "area": float(mask.sum()),
            "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
            "segmentation": run_lengths(mask) if is_crowd else outlines,
        }


def polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Outlines [x, y, x, y, ...] around the parts of a mask; holes are filled, as COCO's annotators do."""
    padded = np.pad(mask.astype(np.float64), 1)
    found: Any = contour_generator(z=padded, fill_type=FillType.OuterOffset).filled(0.5, 2.0)
    points, offsets = found
    outers = [part[: ends[1]] - 0.5 for part, ends in zip(points, offsets, strict=True)]
    return [outer[:-1].round(2).ravel().tolist() for outer in outers if len(outer) > 5]


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's uncompressed run-length code: lengths of runs of 0 and 1 in turn, column by column, 0 first."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(mask.shape)}


def write_ade20k(folder: Path, sizes: dict[str, int]) -> None:
    """The layout of ADEChallengeData2016.zip: images, label maps (0 = other, 1..C), objectInfo150.txt and
    sceneCategories.txt."""
    top = folder / "ADEChallengeData2016"
    scenes: list[str] = []
    seen = {split: np.zeros(len(CLASSES)) for split in sizes}
    for split, size in sizes.items():
        place = {"train": "training", "val": "validation"}[split]
        for kind in ("images", "annotations"):
            (top / kind / place).mkdir(parents=True)
        for number, picture in enumerate(pictures("mini-ade20k", split, size), 1):
            name = f"ADE_{split}_{number:08d}"
            Image.fromarray(picture.pixels).save(top / "images" / place / f"{name}.jpg", quality=QUALITY)
            labels = np.where(picture.classes == OTHER, 0, picture.classes + 1).astype(np.uint8)
            Image.fromarray(labels).save(top / "annotations" / place / f"{name}.png")
            scenes.append(f"{name} street\n")
            seen[split] += np.bincount(labels.ravel(), minlength=len(CLASSES) + 1)[1:] > 0
    (top / "sceneCategories.txt").write_text("".join(scenes), encoding="utf-8")
    rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
    for k, name in enumerate(CLASSES):
        share = seen["train"][k] / max(1, sizes["train"])
        stuff = int(name in outdoors.STUFF)
        rows.append(f"{k + 1}\t{share:.4f}\t{int(seen['train'][k])}\t{int(seen['val'][k])}\t{stuff}\t{name}")
    (top / "objectInfo150.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")


WRITERS: dict[str, Callable[[Path, dict[str, int]], None]] = {"mini-coco": write_coco, "mini-ade20k": write_ade20k}
"""What `make` can write."""


def pictures(name: str, split: str, count: int) -> Iterator[Picture]:
    """The pictures of a split, one after the other; each has random numbers of its own, so any process may draw it."""
    cores = os.cpu_count() or 1
    if cores == 1 or count < 64:
        yield from (_picture((name, split, number)) for number in range(count))
        return
    with ProcessPoolExecutor(cores, mp_context=get_context("forkserver")) as pool:
        yield from pool.map(_picture, [(name, split, number) for number in range(count)], chunksize=8)


def _picture(which: tuple[str, str, int]) -> Picture:
    name, split, number = which
    rng = generator(VERSIONS[name], name.removeprefix("mini-"), split, number)
    return outdoors.picture(rng, VIEWS[name])
