"""A contact sheet for detectors and segmenters: some images of a split with their truth drawn over them."""

from __future__ import annotations

from PIL import Image

from petlbench.dense.images import Source
from petlbench.dense.suite import DenseSuite

TILE = 480
"""Pixels that an image with its truth has at most in both directions."""
COLUMNS = 3
GAP = 8
"""Pixels between two of them."""


def sheet(suite: DenseSuite, source: Source, classes: int, images: int) -> Image.Image:
    """Draw `images` images, spread evenly over the split. Raises InputError for one that cannot be used."""
    chosen = choose(len(source), images)
    tiles = [suite.labelled(source, classes, index) for index in chosen]
    for tile in tiles:
        tile.thumbnail((COLUMNS * TILE, TILE))
    rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    width = max(sum(tile.width + GAP for tile in row) for row in rows) - GAP
    page = Image.new("RGB", (width, sum(max(tile.height for tile in row) + GAP for row in rows) - GAP), "white")
    top = 0
    for row in rows:
        left = 0
        for tile in row:
            page.paste(tile, (left, top))
            left += tile.width + GAP
        top += max(tile.height for tile in row) + GAP
    return page


def choose(size: int, count: int) -> list[int]:
    """So many of the places from 0 to size - 1, evenly spread, the first among them; all if there are no more."""
    count = min(size, count)
    return [place * size // count for place in range(count)]
