"""Is a data set what its suite says it is? Every image of a task is read once, and every deviation becomes a finding.

An *error* makes results wrong or incomparable: missing or unreadable images, other counts than the suite's, labels out
of range, test images that were trained on. A *note* is what genuine data sets show as well and a reader should know.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from petlbench import folder
from petlbench.classification import Classification
from petlbench.errors import InputError
from petlbench.folder import BOTH, SPLITS, Listing
from petlbench.suite import Task

Level = Literal["error", "note"]
LEAK = 0.01
"""From this share of test images that are training images as well, it is an error: below it, the genuine sets have some
(two sprites that look alike, a photograph taken up twice)."""
EXPECTED = 10
"""A class without a training image is an error if as many as this were to be expected, judged by the test images. By
chance that happens once in 22,000 draws, while SUN397 in VTAB-1K truly lacks some of its 397 classes."""
SHOWN = 5
"""Findings of one kind that are printed one by one; the others are counted."""


@dataclass(frozen=True)
class Finding:
    """One thing about one task."""

    task: str
    level: Level
    text: str

    def __str__(self) -> str:
        return f"{self.level:5}  {self.task}: {self.text}"


@dataclass(frozen=True)
class Seen:
    """What was seen of one image."""

    digest: bytes | None
    """Of its pixels; None if they cannot be read."""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    format: str = ""
    error: str = ""


Progress = Callable[[int, int], None]
"""Told how many images of a task are read, of how many."""


def verify(
    suite: Classification, task: Task, root: Path | None, progress: Progress = lambda done, total: None
) -> list[Finding]:
    """Everything there is to say about a task's data, errors first. Writes the fingerprint if there is no error."""
    try:
        data = suite.prepare(task, root)
    except InputError as error:
        return [Finding(task.name, "error", str(error))]
    check = _Check(suite, task, data)
    found = list(check.findings(progress))
    return sorted(found, key=lambda finding: finding.level != "error")


class _Check:
    def __init__(self, suite: Classification, task: Task, data: Path) -> None:
        self.suite, self.task, self.data = suite, task, data
        self.failed = False

    def findings(self, progress: Progress) -> Iterator[Finding]:
        refused: dict[str, list[str]] = {split: [] for split in SPLITS}
        lists = {split: self._list(split, refused[split]) for split in SPLITS}
        repeated = {line for part in ("train800", "val200") for line in refused[part]}
        for split, lines in refused.items():
            lines = [line for line in lines if split != BOTH or line not in repeated]
            yield from self._some([self._relative(line) for line in lines])
        seen = self._read(lists, progress)
        yield from self._some([self._relative(each.error) for each in seen.values() if each.error])
        yield from self._counts(lists)
        yield from self._twice(lists)
        yield from self._classes(lists)
        digests = {split: [seen[item].digest for item in _items(listing)] for split, listing in lists.items()}
        yield from self._shared(digests)
        yield from self._union(digests)
        yield from self._kinds([seen[item] for item in dict.fromkeys(seen)])
        yield from self._fingerprint(lists, digests)

    def _list(self, split: str, refused: list[str]) -> Listing:
        return self.suite.listing(self.task, split, self.data, lambda error: refused.append(str(error)))

    def _read(self, lists: dict[str, Listing], progress: Progress) -> dict[tuple[Path, int], Seen]:
        """Every image once, however many lists name it."""
        todo = {item: (listing, index) for listing in lists.values() for index, item in enumerate(_items(listing))}
        seen = {}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for item, each in zip(todo, pool.map(lambda work: look(*work), todo.values()), strict=True):
                seen[item] = each
                progress(len(seen), len(todo))
        return seen

    def _counts(self, lists: dict[str, Listing]) -> Iterator[Finding]:
        task = self.task
        expected = {"train800": task.train - task.val, "val200": task.val, BOTH: task.train, "test": task.test}
        for split, number in expected.items():
            if len(lists[split]) not in (0, number):
                yield self._error(f"{lists[split].file.name}: {len(lists[split]):,} images, expected {number:,}")

    def _twice(self, lists: dict[str, Listing]) -> Iterator[Finding]:
        for split in ("train800", "val200", "test"):
            counts = Counter(_items(lists[split]))
            names = [path.relative_to(self.data) for (path, _), count in counts.items() if count > 1]
            yield from self._some([f"{lists[split].file.name}: names {name} more than once" for name in names])

    def _classes(self, lists: dict[str, Listing]) -> Iterator[Finding]:
        train, test = Counter(lists[BOTH].labels), Counter(lists["test"].labels)
        if not train or not test:
            return
        absent = [label for label in range(self.task.classes) if not train[label]]
        grave = [label for label in absent if test[label] / test.total() * train.total() >= EXPECTED]
        for level, labels in ((self._error, grave), (self._note, [each for each in absent if each not in grave])):
            if labels:
                which = "class" if len(labels) == 1 else "classes"
                yield level(f"{lists[BOTH].file.name}: no image of {which} {_numbers(labels)}")
        untested = [label for label in range(self.task.classes) if not test[label]]
        if untested:
            which = "class" if len(untested) == 1 else "classes"
            yield self._note(f"{lists['test'].file.name}: no image of {which} {_numbers(untested)}")

    def _shared(self, digests: dict[str, list[bytes | None]]) -> Iterator[Finding]:
        """The same pixels in two splits that must not share any."""
        for one, other in ((BOTH, "test"), ("train800", "val200")):
            common = {digest for digest in digests[one] if digest is not None}.intersection(digests[other])
            count = sum(digest in common for digest in digests[other])
            if count:
                say = self._error if count >= LEAK * len(digests[other]) else self._note
                yield say(f"{count} of {len(digests[other]):,} images of {other} have the pixels of an image of {one}")

    def _union(self, digests: dict[str, list[bytes | None]]) -> Iterator[Finding]:
        parts = Counter(digests["train800"]) + Counter(digests["val200"])
        strange = Counter(digests[BOTH]) - parts
        if digests["train800"] and digests["val200"] and strange:
            yield self._error(f"{strange.total()} images of {BOTH} are neither in train800 nor in val200")

    def _kinds(self, seen: Sequence[Seen]) -> Iterator[Finding]:
        """What kind of files they are. The same images as JPEG and without loss give different scores."""
        good = [each for each in seen if not each.error]
        if not good:
            return
        formats = Counter(each.format for each in good)
        lossy = {name for name in formats if name in ("JPEG", "WEBP", "MPO")}
        kind = "lossy JPEG export" if lossy == set(formats) else "mixed lossy and lossless" if lossy else "lossless"
        yield self._note(f"{kind} ({counted(formats)})")
        modes = Counter(each.mode for each in good)
        if len(modes) > 1 or "RGB" not in modes:
            yield self._note(f"modes {counted(modes)}; all become RGB")
        sizes = {each.size for each in good}
        if len(sizes) > 1:
            (low, high), (left, right) = ((min(edge), max(edge)) for edge in zip(*sizes, strict=True))
            yield self._note(
                f"{len(sizes)} sizes, {low} to {high} wide and {left} to {right} high; all are squashed to a square"
            )

    def _fingerprint(self, lists: dict[str, Listing], digests: dict[str, list[bytes | None]]) -> Iterator[Finding]:
        if self.failed or not all(len(lists[split]) for split in (BOTH, "test")):
            return
        found = {split: folder.total(lists[split].labels, digests[split]) for split in (BOTH, "test")}
        try:
            known = folder.known_digests(self.data)
        except InputError as error:
            yield self._error(self._relative(str(error)))
            return
        if known is None:
            known = found
            if not folder.keep_digests(self.data, found):
                yield self._note("the folder cannot be written, so each plan takes the fingerprint anew")
        if known != found:
            yield self._error(f"{folder.FINGERPRINT}: was taken of other images; delete it if the change was meant")
        else:
            yield self._note(f"fingerprint {folder.combine(found)[:12]}")

    def _some(self, texts: list[str]) -> Iterator[Finding]:
        yield from map(self._error, texts[:SHOWN])
        if len(texts) > SHOWN:
            yield self._error(f"and {len(texts) - SHOWN} more like the last")

    def _error(self, text: str) -> Finding:
        self.failed = True
        return Finding(self.task.name, "error", text)

    def _note(self, text: str) -> Finding:
        return Finding(self.task.name, "note", text)

    def _relative(self, text: str) -> str:
        return text.removeprefix(f"{self.data}{os.sep}")


def look(listing: Listing, index: int) -> Seen:
    """Read an image to its last pixel."""
    try:
        with listing.image(index) as file:
            mode, form = file.mode, file.format or "raw"
            return Seen(folder.pixel_digest(file.convert("RGB")), mode, file.size, form)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return Seen(None, error=f"{listing.images[index]}: not a readable image: {error}")


def _items(listing: Listing) -> list[tuple[Path, int]]:
    """What tells the images of a listing apart: the file, and the place in it where one file holds many."""
    return [listing.item(index) for index in range(len(listing))]


def _numbers(labels: Sequence[int]) -> str:
    shown = ", ".join(map(str, labels[:10]))
    return shown if len(labels) <= 10 else f"{shown}, ... ({len(labels)} in all)"


def counted(counts: Counter[str]) -> str:
    """Such as "47 JPEG, 1 PNG"."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
