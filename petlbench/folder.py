"""Images on disk in the layout of VTAB-1K: list files of paths and labels, beside the images they name.

    TASK/train800.txt  val200.txt  train800val200.txt  test.txt       "images/test/000000.png 3", one image a line
    TASK/images/...

The layout is the one that NOAH's export made the field's standard. This module reads it, whoever wrote it; other
layouts (JSON lists, one folder per class, packed files) become the same `Listing` in the suites that know them.
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

from petlbench.cached import Cache
from petlbench.errors import InputError
from petlbench.files import write
from petlbench.framing import Framing

BOTH = "train800val200"
SPLITS = ("train800", "val200", BOTH, "test")
FINGERPRINT = "fingerprint.json"
CHUNK = 256
"""Images that are decoded at a time."""


Refuse = Callable[[InputError], None]
"""What is done about a line that cannot be used: raise, or note it and go on."""


def strict(error: InputError) -> None:
    """Raise. What every reader does unless it is told otherwise."""
    raise error


@dataclass(frozen=True)
class Listing:
    """The images of a split and their labels, as a list file names them."""

    file: Path
    images: tuple[Path, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Image.Image:
        """An image, whose pixels are not read yet."""
        return Image.open(self.images[index])

    def item(self, index: int) -> tuple[Path, int]:
        """What tells an image from all others: its file, and its place in a file that holds many."""
        return self.images[index], 0


def read_list(folder: Path, split: str, classes: int, refuse: Refuse = strict) -> Listing:
    """Read and check the list file of a split.

    Copies of this layout go around without the list `train800val200` or without its images, which are those of train800
    and val200 once more; the two stand in for it then. Raises InputError, with file and line, for a list that is
    missing or empty, a line that is not "path label", a path that leaves the folder or does not exist, and a label
    outside 0..classes-1, unless `refuse` does otherwise.
    """
    if split == BOTH and not _holds_both(folder):
        first, second = (read_list(folder, part, classes, refuse) for part in ("train800", "val200"))
        return Listing(folder / f"{BOTH}.txt", first.images + second.images, first.labels + second.labels)
    file = folder / f"{split}.txt"
    rows: list[tuple[Path, int] | None] = []
    try:
        for number, line in enumerate(_lines(file), 1):
            try:
                if line.strip():
                    rows.append(_row(folder, f"{file}:{number}", line, classes))
            except InputError as error:
                refuse(error)
                rows.append(None)
        if not rows:
            raise InputError(f"{file}: the list is empty")
    except InputError as error:
        refuse(error)
    good = [row for row in rows if row is not None]
    return Listing(file, tuple(path for path, _ in good), tuple(label for _, label in good))


def _holds_both(folder: Path) -> bool:
    """Whether the list of all training images, and the folder it names, are there; or what could replace it is not."""
    file = folder / f"{BOTH}.txt"
    if not all((folder / f"{part}.txt").is_file() for part in ("train800", "val200")):
        return True
    if not file.is_file():
        return False
    names = [line.rsplit(maxsplit=1)[0] for line in _lines(file) if line.strip()]
    missing = [name for name in names if Path(name).parts[:2] == ("images", BOTH)]
    return not missing or (folder / "images" / BOTH).is_dir()


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise InputError(
            f"{file}: no such list; a task's folder holds {', '.join(f'{s}.txt' for s in SPLITS)}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as a list: {error}") from error


def _row(folder: Path, where: str, line: str, classes: int) -> tuple[Path, int]:
    name, _, label = line.strip().replace("\t", " ").rpartition(" ")
    if not name.strip() or not label.removeprefix("-").isdecimal():
        raise InputError(f"{where}: expected 'path label', found '{line[:80]}'")
    if not 0 <= int(label) < classes:
        raise InputError(f"{where}: label {label} is outside 0..{classes - 1}")
    return inside(folder, name.strip(), where), int(label)


def inside(folder: Path, name: str, where: str) -> Path:
    """The file of that name below a folder. Raises InputError if it leaves the folder or does not exist."""
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise InputError(f"{where}: {name} leaves the folder of the task")
    if not (folder / relative).is_file():
        raise InputError(f"{where}: names {name}, which does not exist")
    return folder / relative


class Images:
    """A split as tensors: images (B, 3, size, size) uint8 and labels (B,) int64.

    While it decodes, it takes the digest of every image it has seen, so a run can tell whether the pixels were those it
    was planned for. With a cache, what was decoded once is read from there the next time, with the digest that was
    taken then.
    """

    def __init__(self, listing: Listing, framing: Framing, cache: Cache | None = None) -> None:
        self.listing = listing
        self.framing = framing
        self.labels = torch.tensor(listing.labels)
        self._digests: list[bytes | None] = [None] * len(listing)
        self._cache = cache
        self._digest: str | None = None

    def __len__(self) -> int:
        return len(self.listing)

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Decode in the order of the list, `CHUNK` images at a time."""
        kept = self._cache.find() if self._cache else None
        if kept is not None:
            self._digest = kept.digest
            for start, pixels in kept.chunks():
                yield torch.from_numpy(pixels), self.labels[start : start + len(pixels)]
            return
        writer = self._cache.writer((len(self), 3, self.framing.size, self.framing.size)) if self._cache else None
        try:
            for start, pixels in self._decoded():
                if writer is not None:
                    writer.add(pixels)
                yield torch.from_numpy(pixels), self.labels[start : start + len(pixels)]
            if writer is not None:
                writer.finish(self.digest())
        finally:
            if writer is not None:
                writer.close()

    def _decoded(self) -> Iterator[tuple[int, np.ndarray]]:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(self), CHUNK):
                index = range(start, min(start + CHUNK, len(self)))
                decoded = list(pool.map(lambda i: decode(self.listing, i, self.framing), index))
                for i, (digest, _) in zip(index, decoded, strict=True):
                    self._digests[i] = digest
                pixels = np.stack([pixels for _, pixels in decoded])
                yield start, np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

    def all(self) -> tuple[Tensor, Tensor]:
        """The whole split at once."""
        kept = self._cache.find() if self._cache else None
        if kept is not None:
            self._digest = kept.digest
            return torch.from_numpy(kept.all()), self.labels
        images, labels = zip(*self.chunks(), strict=True)
        return torch.cat(images), torch.cat(labels)

    def digest(self) -> str:
        """SHA-256 over labels and pixels, before any resizing, in the order of the list."""
        return self._digest or total(self.listing.labels, self._digests)


def decode(listing: Listing, index: int, framing: Framing) -> tuple[bytes, np.ndarray]:
    """Digest of the original pixels, and the framed pixels (size, size, 3) uint8.

    Raises InputError that names an unreadable file.
    """
    try:
        with listing.image(index) as file:
            image = file.convert("RGB")  # reads the pixels, so a truncated file raises here
            return pixel_digest(image), np.asarray(framing(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises
        raise InputError(f"{listing.images[index]}: not a readable image: {error}") from error


def pixel_digest(image: Image.Image) -> bytes:
    """SHA-256 over size and pixels of an RGB image."""
    found = hashlib.sha256(f"{image.size}".encode())
    found.update(image.tobytes())
    return found.digest()


def total(labels: Iterable[int], digests: Iterable[bytes | None]) -> str:
    """The digest of a split from those of its images."""
    found = hashlib.sha256()
    for label, digest in zip(labels, digests, strict=True):
        assert digest is not None, "the digest is known once every image has been decoded"
        found.update(f"{label}:".encode() + digest)
    return found.hexdigest()


Read = Callable[[str], Listing]
"""Reads the list of a split."""


def fingerprint(folder: Path, read: Read, progress: Callable[[str], None] = lambda text: None) -> str:
    """Identity of the data a run trains and is scored on: a SHA-256 over the digests of both splits.

    It is computed once and kept next to the data; a run checks what it decodes against it.
    """
    return combine(digests(folder, read, progress))


def combine(digests: dict[str, str]) -> str:
    """One fingerprint from the digests of the splits."""
    return hashlib.sha256("".join(f"{split}:{digests[split]};" for split in sorted(digests)).encode()).hexdigest()


def digests(folder: Path, read: Read, progress: Callable[[str], None] = lambda text: None) -> dict[str, str]:
    """Digest of the training and the test split, read from beside the data or computed and kept there."""
    known = known_digests(folder)
    if known is not None:
        return known
    progress(f"taking the fingerprint of {folder.name}")
    found = {split: _digest(read(split), progress) for split in (BOTH, "test")}
    if not keep_digests(folder, found):
        progress(f"{folder} cannot be written, so its fingerprint is taken anew each time")
    return found


def keep_digests(folder: Path, found: dict[str, str]) -> bool:
    """Write the digests next to the data; False if that folder cannot be written."""
    try:
        write(folder / FINGERPRINT, json.dumps(found, indent=1).encode())
    except OSError:
        return False
    return True


def known_digests(folder: Path) -> dict[str, str] | None:
    """The digests kept next to the data, or None. Raises InputError for a file that holds none."""
    file = folder / FINGERPRINT
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error}); delete it and it is made anew") from error
    if not isinstance(found, dict) or set(found) != {BOTH, "test"}:
        raise InputError(f"{file}: is no fingerprint of petlbench; delete it and it is made anew")
    return {split: str(digest) for split, digest in found.items()}


def _digest(listing: Listing, progress: Callable[[str], None]) -> str:
    images, done = Images(listing, Framing(1)), 0
    step = max(5_000, len(listing) // 10)
    for _, labels in images.chunks():
        done += len(labels)
        if done // step > (done - len(labels)) // step:
            progress(f"{listing.file.parent.name}/{listing.file.stem}: {done:,} of {len(listing):,} images read")
    return images.digest()


ROOTS = ("", "vtab-1k", "VTAB-1k", "vtab", "fgvc")
"""Folders that an unpacked archive may put between the data root and the tasks."""


def locate(root: Path, names: Iterable[str]) -> Path | None:
    """The first of these folders that exists below the root, or one level deeper in the folder of an archive."""
    return next((root / top / name for top in ROOTS for name in names if (root / top / name).is_dir()), None)
