"""Draws label maps over their image: the truth and the answer side by side, with the names of the classes."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from petlbench.dense.images import IGNORED

SIDE = 384
"""Pixels that the longer side of an image has at least; small ones are enlarged."""
TINT = 0.6
"""Share of its colour that a class has."""
LINE = 18
"""Height of a name below the images, in pixels."""
GOLDEN = 0.618
"""Step from one hue to the next, in turns: neighbours differ, and none comes twice."""
FEW = 16
"""Classes up to which the hues are as far apart as can be."""


def overlay(image: Image.Image, truth: Tensor, answer: Tensor, names: Sequence[str]) -> Image.Image:
    """The image, the truth and the answer (H, W); what is ignored in the truth stays untinted in both."""
    return _page(image, truth, (truth, answer), names)


def labelled(image: Image.Image, truth: Tensor, names: Sequence[str]) -> Image.Image:
    """The image, and the truth (H, W) over it; what is ignored stays untinted."""
    return _page(image, truth, (truth,), names)


def _page(image: Image.Image, truth: Tensor, maps: Sequence[Tensor], names: Sequence[str]) -> Image.Image:
    """The image and label maps over it, side by side, with the names of the classes below."""
    factor = max(1, round(SIDE / max(image.size)))
    size = image.width * factor, image.height * factor
    known = (truth != IGNORED).numpy()
    panels = [image, *(_tinted(image, labels.numpy(), known, len(names)) for labels in maps)]
    there = sorted({label for labels in maps for label in labels[truth != IGNORED].tolist()})
    width = len(panels) * (size[0] + 8) - 8
    columns = max(1, width // 130)
    page = Image.new("RGB", (width, size[1] + LINE * -(-len(there) // columns) + 4), "white")
    for place, part in enumerate(panels):
        page.paste(part.resize(size, Image.Resampling.NEAREST), (place * (size[0] + 8), 0))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    for place, label in enumerate(there):
        left, top = place % columns * 130, size[1] + 4 + place // columns * LINE
        pen.rectangle((left, top, left + 12, top + 12), fill=colour(label, len(names)))
        pen.text((left + 17, top - 1), names[label][:16], fill="black", font=font)
    return page


def colour(label: int, classes: int) -> tuple[int, int, int]:
    """The colour of one of so many classes."""
    hue = label / classes if classes <= FEW else label * GOLDEN % 1
    red, green, blue = colorsys.hls_to_rgb(hue, 0.35 + 0.3 * (label % 2), 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def _tinted(image: Image.Image, labels: np.ndarray, known: np.ndarray, classes: int) -> Image.Image:
    palette = np.array([colour(label, classes) for label in range(classes)], np.float32)
    pixels = np.asarray(image, np.float32).copy()
    pixels[known] = (1 - TINT) * pixels[known] + TINT * palette[labels[known]]
    return Image.fromarray(pixels.round().astype(np.uint8))
