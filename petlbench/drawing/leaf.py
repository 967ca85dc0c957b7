"""Leaves of eight plants as outlines, with veins and a shadow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from petlbench.drawing.canvas import Canvas, between, cosine, direction, hue, noise, sine, turned

Points = NDArray[np.float64]
"""Points (n, 2); a leaf stands upright from its stalk at (0, 0.5) to its tip at (0, -0.5)."""


def oak(rng: Generator) -> list[Points]:
    """Rounded lobes on both sides."""
    lobes = int(rng.integers(3, 5))
    return [_blade(lambda t: _belly(t, 0.62) * (0.5 + 0.5 * np.sqrt(np.abs(sine(lobes * t / 2 + 0.02)))), 0.32)]


def maple(rng: Generator) -> list[Points]:
    """Five pointed lobes that spread like fingers, each with teeth."""
    outline = [(0.02, 0.16)]
    edge = ((-0.085, 0.42), (-0.06, 0.76), (-0.04, 0.66), (0.0, 1.0), (0.04, 0.66), (0.06, 0.76), (0.085, 0.42))
    for turn, length in ((-0.34, 0.36), (-0.17, 0.52), (0.0, 0.6), (0.17, 0.52), (0.34, 0.36)):
        for offset, part in edge:
            c, s = direction(turn - 0.25 + offset)
            reach = part * length * float(between(rng, 0.95, 1.05))
            outline.append((c * reach, s * reach + 0.12))
    return [np.array([*outline, (-0.02, 0.16)])]


def willow(rng: Generator) -> list[Points]:
    """Long and narrow, pointed at both ends."""
    return [_blade(lambda t: _belly(t, 0.5), float(between(rng, 0.09, 0.13)))]


def linden(rng: Generator) -> list[Points]:
    """A heart with fine teeth, the stalk in its notch."""
    t = np.linspace(0, 1, 120, endpoint=False)
    x = sine(t)
    y = 13 * cosine(t) - 5 * cosine(2 * t) - 2 * cosine(3 * t) - cosine(4 * t)
    tooth = 1 + 0.03 * sine(26 * t)
    return [np.stack([0.4 * x * x * x * tooth, 0.03 * y * tooth + 0.02], -1)]


def fern(rng: Generator) -> list[Points]:
    """Many narrow leaflets in pairs along one stalk, shorter towards the tip."""
    pairs, parts = int(rng.integers(7, 10)), []
    for k in range(pairs):
        place, length = (0, 0.38 - 0.82 * k / (pairs - 1)), 0.4 - 0.34 * k / pairs
        parts += [_leaflet(place, side * 0.2 - 0.25, length, 0.035) for side in (-1, 1)]
    return [*parts, _leaflet((0, -0.38), -0.25, 0.12, 0.03)]


def clover(rng: Generator) -> list[Points]:
    """Three round leaflets with a notch, from one point."""
    notch = float(between(rng, 0.05, 0.09))
    t = np.linspace(-0.5, 0.5, 40)
    radius = 0.24 * (1 - 0.9 * np.maximum(1 - np.abs(t) / 0.09, 0) * notch * 4)
    heart = np.stack([radius * sine(t), -0.22 - radius * cosine(t)], -1)
    return [turned(heart, turn) + np.array([0, 0.08]) for turn in (-0.31, 0.0, 0.31)]


def holly(rng: Generator) -> list[Points]:
    """Spines along the edge, with hollow curves between them."""
    spines = int(rng.integers(4, 6))
    return [_blade(lambda t: _belly(t, 0.5) * (0.6 + 1.8 * (t * spines % 1 - 0.5) * (t * spines % 1 - 0.5)), 0.3)]


def ginkgo(rng: Generator) -> list[Points]:
    """A fan on a long stalk, with a cleft in the middle."""
    t = np.linspace(-1, 1, 60)
    radius = 0.62 + 0.015 * sine(t * 2.3 + rng.random()) - 0.22 * np.maximum(1 - np.abs(t) / 0.1, 0)
    spread = float(between(rng, 0.16, 0.2))
    fan = np.stack([radius * sine(t * spread), 0.2 - radius * cosine(t * spread)], -1)
    return [np.concatenate([[(0, 0.22)], fan])]


LEAVES: dict[str, Callable[[Generator], list[Points]]] = {
    leaf.__name__: leaf for leaf in (oak, maple, willow, linden, fern, clover, holly, ginkgo)
}


def leaf(rng: Generator, kind: str) -> Canvas:
    """One leaf of a kind at a random place, turn and size, before earth, snow, sky or paper."""
    ground = hue(rng.random(), between(rng, 0.05, 0.5), between(rng, 0.3, 0.95))
    canvas = Canvas(ground * (np.float32(0.7) + np.float32(0.6) * noise(rng, 5, octaves=3))[..., None])
    size, turn = float(between(rng, 0.6, 0.92)), float(between(rng, -0.5, 0.5))
    squeeze = np.array([float(between(rng, 0.85, 1.1)), 1.0])
    place = between(rng, 0.42, 0.58, 2)

    def put(points: Points) -> Points:
        return turned(points * squeeze, turn) * size + place

    season = hue(between(rng, 0.02, 0.38), between(rng, 0.45, 0.85), between(rng, 0.35, 0.8))
    if abs(float((season - ground).sum())) < 0.3:
        season = season * np.float32(0.5)
    parts = LEAVES[kind](rng)
    for points in parts:
        canvas.paint(canvas.polygon(put(points) + 0.025), (0.05, 0.05, 0.05), 0.45)
    stalk = put(np.stack([np.zeros(6), np.linspace(-0.3, 0.5, 6)], -1))
    canvas.paint(canvas.stroke(stalk, 0.02), season * np.float32(0.6))
    shade = np.float32(0.75) + np.float32(0.5) * noise(rng, 4, octaves=2)
    for points in parts:
        patch = canvas.polygon(put(points))
        canvas.paint(patch, season * shade[patch.rows, patch.columns][..., None], instance=1)
        middle = points.mean(0)
        far = points[np.abs(points - (0, 0.2)).sum(1).argmax()]
        near = 2 * middle - far if len(parts) > 1 else np.array([0, 0.3])
        vein = put(np.stack([near, middle, far * 0.9 + middle * 0.1]))
        canvas.paint(canvas.stroke(vein, 0.012), season * np.float32(1.5), 0.7)
    return canvas


def _blade(width: Callable[[Points], Points], half: float) -> Points:
    """A leaf that is symmetrical about its middle; `width` goes from stalk 0 to tip 1."""
    t = np.linspace(0, 1, 48)
    side = half * width(t)
    return np.concatenate([np.stack([side, 0.42 - 0.9 * t], -1), np.stack([-side, 0.42 - 0.9 * t], -1)[::-1]])


def _belly(t: Points, widest: float) -> Points:
    """From 0 at both ends to 1 at the widest place."""
    return np.where(t < widest, sine(0.25 * t / widest), sine(0.25 * (1 - t) / (1 - widest)))


def _leaflet(place: tuple[float, float], turn: float, length: float, half: float) -> Points:
    """A narrow blade that points away from a place."""
    t = np.linspace(0, 1, 10)
    side = half * sine(t / 2)
    points = np.concatenate([np.stack([t * length, side], -1), np.stack([t * length, -side], -1)[::-1]])
    return turned(points, turn) + np.array(place)
