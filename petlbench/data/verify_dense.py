"""The same question about a data set for detectors or segmenters: every image and truth is read once, and what cannot
be used is named, one line each, before anything is trained.

The tasks of such a suite read the same files, so a finding names the folder.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from petlbench.data.verify import LEAK, SHOWN, Finding, Progress, Seen, counted
from petlbench.dense.images import Source
from petlbench.dense.suite import DenseSuite
from petlbench.errors import InputError
from petlbench.folder import pixel_digest
from petlbench.suite import Task

SPLITS = {"training": True, "test": False}
"""The two halves of a data set, and whether they are trained on."""


def verify(
    suite: DenseSuite, tasks: Sequence[Task], root: Path | None, progress: Progress = lambda done, total: None
) -> list[Finding]:
    """Everything there is to say about the data that these tasks share, errors first. Whole data keep their
    fingerprint, so that the first run need not take it."""
    try:
        data = suite.prepare(tasks[0], root)
    except InputError as error:
        return [Finding(tasks[0].name, "error", str(error))]
    found = list(_Check(suite, tasks, data).findings(progress))
    return sorted(found, key=lambda finding: finding.level != "error")


class _Check:
    def __init__(self, suite: DenseSuite, tasks: Sequence[Task], data: Path) -> None:
        self.suite, self.tasks, self.data = suite, tasks, data
        self.failed = False

    def findings(self, progress: Progress) -> Iterator[Finding]:
        yield self._note(f"read by {', '.join(task.name for task in self.tasks)}")
        refused: list[str] = []
        sources: dict[str, Source] = {}
        suite, task, data = self.suite, self.tasks[0], self.data
        for split, training in SPLITS.items():
            try:
                sources[split] = suite.every(
                    task, data, training=training, refuse=lambda error: refused.append(str(error))
                )
            except InputError as error:
                refused.append(str(error))
        yield from self._some(refused)
        seen = self._read(sources, progress)
        yield from self._some([each.error for those in seen.values() for each in those if each.error])
        for split, source in sources.items():
            yield from self._count(split, len(source))
            for remark in self.suite.remarks(source):
                yield self._note(remark)
        if len(seen) == len(SPLITS):
            yield from self._shared([each.digest for each in seen["training"]], [each.digest for each in seen["test"]])
        yield from self._kinds([each for those in seen.values() for each in those if not each.error])
        if not self.failed:
            mark = self.suite.fingerprint(self.tasks[0], self.data, lambda text: None)
            yield self._note(f"fingerprint {mark[:12]}")

    def _read(self, sources: dict[str, Source], progress: Progress) -> dict[str, list[Seen]]:
        todo = [(split, source, index) for split, source in sources.items() for index in range(len(source))]
        seen: dict[str, list[Seen]] = {split: [] for split in sources}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done, ((split, _, _), each) in enumerate(
                zip(todo, pool.map(lambda work: look(*work[1:]), todo), strict=True), 1
            ):
                seen[split].append(each)
                progress(done, len(todo))
        return seen

    def _count(self, split: str, number: int) -> Iterator[Finding]:
        expected = self.tasks[0].train if SPLITS[split] else self.tasks[0].test
        if number != expected:
            yield self._error(f"{split}: {number:,} images, expected {expected:,}")

    def _shared(self, trained: Sequence[bytes | None], scored: Sequence[bytes | None]) -> Iterator[Finding]:
        common = {digest for digest in trained if digest is not None}.intersection(scored)
        count = sum(digest in common for digest in scored)
        if count:
            say = self._error if count >= LEAK * len(scored) else self._note
            yield say(f"{count:,} of {len(scored):,} images to score on have the pixels of a training image")

    def _kinds(self, seen: Sequence[Seen]) -> Iterator[Finding]:
        if not seen:
            return
        yield self._note(f"files {counted(Counter(each.format for each in seen))}")
        modes = Counter(each.mode for each in seen)
        if set(modes) != {"RGB"}:
            yield self._note(f"modes {counted(modes)}; all become RGB")
        (narrow, wide), (low, high) = (
            (min(edge), max(edge)) for edge in zip(*(each.size for each in seen), strict=True)
        )
        yield self._note(f"{narrow} to {wide} pixels wide and {low} to {high} high")

    def _some(self, texts: Sequence[str]) -> Iterator[Finding]:
        yield from map(self._error, texts[:SHOWN])
        if len(texts) > SHOWN:
            yield self._error(f"and {len(texts) - SHOWN} more like these")

    def _error(self, text: str) -> Finding:
        self.failed = True
        return Finding(self.data.name, "error", text.replace(f"{self.data}{os.sep}", ""))

    def _note(self, text: str) -> Finding:
        return Finding(self.data.name, "note", text)


def look(source: Source, index: int) -> Seen:
    """Read an image to its last pixel, and its truth."""
    try:
        digest = pixel_digest(source.image(index))
        source.target(index)
        with Image.open(source.path(index)) as file:
            return Seen(digest, file.mode, file.size, file.format or "raw")
    except InputError as error:
        return Seen(None, error=str(error))
