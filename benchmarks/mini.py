"""The embedded suite: small tasks in VTAB's three groups, drawn from a seed, so that a comparison needs no download."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import platformdirs
from numpy.random import Generator
from PIL import Image

from petlbench.classification import Classification
from petlbench.drawing import aerial, leaf, medical, natural, specialized, structured, surfaces
from petlbench.drawing.canvas import Labels, Pixels, generator
from petlbench.errors import InputError
from petlbench.suite import Task

VERSION = 2
"""Rises with every change to a picture; results of different versions cannot be compared."""
SIZES = {"train800": 800, "val200": 200, "test": 1000}
"""Images of each split, balanced over the classes; the test split of `digits` is what the real images leave."""


class Mini(Classification):
    """Eleven tasks of 1,000 images to train on, 64 x 64: generated, but for the handwriting in `digits`."""

    tasks = (
        Task(
            name="digits",
            group="natural",
            classes=10,
            test=797,
            note="Real handwritten digits of scikit-learn, set as coloured house numbers with cut neighbours.",
        ),
        Task(
            name="materials",
            group="natural",
            classes=len(surfaces.SURFACES),
            test=1000,
            note="Generated: surfaces close up, of any colour and in any light, such as wood, wool and marble.",
        ),
        Task(
            name="leaves",
            group="natural",
            classes=len(leaf.LEAVES),
            test=1000,
            note="Generated: a leaf of oak, maple, willow, linden, fern, clover, holly or ginkgo.",
        ),
        Task(
            name="fields",
            group="specialized",
            classes=len(aerial.LAND),
            test=1000,
            note="Generated: land use from a satellite, such as orchard, river, houses and harbour.",
        ),
        Task(
            name="cells",
            group="specialized",
            classes=len(medical.STATES),
            test=1000,
            note="Generated: stained tissue whose cells are normal, dividing, inflamed, dying and so on.",
        ),
        Task(
            name="retina",
            group="specialized",
            classes=len(medical.LESIONS),
            test=1000,
            note="Generated: the back of an eye in five grades of a disease.",
        ),
        Task(
            name="count",
            group="structured",
            classes=structured.MOST,
            test=1000,
            note="Generated: one to six shaded solids on a table; how many?",
        ),
        Task(
            name="location",
            group="structured",
            classes=structured.BINS,
            test=1000,
            note="Generated: a hot-air balloon in the sky; where from left to right, in 16 steps?",
        ),
        Task(
            name="orientation",
            group="structured",
            classes=structured.BINS,
            test=1000,
            note="Generated: an aeroplane from above; where does it head, in 16 steps of the circle?",
        ),
        Task(
            name="distance",
            group="structured",
            classes=len(structured.DEPTHS) - 1,
            test=1000,
            note="Generated: a street with lorries and crates; how far is the nearest, in 5 steps?",
        ),
        Task(
            name="azimuth",
            group="structured",
            classes=structured.VIEWS,
            test=1000,
            note="Generated: a lorry or a chair; how is it turned, in 12 steps of the circle?",
        ),
    )

    def is_ready(self, task: Task, root: Path | None) -> bool:
        return root is not None or cached(task).is_dir()

    def prepare(self, task: Task, root: Path | None) -> Path:
        """The folder of the task below the root, or in the user's cache, where it is drawn when it is missing.

        PETLBENCH_CACHE names another place for the cache.
        """
        if root is not None:
            return super().prepare(task, root)
        folder = cached(task)
        if not folder.is_dir():
            try:
                write(task, folder)
            except OSError as error:
                raise InputError(
                    f"{folder}: cannot be written ({error.strerror or error}); PETLBENCH_CACHE=DIR names another place"
                ) from error
        return folder


def cached(task: Task) -> Path:
    """Where the pictures of a task are kept."""
    cache = Path(os.environ.get("PETLBENCH_CACHE") or platformdirs.user_cache_path("petlbench"))
    return cache / f"mini-v{VERSION}" / task.name


DRAWINGS: dict[str, Callable[[Generator, Labels], Pixels]] = {
    drawing.__name__: drawing
    for drawing in (
        natural.materials,
        natural.leaves,
        specialized.fields,
        specialized.cells,
        specialized.retina,
        structured.count,
        structured.location,
        structured.orientation,
        structured.distance,
        structured.azimuth,
    )
}
"""Draws one picture (N, 64, 64, 3) per label, for each task but `digits`."""


def write(task: Task, folder: Path) -> None:
    """Draw a task into a folder, which appears whole or not at all; whoever comes second uses what is there."""
    part = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        lists = {split: list(_saved(part, split, images, labels)) for split, images, labels in draw(task)}
        lists["train800val200"] = lists["train800"] + lists["val200"]
        for split, lines in lists.items():
            (part / f"{split}.txt").write_text("".join(lines), encoding="utf-8", newline="\n")
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def draw(task: Task) -> Iterator[tuple[str, Pixels, Labels]]:
    """The splits of a task as (name, images (N, 64, 64, 3), labels (N,)); each has random numbers of its own."""
    sizes = {**SIZES, "test": task.test}
    if task.name == "digits":
        known = natural.handwriting()[1]
        for split, sources in deal(known, sizes).items():
            yield split, natural.digits(generator(VERSION, task.name, split), sources), known[sources]
        return
    for split, size in sizes.items():
        rng = generator(VERSION, task.name, split)
        labels = rng.permutation(np.arange(size) % task.classes)
        yield split, DRAWINGS[task.name](rng, labels), labels


def deal(known: Labels, sizes: dict[str, int]) -> dict[str, Labels]:
    """Deal the real images out to the splits, none to two: equally many per class, and what is left for the test."""
    rng = generator(VERSION, "handwriting")
    dealt: dict[str, list[Labels]] = {split: [] for split in sizes}
    for digit in range(10):
        places = rng.permutation(np.flatnonzero(known == digit))
        ends = np.cumsum([size // 10 for split, size in sizes.items() if split != "test"])
        for split, share in zip(sizes, np.split(places, ends), strict=True):
            dealt[split].append(share)
    return {split: rng.permutation(np.concatenate(shares)) for split, shares in dealt.items()}


def _saved(folder: Path, split: str, images: Pixels, labels: Labels) -> Iterator[str]:
    """Write images without loss, and yield the lines of their list."""
    (folder / "images" / split).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = f"images/{split}/{number:06d}.png"
        Image.fromarray(image).save(folder / name, compress_level=1)
        yield f"{name} {label}\n"
