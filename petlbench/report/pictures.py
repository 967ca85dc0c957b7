"""Drawn answers of dense runs, made small enough to be carried in the page itself."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from petlbench.dense.suite import SHOWN, DenseTask
from petlbench.record import Record
from petlbench.suite import Task

WIDTH = 1200
"""Pixels that a picture in the page is wide at most."""
QUALITY = 80
"""Of WebP: lines and letters stay clear, and a picture has about a quarter of its bytes as PNG."""
BUDGET = 4_000_000
"""Bytes of all pictures of a page; whatever comes behind them is named and not shown."""
LARGEST = 2**25
"""Pixels of a picture at most: more is none that petlbench drew."""


class Album:
    """The pictures of a page, as long as there is room for them."""

    def __init__(self, root: Path) -> None:
        self.root, self.room = root / "pictures", BUDGET

    def of(self, record: Record, task: Task) -> dict[str, Any] | None:
        """What the page needs to show a run's drawn answers: where they lie, what stands in them from left to right,
        and each as the address of an image with its width and height. None for a run that drew nothing."""
        folder = self.root / record.run.path.with_suffix("")
        found = [path for number in range(SHOWN) if (path := folder / f"{number}.png").is_file()]
        if not found or not isinstance(task, DenseTask):
            return None
        images = [image for path in found if (image := self._image(path))]
        return {
            "seed": record.run.seed,
            "panels": ", ".join(task.panels),
            "folder": folder.relative_to(self.root.parent).as_posix(),
            "images": images,
        }

    def _image(self, path: Path) -> tuple[str, int, int] | None:
        """The address, width and height of an image; None for what is too much or cannot be shown. Files come from
        anywhere, so one that a link leads to outside of the folder is not read, and all are encoded anew."""
        content = io.BytesIO()
        try:
            if not path.resolve().is_relative_to(self.root.resolve()):
                return None
            with Image.open(path, formats=["PNG"]) as file:
                if file.width * file.height > LARGEST:
                    return None
                picture = file.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return None
        picture.thumbnail((WIDTH, LARGEST))
        picture.save(content, "webp", quality=QUALITY)
        data = base64.b64encode(content.getvalue()).decode()
        if len(data) > self.room:
            return None
        self.room -= len(data)
        return f"data:image/webp;base64,{data}", picture.width, picture.height
