"""Pictures of the natural group: digits in the street, materials, leaves."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from petlbench.drawing.canvas import (
    SIDE,
    Floats,
    Labels,
    Pixels,
    between,
    developed,
    direction,
    grid,
    hue,
    noise,
    smoothstep,
)
from petlbench.drawing.leaf import LEAVES, leaf
from petlbench.drawing.surfaces import SURFACES


@cache
def handwriting() -> tuple[Floats, Labels]:
    """The 1,797 real images (8, 8) of scikit-learn's digits, ink in 0..1, with what they show."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 8, 8) / 16).astype(np.float32), labels.astype(np.int64)


def digits(rng: Generator, sources: NDArray[np.int64]) -> Pixels:
    """House numbers: each shows one real digit of `handwriting` upright in the middle, with cut neighbours as in SVHN.

    Neighbours come from the same sources, so that splits with disjoint sources share no handwriting at all.
    """
    return developed(rng, np.stack([_house_number(rng, int(source), sources) for source in sources]), grain=0.05)


def _house_number(rng: Generator, source: int, others: NDArray[np.int64]) -> Floats:
    ink, _ = handwriting()
    size, turn, slant = (float(between(rng, *span)) for span in ((38, 52), (-0.03, 0.03), (-0.25, 0.25)))
    x, y = SIDE / 2 + between(rng, -4, 4, 2)
    ground, paint = _two_colours(rng)
    picture = ground * (np.float32(0.75) + np.float32(0.5) * noise(rng, 3, SIDE, octaves=3))[..., None]
    for side in (-1, 1):
        place = x + side * size * between(rng, 0.8, 1.0), y + between(rng, -2, 2)
        cover = _written(ink[rng.choice(others)], *place, size, turn, slant)
        picture += cover[..., None] * (paint - picture)
    return picture + _written(ink[source], x, y, size, turn, slant)[..., None] * (paint - picture)


def _two_colours(rng: Generator) -> tuple[Floats, Floats]:
    """Colours for ground and writing: any hues, but one clearly darker than the other."""
    dark = hue(rng.random(), between(rng, 0.2, 0.8), between(rng, 0.1, 0.4))
    bright = hue(rng.random(), between(rng, 0.05, 0.5), between(rng, 0.65, 1.0))
    return (dark, bright) if rng.random() < 0.5 else (bright, dark)


def _written(ink: Floats, x: float, y: float, size: float, turn: float, slant: float) -> Floats:
    """Coverage (SIDE, SIDE) of an image (8, 8) that is written around a place, in pixels."""
    c, s = (np.float32(value * 8 / size) for value in direction(turn))
    pixel = (np.arange(SIDE) + 0.5).astype(np.float32)
    dx, dy = pixel[None, :] - np.float32(x), pixel[:, None] - np.float32(y)
    down = dy * c - dx * s
    return smoothstep(_between_pixels(ink, dx * c + dy * s + np.float32(slant) * down, down), 0.25, 0.75)


def _between_pixels(image: Floats, x: Floats, y: Floats) -> Floats:
    """An image (8, 8) at offsets from its centre in its own pixels, by Catmull and Rom's cubic; 0 outside."""
    padded = np.pad(image, 3).ravel()
    x, y = (np.minimum(np.maximum(at + np.float32(5.5), 1), 11) for at in (x, y))
    column, row = x.astype(np.int32), y.astype(np.int32)
    corner = row * 14 + column
    across, down = _cubic(x - column), _cubic(y - row)
    total = np.zeros(x.shape, np.float32)
    for r in range(4):
        line = sum(across[c] * padded[corner + ((r - 1) * 14 + c - 1)] for c in range(4))
        total += down[r] * line
    return total


def _cubic(t: Floats) -> list[Floats]:
    """The weights of four neighbours for a place t in 0..1 between the second and the third."""
    half = np.float32(0.5)
    return [
        ((2 - t) * t - 1) * t * half,
        (t * t * (3 * t - 5) + 2) * half,
        ((4 - 3 * t) * t + 1) * t * half,
        (t - 1) * t * t * half,
    ]


def materials(rng: Generator, labels: Labels) -> Pixels:
    """Surfaces close up, in the order of `surfaces.SURFACES` (as DTD's task), of any colour and in any light."""
    kinds = list(SURFACES.values())
    return developed(rng, np.stack([_close_up(rng, kinds[label](rng)) for label in labels]), grain=0.08, light=0.35)


def _close_up(rng: Generator, surface: Floats) -> Floats:
    """A part (SIDE, SIDE, 3) of a surface, dyed more often than not, partly in the shadow of something."""
    x, y, share = between(rng, 0, 1), between(rng, 0, 1), between(rng, 0.45, 1.0)
    part = _cut(surface, x, y, share)
    if rng.random() < 0.7:
        grey = (part[..., 0] + part[..., 1] + part[..., 2]) * np.float32(1 / 3)
        part = grey[..., None] * hue(rng.random(), between(rng, 0.0, 0.7), between(rng, 0.9, 1.4))
    x, y = grid(SIDE)
    c, s = (np.float32(value) for value in direction(rng.random()))
    bend = np.float32(0.5) * (noise(rng, 3, SIDE) - np.float32(0.5))
    edge = (x - np.float32(0.5)) * c + (y - np.float32(0.5)) * s + bend
    shadow = smoothstep(edge, between(rng, -0.5, 0.5), 0.6)
    return part * (1 - between(rng, 0.0, 0.65) * shadow)[..., None]


def _cut(picture: Floats, x: float, y: float, share: float) -> Floats:
    """A square of a picture, `share` as wide, in SIDE x SIDE pixels: each lies between its four neighbours."""
    size = len(picture)
    line = grid(SIDE)[0][0] * np.float32(share * (size - 1))
    out = picture
    for start in (y, x):
        at = line + np.float32((1 - share) * start * (size - 1))
        low = np.minimum(at.astype(np.int64), size - 2)
        out = out[low] + (at - low)[:, None, None] * (out[low + 1] - out[low])
        out = out.swapaxes(0, 1)
    return out


def leaves(rng: Generator, labels: Labels) -> Pixels:
    """One leaf each, in the order of `leaf.LEAVES`."""
    kinds = list(LEAVES)
    return developed(rng, np.stack([leaf(rng, kinds[label]).finished() for label in labels]), grain=0.05, light=0.25)
