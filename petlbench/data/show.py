"""A contact sheet: some images of every class of a task, with their labels, as one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from petlbench import folder
from petlbench.folder import Listing
from petlbench.framing import Framing

TILE = 96
"""Height and width of an image on the sheet, in pixels. Images are squashed to it."""
CAPTION = 16
"""Height of the line below an image."""
COLUMNS = 10


def sheet(listing: Listing, images: int, names: list[str] | None = None) -> Image.Image:
    """Draw `images` images, every class in turn, each with its label, or its name where there are names."""
    chosen = choose(listing.labels, images)
    rows = -(-len(chosen) // COLUMNS)
    page = Image.new("RGB", (min(COLUMNS, len(chosen)) * TILE, rows * (TILE + CAPTION)), "white")
    pen = ImageDraw.Draw(page)
    for place, index in enumerate(chosen):
        left, top = place % COLUMNS * TILE, place // COLUMNS * (TILE + CAPTION)
        page.paste(Image.fromarray(folder.decode(listing, index, Framing(TILE))[1]), (left, top))
        label = listing.labels[index]
        text = names[label] if names else str(label)
        while pen.textlength(text) > TILE - 4:
            text = text[:-1]
        pen.text((left + 2, top + TILE + 2), text, fill="black")
    return page


def choose(labels: tuple[int, ...], count: int) -> list[int]:
    """The first image of each class, then the second of each, and so on; sorted by class."""
    known = np.array(labels)
    rank = np.zeros(len(known), int)
    for label in np.unique(known):
        rank[known == label] = np.arange((known == label).sum())
    order = np.lexsort((known, rank))[:count]
    return sorted(order.tolist(), key=lambda index: (labels[index], index))


def class_names(data: Path, classes: int) -> list[str] | None:
    """The names of the classes where a task's folder tells them: one folder per class, or CIFAR-100's own list."""
    if (data / "train").is_dir():
        found = sorted(path.name for path in (data / "train").iterdir() if path.is_dir())
    elif (data / "fine_label_names.txt").is_file():
        found = (data / "fine_label_names.txt").read_text(encoding="utf-8").split()
    else:
        return None
    return found if len(found) == classes else None
