"""Decoded images kept as one memory-mapped array per split and framing, so that the second run reads no image.

A cache never outlives its data: its name holds a SHA-256 over the path, length and times of change of every image file
and over the labels, so an image that was replaced leads to another name and is decoded again. It carries the digest of
the original pixels, which a run checks against its plan as if it had decoded them, and digests of its own array.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs

from petlbench.errors import InputError
from petlbench.files import write
from petlbench.framing import Framing

VERSION = 1
"""Rises when the same images would be decoded into other values."""
PART = 256
"""Images per digest of the array."""
SHARE = 0.1
"""Part of the free space that one split may take; a larger one is decoded each time."""


def home() -> Path:
    """The user's cache of petlbench; PETLBENCH_CACHE names another place."""
    return Path(os.environ.get("PETLBENCH_CACHE") or platformdirs.user_cache_path("petlbench"))


@dataclass(frozen=True)
class Kept:
    """A split that was decoded before."""

    file: Path
    digest: str
    """Of the original pixels and labels, as `folder.Images.digest` gives it."""
    parts: tuple[str, ...]
    array: np.ndarray

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Images in pieces of PART, (n, 3, S, S) uint8, each with the place of its first. Raises InputError if a piece
        is not what was written."""
        starts = range(0, len(self.array), PART)
        for start, part in zip(starts, self.parts, strict=True):
            self._check(self.array[start : start + PART], part)
            yield start, self.array[start : start + PART]

    def all(self) -> np.ndarray:
        """The whole array, mapped from the file: nothing is copied, and processes that read the same split share its
        memory. Raises InputError as `chunks` does."""
        pieces = [self.array[start : start + PART] for start in range(0, len(self.array), PART)]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            list(pool.map(self._check, pieces, self.parts))
        return self.array

    def _check(self, piece: np.ndarray, part: str) -> None:
        if _digest(piece) != part:
            raise InputError(f"{self.file}: the cache is damaged; delete it and it is made anew")


class Cache:
    """Where a split is kept once it has been decoded: beside its data, or in the user's cache if that is read-only."""

    def __init__(
        self, folder: Path, split: str, framing: Framing, files: Iterable[Path], labels: Iterable[int]
    ) -> None:
        self._folder = folder
        self._stem = f"{split}-{framing}"
        self._name = f"{self._stem}-{_signature(folder, files, labels)}"

    def find(self) -> Kept | None:
        """What is kept for exactly these files, labels and framing; None if nothing whole is."""
        for place in self._places():
            file, manifest = place / f"{self._name}.npy", place / f"{self._name}.json"
            try:
                facts = json.loads(manifest.read_text())
                array = np.load(file, mmap_mode="c", allow_pickle=False)  # a write would change no file
                kept = Kept(file, str(facts["digest"]), tuple(facts["parts"]), array)
                if len(kept.parts) == -(-len(array) // PART):
                    return kept
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError, EOFError):  # a half-written or foreign file
                continue
        return None

    def writer(self, shape: tuple[int, ...]) -> Writer | None:
        """Something to write the array with; None where there is no room, or the user wants none."""
        if os.environ.get("PETLBENCH_DECODED") == "off":
            return None
        for place in self._places():
            try:
                place.mkdir(parents=True, exist_ok=True)
                _sweep(place)
                if int(np.prod(shape)) > SHARE * shutil.disk_usage(place).free:
                    return None
                return Writer(place, self._stem, self._name, shape)
            except OSError:
                continue
        return None

    def _places(self) -> tuple[Path, Path]:
        where = hashlib.sha256(str(self._folder.resolve()).encode()).hexdigest()[:12]
        return self._folder / "decoded", home() / "decoded" / f"{self._folder.name}-{where}"


class Writer:
    """Writes an array piece by piece under a temporary name; it appears whole or not at all."""

    def __init__(self, place: Path, stem: str, name: str, shape: tuple[int, ...]) -> None:
        self._place, self._stem, self._name, self._shape = place, stem, name, shape
        handle, temporary = tempfile.mkstemp(dir=place, prefix=".", suffix=".tmp")
        self._temporary = Path(temporary)
        self._file = os.fdopen(handle, "wb")
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._parts: list[str] = []
        self._count = 0

    def add(self, pixels: np.ndarray) -> None:
        """Append images (n, 3, S, S) uint8; every piece but the last holds a multiple of PART. A full disk ends the
        cache, not the run."""
        self._parts += [_digest(pixels[i : i + PART]) for i in range(0, len(pixels), PART)]
        try:
            if not self._file.closed:
                self._file.write(pixels.data)
                self._count += len(pixels)
        except OSError:
            self.close()

    def finish(self, digest: str) -> None:
        """Put the array and its facts in place, and delete what older images left behind."""
        if self._file.closed or self._count != self._shape[0]:
            return
        try:
            self._file.close()
            self._temporary.chmod(0o644)
            self._temporary.replace(self._place / f"{self._name}.npy")
            facts = {"digest": digest, "parts": self._parts, "version": VERSION}
            write(self._place / f"{self._name}.json", json.dumps(facts).encode())
            for old in self._place.glob(f"{self._stem}-*"):
                if old.stem != self._name:
                    old.unlink(missing_ok=True)
        except OSError:
            return

    def close(self) -> None:
        """Delete what was not finished."""
        with suppress(OSError):  # a full disk says so once more
            self._file.close()
        self._temporary.unlink(missing_ok=True)


def _sweep(place: Path) -> None:
    """Delete what processes left behind that were killed more than a day ago."""
    for left in place.glob(".*.tmp"):
        if time.time() - left.stat().st_mtime > 24 * 3600:
            left.unlink(missing_ok=True)


def _signature(folder: Path, files: Iterable[Path], labels: Iterable[int]) -> str:
    """What changes when an image file is replaced, touched or renamed, or a label is edited."""
    found = hashlib.sha256(f"{VERSION}".encode())
    for file, label in zip(files, labels, strict=True):
        stat = file.stat()
        name = file.relative_to(folder) if file.is_relative_to(folder) else file
        found.update(f"{name}\n{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {label}\n".encode())
    return found.hexdigest()[:16]


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.data).hexdigest()[:16]
