"""A canvas: anti-aliased shapes, noise and colour in plain numpy.

Places are in the unit square with x to the right and y down, angles in turns (1 is a full circle), colours are RGB in
0..1. A pixel is only ever touched by operations that IEEE 754 rounds exactly (+ - * / and the square root), because the
fast sines and exponentials of numpy differ in the last bit from one processor to the next: the same seed draws the same
picture everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Points = NDArray[Any]
"""Places (n, 2), or one (2,)."""
Colour = Sequence[float] | NDArray[Any]
"""Three numbers in 0..1, or an array (h, w, 3) that varies over what it fills."""

SIDE = 64
"""Pixels along a side of a finished picture."""
TAU, C3, C5, C7, C9 = 6.283185307179586, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880
"""A full circle in radians, and the Taylor series of the sine."""
SHARP = 2
"""Pixels drawn per finished pixel along a side; their mean is the finished pixel."""
SMALL = 200
"""Pixels of a patch that is painted faster in all channels at once."""


class Patch(NamedTuple):
    """A shape on the pixel grid: the window that holds it, and how much of each pixel it covers."""

    rows: slice
    columns: slice
    cover: Floats
    """(h, w), from 0 outside to 1 inside."""


class Canvas:
    """A picture in the making, and which object each of its pixels shows."""

    def __init__(self, ground: ArrayLike, side: int = SIDE) -> None:
        """`ground` is one colour or an array (2 side, 2 side, 3)."""
        self.size = SHARP * side
        self.line = grid(self.size)[0][0]
        self.pixels: Floats = np.empty((self.size, self.size, 3), np.float32)
        self.pixels[:] = ground
        self.instances: NDArray[np.int32] = np.zeros((self.size, self.size), np.int32)
        """The number given to `paint` last for each pixel; 0 is the ground."""

    def paint(self, patch: Patch, colour: Colour, opacity: float = 1.0, instance: int = 0) -> None:
        """Lay a colour over what is there; a positive `instance` marks the pixels as that object."""
        if not patch.cover.size:
            return
        window, cover = self.pixels[patch.rows, patch.columns], patch.cover * np.float32(opacity)
        colour = np.asarray(colour, np.float32)
        if cover.size < SMALL:
            window += cover[..., None] * (colour - window)
        else:
            for channel in range(3):  # three times as fast as all at once
                value = window[..., channel]
                value += cover * (colour[..., channel] - value)
        if instance:
            self.instances[patch.rows, patch.columns][patch.cover > 0.5] = instance

    def ellipse(self, x: float, y: float, a: float, b: float | None = None, turn: float = 0.0) -> Patch:
        """A disc of radius `a`, or an ellipse of half axes `a` and `b` that is turned clockwise."""
        b = a if b is None else b
        rows, columns, dx, dy = self.window(x, y, max(a, b))
        if a == b:
            away = np.sqrt(dx * dx + dy * dy) / np.float32(a)
        else:
            c, s = direction(turn)
            u, v = (dx * c + dy * s) / np.float32(a), (dy * c - dx * s) / np.float32(b)
            away = np.sqrt(u * u + v * v)
        return Patch(rows, columns, _soft((1 - away) * np.float32(min(a, b) * self.size)))

    def polygon(self, *outlines: ArrayLike) -> Patch:
        """The inside of closed outlines through points (n, 2): each scan line adds its exact share to a pixel.

        Several outlines that run the same way round are painted as one, without double cover where they overlap.
        """
        parts = [np.asarray(points, np.float64) * self.size for points in outlines]
        x, y = np.concatenate(parts).T
        to_x, to_y = np.concatenate([np.concatenate([part[1:], part[:1]]) for part in parts]).T
        left, right = (min(max(edge, 0), self.size) for edge in (math.floor(x.min()), math.ceil(x.max())))
        top, bottom = (min(max(edge, 0), self.size) for edge in (math.floor(y.min()), math.ceil(y.max())))
        width, height = right - left, bottom - top
        if width <= 0 or height <= 0:  # beyond the borders
            return Patch(slice(0, 0), slice(0, 0), np.zeros((0, 0), np.float32))
        first, last = (np.ceil(2 * end(y, to_y) - 0.5).astype(np.int64) for end in (np.minimum, np.maximum))
        first, last = (
            np.minimum(np.maximum(first, 2 * top), 2 * bottom),
            np.minimum(np.maximum(last, 2 * top), 2 * bottom),
        )
        lines = last - first  # how many scan lines cross an edge; there are two in each row of pixels
        edge = np.repeat(np.arange(len(x)), lines)
        scan = np.arange(len(edge)) - np.repeat(np.cumsum(lines) - lines - first, lines)
        slope = (to_x - x)[edge] / (to_y - y)[edge]
        at = np.minimum(np.maximum(x[edge] + ((scan + 0.5) / 2 - y[edge]) * slope - left, 0), width)
        sign = np.where(to_y > y, 0.5, -0.5)[edge]
        column = at.astype(np.int64)
        cell, count = (scan // 2 - top) * (width + 2) + column, height * (width + 2)
        share = np.bincount(cell, sign * (column + 1 - at), count) + np.bincount(cell + 1, sign * (at - column), count)
        cover = np.abs(np.cumsum(share.reshape(height, width + 2), 1))[:, :width]
        return Patch(slice(top, bottom), slice(left, right), np.minimum(cover, 1).astype(np.float32))

    def box(self, x: float, y: float, a: float, b: float, turn: float = 0.0) -> Patch:
        """A rectangle of half sides `a` and `b` that is turned clockwise."""
        rows, columns, dx, dy = self.window(x, y, math.sqrt(a * a + b * b))
        c, s = direction(turn)
        u, v, scale = np.abs(dx * c + dy * s), np.abs(dy * c - dx * s), np.float32(self.size)
        return Patch(rows, columns, _soft((np.float32(a) - u) * scale) * _soft((np.float32(b) - v) * scale))

    def stroke(self, points: ArrayLike, width: ArrayLike) -> Patch:
        """A line through points (n, 2); its width is one number or one per point."""
        return self.polygon(outline(points, width))

    def window(self, x: float, y: float, reach: float) -> tuple[slice, slice, Floats, Floats]:
        """The rows and columns within `reach` of a place, and their offsets (1, w) and (h, 1) from it."""
        sides = []
        for centre in (float(x), float(y)):
            low = max(round((centre - reach) * self.size) - 1, 0)
            high = min(round((centre + reach) * self.size) + 1, self.size)
            span = slice(low, max(low, high))
            sides.append((span, self.line[span] - np.float32(centre)))
        (columns, dx), (rows, dy) = sides
        return rows, columns, dx[None], dy[:, None]

    def finished(self) -> Floats:
        """The picture (side, side, 3) in its final size."""
        return shrunk(self.pixels)


def outline(points: ArrayLike, width: ArrayLike) -> Points:
    """The closed outline (2 n, 2) of a line through points (n, 2), to be painted as a polygon."""
    line = np.asarray(points, np.float64)
    along = np.concatenate([line[1:2] - line[:1], line[2:] - line[:-2], line[-1:] - line[-2:-1]])
    across = along[:, ::-1] * (-1, 1) / np.maximum(np.sqrt((along * along).sum(1, keepdims=True)), 1e-9)
    half = np.broadcast_to(np.asarray(width, np.float64), len(line))[:, None] / 2
    return np.concatenate([line + across * half, (line - across * half)[::-1]])


def _soft(inside: Any) -> Floats:
    """Coverage of a pixel whose centre lies so many pixels inside an edge."""
    return np.minimum(np.maximum(inside + np.float32(0.5), 0), 1)


def shrunk(pixels: Floats) -> Floats:
    """The mean of each SHARP x SHARP block of (..., height, width, 3)."""
    rows = sum((pixels[..., k::SHARP, :, :] for k in range(1, SHARP)), pixels[..., ::SHARP, :, :])
    total: Floats = sum((rows[..., k::SHARP, :] for k in range(1, SHARP)), rows[..., ::SHARP, :])
    return total * np.float32(1 / SHARP**2)


def developed(rng: Generator, pictures: Floats, grain: float = 0.03, light: float = 0.15) -> Pixels:
    """Photograph pictures (N, h, w, 3): vary exposure, contrast and colour cast by up to `light`, add grain, round."""
    shape = (len(pictures), 1, 1)
    gain = between(rng, 1 - light, 1 + light, (*shape, 1)) * between(rng, 1 - light / 3, 1 + light / 3, (*shape, 3))
    lift = between(rng, -light / 2, light / 2, (*shape, 1))
    out = np.empty(pictures.shape, np.uint8)
    for k, picture in enumerate(pictures):
        dust = rng.random((2, *picture.shape), np.float32).sum(0) - 1
        value = (picture - np.float32(0.5)) * gain[k] + np.float32(0.5) + lift[k] + dust * np.float32(1.7 * grain)
        out[k] = np.clip(value * 255 + np.float32(0.5), 0, 255)
    return out


def generator(*seed: int | str) -> Generator:
    """Random numbers that depend on all of the seeds, numbers or words, and on nothing else."""
    numbers = [int.from_bytes(part.encode(), "little") if isinstance(part, str) else part for part in seed]
    return Generator(PCG64(SeedSequence(numbers)))


def grid(size: int = SHARP * SIDE) -> tuple[Floats, Floats]:
    """The x (1, size) and y (size, 1) of pixel centres."""
    line = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return line[None], line[:, None]


def between(rng: Generator, low: float, high: float, size: int | tuple[int, ...] | None = None) -> Any:
    """Uniform random numbers in float32: one, or an array."""
    return np.float32(low) + np.float32(high - low) * rng.random(size, np.float32)


def noise(rng: Generator, cells: int, size: int = SHARP * SIDE, octaves: int = 1) -> Floats:
    """Smooth random hills (size, size) in 0..1; each octave adds hills half as wide and half as high."""
    total, height = np.zeros((size, size), np.float32), np.float32(1)
    for _ in range(octaves):
        place = grid(size)[1] * cells
        low = np.minimum(place.astype(np.int64), cells - 1)
        weight, low = smoothstep(place - low), low[:, 0]
        hills = rng.random((cells + 1, cells + 1), np.float32)
        for _ in "xy":  # along one axis, then along the other
            hills = np.ascontiguousarray(hills.T)
            hills = hills[low] + weight * (hills[low + 1] - hills[low])
        total += height * hills
        cells, height = 2 * cells, height / 2
    return total / (2 - 2 * height)


def nearest(
    rng: Generator, cells: int, x: Floats, y: Floats, jitter: float = 0.8
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Scatter one seed per cell of a grid: distances to the nearest seed and to the second, and the nearest's number.

    Distances are in cells; x and y may be any fields over the unit square that broadcast against each other.
    """
    seeds = np.float32(0.5) + np.float32(jitter) * (rng.random((2, cells + 2, cells + 2), np.float32) - np.float32(0.5))
    x, y = np.broadcast_arrays(x * cells, y * cells)
    column, row = (np.clip(np.floor(place).astype(np.int64), 0, cells - 1) for place in (x, y))
    first = np.full(x.shape, 9, np.float32)
    second, number = first.copy(), np.zeros(x.shape, np.int64)
    for r in (-1, 0, 1):
        for c in (-1, 0, 1):
            i, j = row + r, column + c
            cell = (i + 1) * (cells + 2) + j + 1
            dx, dy = x - j - seeds[0].ravel()[cell], y - i - seeds[1].ravel()[cell]
            away = dx * dx + dy * dy
            second = np.minimum(second, np.maximum(first, away))
            number = np.where(away < first, cell, number)
            first = np.minimum(first, away)
    return np.sqrt(first), np.sqrt(second), number


def smoothstep(value: Any, low: float = 0.0, high: float = 1.0) -> Any:
    """Rise from 0 at `low` to 1 at `high` without a kink."""
    step = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    return step * step * (3 - 2 * step)


def sine(turns: Any) -> Any:
    """The sine of an angle in turns, within 1e-5, from exactly rounded operations alone."""
    turns = np.asarray(turns)
    t = turns - np.floor(turns + 0.5)
    x = np.where(np.abs(t) > 0.25, np.copysign(0.5, t).astype(t.dtype) - t, t) * TAU
    q = x * x
    return x * (1 + q * (C3 + q * (C5 + q * (C7 + q * C9))))


def cosine(turns: Any) -> Any:
    """The cosine of an angle in turns, as `sine`."""
    return sine(np.asarray(turns) + 0.25)


def direction(turn: float) -> tuple[float, float]:
    """The unit vector that an angle points to; 0 is right and 0.25 is down. As `sine`, and fast for a single angle."""
    values = []
    for t in (float(turn) + 0.25, float(turn)):
        t -= math.floor(t + 0.5)
        x = (math.copysign(0.5, t) - t if abs(t) > 0.25 else t) * TAU
        values.append(x * (1 + x * x * (C3 + x * x * (C5 + x * x * (C7 + x * x * C9)))))
    return values[0], values[1]


def turned(points: ArrayLike, turn: float) -> Points:
    """Points (n, 2) turned clockwise around the origin."""
    c, s = direction(turn)
    points = np.asarray(points, np.float64)
    return points * c + points[:, ::-1] * (-s, s)


def hue(colour: Any, strength: Any = 1.0, value: Any = 1.0) -> Floats:
    """The RGB of a hue in turns (0 red, 1/3 green, 2/3 blue), a saturation and a brightness; broadcasts to (..., 3)."""
    wheel = np.asarray(colour, np.float32)[..., None] * 6 + np.array([0, 4, 2], np.float32)
    pure = np.clip(np.abs(wheel - 6 * np.floor(wheel / 6) - 3) - 1, 0, 1)
    strength, value = np.asarray(strength, np.float32)[..., None], np.asarray(value, np.float32)[..., None]
    return value * (1 - strength + strength * pure)


def blend(low: ArrayLike, high: ArrayLike, weight: Any) -> Floats:
    """From the colour `low` at weight 0 to `high` at weight 1; the weight (h, w) gives (h, w, 3)."""
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return low + np.asarray(weight, np.float32)[..., None] * (high - low)
