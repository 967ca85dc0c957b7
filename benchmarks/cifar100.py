"""CIFAR-100 with all its 50,000 training images, from the binary version or from one folder per class."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from petlbench.classification import Classification
from petlbench.errors import InputError
from petlbench.folder import Listing, Refuse, strict
from petlbench.suite import Task

RECORD = 2 + 3 * 32 * 32
"""Bytes of one image: coarse label, fine label, then the red, green and blue planes row by row."""
TRAIN = 45_000
"""Images to choose hyper-parameters with: the first nine tenths, as task_adaptation cuts the set. The rest is val."""


class CIFAR100(Classification):
    """Reads train.bin and test.bin. The Python version is pickled, and unpickling a download would run its code."""

    source = (
        "fetch the binary version (cifar-100-binary.tar.gz) from the CIFAR page of Alex Krizhevsky (University of "
        "Toronto) and unpack it so that DIR/cifar-100-binary/train.bin exists"
    )
    tasks = (
        Task(
            name="cifar100",
            group="natural",
            classes=100,
            train=50_000,
            val=5_000,
            test=10_000,
            folders=("cifar-100-binary", "CIFAR100"),
            note="objects, 32 x 32",
        ),
    )

    def listing(self, task: Task, split: str, data: Path, refuse: Refuse = strict) -> Listing:
        if not (data / "test.bin").is_file():
            return super().listing(task, split, data, refuse)
        file = data / ("test.bin" if split == "test" else "train.bin")
        try:
            return _read(file, split)
        except InputError as error:
            refuse(error)
            return Listing(file, (), ())


@dataclass(frozen=True)
class Packed(Listing):
    """Images that lie in one file."""

    records: np.ndarray = field(compare=False)
    """(N, 3074) uint8, mapped from the file."""
    first: int = 0
    """Place of the first of them in the file."""

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self.records[index, 2:].reshape(3, 32, 32).transpose(1, 2, 0))

    def item(self, index: int) -> tuple[Path, int]:
        return self.file, self.first + index


def _read(file: Path, split: str) -> Packed:
    try:
        length = file.stat().st_size
    except OSError as error:
        raise InputError(f"{file}: no such file; the folder holds train.bin and test.bin") from error
    if length == 0 or length % RECORD:
        raise InputError(
            f"{file}: {length:,} bytes are no multiple of {RECORD:,}, so it is not CIFAR-100's binary version"
        )
    part = {"train800": slice(0, TRAIN), "val200": slice(TRAIN, None)}.get(split, slice(None))
    records = np.memmap(file, np.uint8, "r").reshape(-1, RECORD)[part]
    if len(records) and records[:, 1].max() > 99:
        raise InputError(f"{file}: label {records[:, 1].max()} is outside 0..99")
    return Packed(file, (file,) * len(records), tuple(records[:, 1].tolist()), records, part.start or 0)
