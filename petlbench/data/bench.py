"""How fast training images arrive: a DataLoader over PNG files against decoded arrays, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from petlbench.cached import Cache
from petlbench.folder import Images, Listing
from petlbench.framing import Framing

BATCH = 64


@dataclass(frozen=True)
class Rates:
    """Images per second, the median over the repeats of one process."""

    loader: float
    """A DataLoader that opens, decodes and resizes each PNG in each epoch."""
    first: float
    """petlbench in the first run: decodes every image, keeps it, and gives one epoch of batches."""
    second: float
    """petlbench in any later run: reads and checks what was kept, and gives one epoch of batches."""
    epoch: float
    """petlbench in any later epoch of a run: batches from memory."""


def compare(folder: Path, images: int, source: int, size: int, workers: int, repeats: int) -> Rates:
    """Write PNGs (source x source) into a folder, then read them all in each way in turn, `repeats` times over."""
    listing = write(folder, images, source)
    framing = Framing(size)
    cache = Cache(folder, "test", framing, listing.images, listing.labels)
    took: dict[str, list[float]] = {name: [] for name in ("loader", "first", "second", "epoch")}
    for _ in range(repeats):
        for path in (folder / "decoded").glob("*"):
            path.unlink()
        loader = DataLoader(_Files(listing, size), BATCH, shuffle=True, num_workers=workers)
        took["loader"].append(_seconds(lambda: _consume(batch for batch, _ in loader)))  # noqa: B023
        took["first"].append(_seconds(lambda: _consume(_batches(Images(listing, framing, cache).all()[0]))))
        took["second"].append(_seconds(lambda: _consume(_batches(Images(listing, framing, cache).all()[0]))))
        kept = Images(listing, framing, cache).all()[0]
        took["epoch"].append(_seconds(lambda: _consume(_batches(kept))))  # noqa: B023
    return Rates(**{name: images / statistics.median(seconds) for name, seconds in took.items()})


def write(folder: Path, images: int, size: int) -> Listing:
    """Smooth random pictures with some noise, which PNG packs about as well as it packs photographs."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(images):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.int16)
        pixels = (smooth + rng.integers(-8, 9, smooth.shape)).clip(0, 255).astype(np.uint8)
        files.append(folder / f"{number:06d}.png")
        Image.fromarray(pixels).save(files[-1])
    return Listing(folder, tuple(files), tuple(number % 10 for number in range(images)))


class _Files(Dataset[tuple[Tensor, int]]):
    """What a training script has: one file opened, decoded and resized per item."""

    def __init__(self, listing: Listing, size: int) -> None:
        self.listing, self.size = listing, size

    def __len__(self) -> int:
        return len(self.listing)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.listing.images[index]) as file:
            image = file.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), self.listing.labels[index]


def _batches(images: Tensor) -> Iterable[Tensor]:
    return (images[index] for index in torch.randperm(len(images)).split(BATCH))


def _consume(batches: Iterable[Tensor]) -> None:
    """Take the batches, shuffled uint8 images on both sides; normalising them costs either side the same."""
    for _ in batches:
        pass


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
