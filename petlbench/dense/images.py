"""Images of any size with their truth: read from disk as they are needed, in an order that only the seed decides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from petlbench.cached import home
from petlbench.dense.head import Target
from petlbench.files import write

Size = tuple[int, int]
"""Height and width in pixels."""
MULTIPLE = 32
"""Height and width of what the networks see are multiples of this, the coarsest stride of a pyramid."""
IGNORED = 255
"""Label of pixels that are neither trained on nor scored."""
AHEAD = 3
"""Batches that are read ahead of the one in use."""

Item = TypeVar("Item")
Made = TypeVar("Made")


class Source(Protocol):
    """A split on disk. An image or truth that cannot be used raises InputError when it is asked for."""

    def __len__(self) -> int: ...

    def path(self, index: int) -> Path:
        """The file of an image."""

    def image(self, index: int) -> Image.Image:
        """As RGB, in its own size."""

    def target(self, index: int) -> Target:
        """The truth in pixels of the image: "boxes", "labels" and "masks" (N, H, W), or "map" (H, W)."""

    def files(self) -> Sequence[Path]:
        """Every file that the split is made of: images and truth."""


class Part:
    """Some of the images of a source."""

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.source, self.indices = source, indices

    def __len__(self) -> int:
        return len(self.indices)

    def path(self, index: int) -> Path:
        return self.source.path(self.indices[index])

    def image(self, index: int) -> Image.Image:
        return self.source.image(self.indices[index])

    def target(self, index: int) -> Target:
        return self.source.target(self.indices[index])

    def files(self) -> Sequence[Path]:
        return self.source.files()


class Batch(NamedTuple):
    """What the networks are trained on in one step."""

    images: Tensor
    """(B, 3, H, W), normalised, and zeros where an image is smaller than the largest."""
    targets: list[Target]
    """In pixels of `images`, with "size", the height and width of the image without what was added."""


class Examples:
    """A split of a dense task; images are read one by one."""

    def __init__(self, source: Source, folder: Path, split: str) -> None:
        self.source = source
        self.folder = folder
        self.split = split

    def __len__(self) -> int:
        return len(self.source)

    def digest(self) -> str:
        """SHA-256 over the names and bytes of all files. It is kept in the user's cache under the names, lengths and
        times of change of these files, so that gigabytes are read once and a file that was replaced is noticed.

        Every image and truth is looked at then: what cannot be used raises InputError before anything is trained.
        """
        files = sorted(self.source.files())
        facts = hashlib.sha256(str(self.folder.resolve()).encode())
        for file in files:
            stat = file.stat()
            facts.update(f"{file}\n{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}\n".encode())
        kept = home() / "digests" / f"{facts.hexdigest()[:24]}.json"
        try:
            return str(json.loads(kept.read_text())["digest"])
        except (OSError, ValueError, KeyError, TypeError):
            found = hashlib.sha256()
            with ThreadPoolExecutor(8) as pool:
                for _ in pool.map(self._check, range(len(self))):
                    pass
                for file, each in zip(files, pool.map(_file_digest, files), strict=True):
                    found.update(f"{file.name}:{each};".encode())
        with suppress(OSError):  # without a cache it is computed anew each time
            write(kept, json.dumps({"digest": found.hexdigest()}).encode())
        return found.hexdigest()

    def _check(self, index: int) -> None:
        self.source.image(index)
        self.source.target(index)


def _file_digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def order(size: int, seed: Sequence[int], start: int = 0) -> Iterator[int]:
    """Places of an endless row of permutations of `size` images, from the place `start` on.

    Each epoch's permutation depends on the seed and its number alone, so that training can go on from any step.
    """
    for epoch in range(start // size, 2**62):
        permutation = np.random.default_rng([*seed, epoch]).permutation(size)
        yield from permutation[start % size if epoch == start // size else 0 :].tolist()


def ahead(make: Callable[[Item], Made], items: Iterable[Item], workers: int) -> Iterator[Made]:
    """make(item) for each item, in their order, by threads that work `AHEAD` items ahead; none of them with 0."""
    if workers == 0:
        yield from map(make, items)
        return
    rest = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[Made]] = [pool.submit(make, item) for item in islice(rest, AHEAD * workers)]
        try:
            while waiting:
                made = waiting.pop(0).result()
                waiting += [pool.submit(make, item) for item in islice(rest, 1)]
                yield made
        finally:
            for each in waiting:
                each.cancel()


def resized(image: Image.Image, target: Target, size: Size) -> tuple[Image.Image, Target]:
    """Image and truth in another size: pixels bilinear with antialiasing, labels and masks nearest."""
    height, width = size
    if image.size == (width, height):
        return image, target
    factors = torch.tensor([width / image.width, height / image.height]).repeat(2)
    made = dict(target)
    if "boxes" in target:
        made["boxes"] = target["boxes"] * factors
    for name in ("masks", "map"):
        if name in target:
            plane = target[name] if target[name].ndim == 3 else target[name][None]
            wanted = torch.empty(0, height, width, dtype=plane.dtype)
            if len(plane):
                wanted = interpolate(plane[None].float(), size, mode="nearest-exact")[0].to(plane.dtype)
            made[name] = wanted if target[name].ndim == 3 else wanted[0]
    return image.resize((width, height), Image.Resampling.BILINEAR), made


def mirrored(image: Image.Image, target: Target) -> tuple[Image.Image, Target]:
    """Image and truth, left to right."""
    made = dict(target)
    if "boxes" in target:
        left, top, right, bottom = target["boxes"].unbind(1)
        made["boxes"] = torch.stack([image.width - right, top, image.width - left, bottom], 1)
    for name in ("masks", "map"):
        if name in target:
            made[name] = target[name].flip(-1)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), made


def cropped(image: Image.Image, target: Target, top: int, left: int, size: Size) -> tuple[Image.Image, Target]:
    """A window of an image and its label map."""
    height, width = size
    made = dict(target) | {"map": target["map"][top : top + height, left : left + width]}
    return image.crop((left, top, left + width, top + height)), made


def fitted(size: Size, shorter: int, longer: int) -> Size:
    """Height and width with the same shape whose sides are as large as possible within these limits."""
    factor = min(shorter / min(size), longer / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def pixels(image: Image.Image) -> Tensor:
    """(3, H, W) uint8."""
    return torch.from_numpy(np.asarray(image.convert("RGB")).transpose(2, 0, 1).copy())


def stacked(images: Sequence[Tensor], normalize: Callable[[Tensor], Tensor]) -> Tensor:
    """Images (3, H, W) uint8 of any sizes as one batch; zeros at the right and the bottom, added behind normalisation,
    bring them to the next common multiple of 32."""
    height, width = (
        -(-max(side) // MULTIPLE) * MULTIPLE for side in zip(*(each.shape[1:] for each in images), strict=True)
    )
    return torch.stack([pad(normalize(each), (0, width - each.shape[2], 0, height - each.shape[1])) for each in images])


def collated(parts: Sequence[tuple[Tensor, Target]], normalize: Callable[[Tensor], Tensor]) -> Batch:
    """One batch of images and targets of any sizes."""
    images = stacked([image for image, _ in parts], normalize)
    targets: list[Target] = []
    for image, target in parts:
        right, bottom = images.shape[3] - image.shape[2], images.shape[2] - image.shape[1]
        made = dict(target) | {"size": (image.shape[1], image.shape[2])}
        for name, value in (("masks", 0), ("map", IGNORED)):
            if name in made:
                made[name] = pad(made[name], (0, right, 0, bottom), value=value)
        targets.append(made)
    return Batch(images, targets)


def moved(batch: Batch, device: str) -> Batch:
    """The batch on a device."""
    if device == "cpu":
        return batch
    targets = [
        {name: value.to(device) if isinstance(value, Tensor) else value for name, value in target.items()}
        for target in batch.targets
    ]
    return Batch(batch.images.to(device, non_blocking=True), targets)
