"""Writes whole suites as tiny random JPEG images, in the layouts in which they go around."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from petlbench import Task, zoo


def vtab(root: Path, train: int = 1000, test: int = 30, tasks: Iterable[str] = (), suffix: str = "jpg") -> Path:
    """VTAB-1K as NOAH's data maker leaves it: four lists per task, and the training images once more as copies.

    The class counts are the real ones; with `train=1000` so are the training splits, while the test splits are short.
    """
    for task in _tasks("vtab", tasks):
        folder = root / (task.folders[0] if task.folders else task.name)
        rng = np.random.default_rng(len(task.name) + task.classes)
        val = train // 5
        first, second = _images(rng, task, train - val), _images(rng, task, val)
        splits = {"train800": first, "val200": second, "train800val200": first + second}
        for split, images in {**splits, "test": _images(rng, task, test)}.items():
            (folder / "images" / split).mkdir(parents=True)
            lines = []
            for number, (content, label) in enumerate(images):
                name = f"images/{split}/{number:06d}.{suffix}"
                (folder / name).write_bytes(content)
                lines.append(f"{name} {label}\n")
            (folder / f"{split}.txt").write_text("".join(lines))
    return root


PLACES = {"cub": "images", "nabirds": "images", "flowers": "jpg", "dogs": "Images", "cars": ""}
"""Where the original data sets keep their images."""


def fgvc(root: Path, scale: float = 1.0, tasks: Iterable[str] = ()) -> Path:
    """The five data sets with VPT's JSON lists, every split cut to `scale`, but one image per class at least.

    The lists of flowers and cars are relative to the folder of the task, the others to that of the images. Classes are
    numbers from 1, those of nabirds names with gaps, as theirs are.
    """
    for task in _tasks("fgvc", tasks):
        folder = root / (task.folders[0] if task.folders else task.name)
        rng = np.random.default_rng(task.classes)
        place = PLACES[task.name]
        for split, size in {"train": task.train - task.val, "val": task.val, "test": task.test}.items():
            entries = {}
            for number, (content, label) in enumerate(_images(rng, task, max(task.classes, round(scale * size)))):
                name = f"{label + 1:03d}/{split}_{number:06d}.jpg"
                path = folder / place / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                key = f"{place}/{name}" if task.name == "flowers" else name
                entries[key] = f"{2 * label:04d}" if task.name == "nabirds" else label + 1
            (folder / f"{split}.json").write_text(json.dumps(entries))
    return root


def image_folder(folder: Path, sizes: dict[str, int], classes: int = 3) -> Path:
    """One folder per class below each split; `sizes` are images per class."""
    rng = np.random.default_rng(0)
    for split, size in sizes.items():
        for label in range(classes):
            place = folder / split / f"class {label}"
            place.mkdir(parents=True)
            for number in range(size):
                (place / f"{number}.png").write_bytes(_image(rng, label, "PNG"))
    return folder


def cifar(folder: Path, train: int = 50_000, test: int = 10_000) -> Path:
    """CIFAR-100's binary version, of noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("train", train), ("test", test)):
        records = rng.integers(0, 256, (size, 3074), dtype=np.uint8)
        records[:, 1] = np.arange(size) % 100
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def _tasks(suite: str, names: Iterable[str]) -> list[Task]:
    found = zoo.suite(suite)()
    return [found.task(name) for name in names] or list(found.tasks)


def _images(rng: np.random.Generator, task: Task, count: int) -> list[tuple[bytes, int]]:
    """Images and labels; every class as often as any other, in a random order."""
    labels = rng.permutation(np.arange(count) % task.classes)
    return [(_image(rng, int(label), "JPEG"), int(label)) for label in labels]


def _image(rng: np.random.Generator, label: int, form: str) -> bytes:
    """A small noisy image whose colour tells the class, so that there is something to learn."""
    colour = np.array([label * 37 % 256, label * 91 % 256, label * 151 % 256])
    pixels = (colour + rng.integers(-40, 40, (8, 8, 3))).clip(0, 255)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, form)
    return file.getvalue()
