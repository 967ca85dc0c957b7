"""Images on disk in the layout of VTAB-1K: list files of paths and labels, beside the images they name.

    TASK/train800.txt  val200.txt  train800val200.txt  test.txt       "images/test/000000.png 3", one image a line
    TASK/images/...

The layout is the one that NOAH's export made the field's standard. This module reads it, whoever wrote it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from petlbench.errors import InputError
from petlbench.files import write

SPLITS = ("train800", "val200", "train800val200", "test")
FINGERPRINT = "fingerprint.json"
CHUNK = 256
"""Images that are decoded at a time."""


@dataclass(frozen=True)
class Listing:
    """The images of a split and their labels, as a list file names them."""

    file: Path
    images: tuple[Path, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.images)


def read_list(folder: Path, split: str, classes: int) -> Listing:
    """Read and check the list file of a split.

    Raises InputError, with file and line, for a list that is missing or empty, a line that is not "path label", a path
    that leaves the folder or does not exist, and a label outside 0..classes-1.
    """
    file = folder / f"{split}.txt"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise InputError(
            f"{file}: no such list; a task's folder holds {', '.join(f'{s}.txt' for s in SPLITS)}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as a list: {error}") from error
    rows = [_row(folder, f"{file}:{number}", line, classes) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise InputError(f"{file}: the list is empty")
    images, labels = zip(*rows, strict=True)
    return Listing(file, images, labels)


def _row(folder: Path, where: str, line: str, classes: int) -> tuple[Path, int]:
    name, _, label = line.strip().rpartition(" ")
    if not name or not label.lstrip("-").isdigit():
        raise InputError(f"{where}: expected 'path label', found '{line[:80]}'")
    if not 0 <= int(label) < classes:
        raise InputError(f"{where}: label {label} is outside 0..{classes - 1}")
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise InputError(f"{where}: {name} leaves the folder of the task")
    if not (folder / relative).is_file():
        raise InputError(f"{where}: names {name}, which does not exist")
    return folder / relative, int(label)


class Images:
    """A split as tensors: images (B, 3, size, size) uint8 and labels (B,) int64.

    Images of another size are squashed to size x size, bicubic, as VTAB prescribes. While it decodes, it takes the
    digest of every image it has seen, so a run can tell whether the pixels were those it was planned for.
    """

    def __init__(self, listing: Listing, size: int) -> None:
        self.listing = listing
        self.size = size
        self.labels = torch.tensor(listing.labels)
        self._digests: list[bytes | None] = [None] * len(listing)

    def __len__(self) -> int:
        return len(self.listing)

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Decode in the order of the list, `CHUNK` images at a time."""
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(self), CHUNK):
                index = range(start, min(start + CHUNK, len(self)))
                decoded = list(pool.map(lambda i: _decode(self.listing.images[i], self.size), index))
                for i, (digest, _) in zip(index, decoded, strict=True):
                    self._digests[i] = digest
                pixels = torch.from_numpy(np.stack([pixels for _, pixels in decoded]))
                yield pixels.permute(0, 3, 1, 2).contiguous(), self.labels[start : start + len(decoded)]

    def all(self) -> tuple[Tensor, Tensor]:
        """The whole split at once."""
        images, labels = zip(*self.chunks(), strict=True)
        return torch.cat(images), torch.cat(labels)

    def digest(self) -> str:
        """SHA-256 over labels and pixels, before any resizing, in the order of the list."""
        total = hashlib.sha256()
        for label, digest in zip(self.listing.labels, self._digests, strict=True):
            assert digest is not None, "the digest is known once every image has been decoded"
            total.update(f"{label}:".encode() + digest)
        return total.hexdigest()


def _decode(path: Path, size: int) -> tuple[bytes, np.ndarray]:
    """Digest of the pixels, and the pixels (size, size, 3) uint8. Raises InputError that names an unreadable file."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")  # reads the pixels, so a truncated file raises here
            digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).digest()
            if image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BICUBIC)
            return digest, np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        raise InputError(f"{path}: not a readable image: {error}") from error


def fingerprint(folder: Path, classes: int, progress: Callable[[str], None] = lambda text: None) -> str:
    """Identity of the data a run trains and is scored on: a SHA-256 over the digests of both splits.

    It is computed once and kept next to the data; a run checks what it decodes against it.
    """
    return combine(digests(folder, classes, progress))


def combine(digests: dict[str, str]) -> str:
    """One fingerprint from the digests of the splits."""
    return hashlib.sha256("".join(f"{split}:{digests[split]};" for split in sorted(digests)).encode()).hexdigest()


def digests(folder: Path, classes: int, progress: Callable[[str], None] = lambda text: None) -> dict[str, str]:
    """Digest of the training and the test split, read from beside the data or computed and kept there."""
    kept = folder / FINGERPRINT
    known = _known(kept)
    if known is not None:
        return known
    progress(f"taking the fingerprint of {folder.name}")
    found = {split: _digest(read_list(folder, split, classes)) for split in ("train800val200", "test")}
    try:
        write(kept, json.dumps(found, indent=1).encode())
    except OSError:
        progress(f"{folder} cannot be written, so its fingerprint is taken anew each time")
    return found


def _known(file: Path) -> dict[str, str] | None:
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error}); delete it and it is made anew") from error
    if not isinstance(found, dict) or set(found) != {"train800val200", "test"}:
        raise InputError(f"{file}: is no fingerprint of petlbench; delete it and it is made anew")
    return {split: str(digest) for split, digest in found.items()}


def _digest(listing: Listing) -> str:
    images = Images(listing, size=1)
    for _ in images.chunks():
        pass
    return images.digest()


def locate(root: Path, names: Iterable[str]) -> Path | None:
    """The first of these folders that exists below the root."""
    return next((root / name for name in names if (root / name).is_dir()), None)
