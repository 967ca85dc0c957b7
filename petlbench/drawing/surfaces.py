"""Ten materials seen close up, each from fields over the whole picture: colour, relief, light from one side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator

from petlbench.drawing.canvas import (
    SHARP,
    SIDE,
    Floats,
    between,
    blend,
    direction,
    grid,
    hue,
    nearest,
    noise,
    smoothstep,
)

SIZE = SHARP * SIDE


def wood(rng: Generator) -> Floats:
    """Planks with the rings of the tree cut lengthwise, and a knot now and then."""
    u, v = _frame(rng, between(rng, 0.8, 1.3))
    plank = np.floor(v * 2.5)
    shift = np.float32(7.3) * plank * plank + np.float32(0.3) * noise(rng, 2, octaves=2)
    x, y, size = between(rng, 0.1, 0.9), between(rng, 0.1, 0.9), between(rng, 0.03, 0.1)
    knot = size / (size + (u - x) * (u - x) + 3 * (v - y) * (v - y))
    ring = v * between(rng, 5, 9) + shift + np.float32(0.8) * noise(rng, 3, octaves=2) + between(rng, 1, 3) * knot
    ring = ring - np.floor(ring)
    grain = ring * ring * np.float32(0.75) + np.float32(0.2) * _streaks(rng, u, v)
    gap = smoothstep(np.abs(v * 2.5 - plank - np.float32(0.5)), 0.44, 0.5)
    tone = hue(between(rng, 0.05, 0.1), between(rng, 0.4, 0.65), between(rng, 0.55, 0.95))
    return blend(tone, tone * np.float32(0.55), grain) * (1 - np.float32(0.75) * gap)[..., None]


def bricks(rng: Generator) -> Floats:
    """A wall: each course is shifted by half a brick, the joints are of mortar."""
    scale = between(rng, 4.0, 6.5)
    u, v = _frame(rng, scale, upright=True)
    u, v = u + np.float32(0.06) * noise(rng, 8), v * np.float32(1.9) + np.float32(0.06) * noise(rng, 8)
    row = np.floor(v)
    u = u * np.float32(0.85) + row * np.float32(0.5)
    column = np.floor(u)
    a, b = np.abs(u - column - np.float32(0.5)), np.abs(v - row - np.float32(0.5))
    joint = np.maximum(smoothstep(a, 0.44, 0.475), smoothstep(b, 0.39, 0.45))
    clay = hue(between(rng, 0.0, 0.06), between(rng, 0.4, 0.7), between(rng, 0.5, 0.75))
    tone = (
        np.float32(0.7)
        + np.float32(0.5) * _dice(rng, column, row)
        + np.float32(0.3) * (noise(rng, 24) - np.float32(0.5))
    )
    return blend(clay * tone[..., None], np.full(3, between(rng, 0.55, 0.8)), joint)


def wool(rng: Generator) -> Floats:
    """Knitting: columns of V-shaped stitches, each a pair of slanted, rounded loops."""
    u, v = _frame(rng, between(rng, 5.0, 8.0), upright=True)
    u, v = u + np.float32(0.3) * noise(rng, 3), v + np.float32(0.3) * noise(rng, 3)
    side = u - np.floor(u) - np.float32(0.5)
    rise = v * np.float32(1.5) + np.abs(side) * np.float32(1.1)
    along = rise - np.floor(rise) - np.float32(0.5)
    loop = 1 - 4 * along * along
    across = np.abs(np.abs(side) - np.float32(0.25)) * 4
    height = loop * (1 - across * across * np.float32(0.9))
    fibre = np.float32(0.25) * (noise(rng, 40) - np.float32(0.5))
    yarn = _paint(rng)
    other = _paint(rng) if rng.random() < 0.5 else yarn
    stripe = (np.floor(rise / 4) % 2 == 0).astype(np.float32)
    return blend(yarn, other, stripe) * (np.float32(0.25) + np.float32(0.8) * np.maximum(height + fibre, 0))[..., None]


def coral(rng: Generator) -> Floats:
    """A labyrinth grown by an activator that helps its neighbours and an inhibitor that reaches further (Turing)."""
    reach, level = int(rng.integers(2, 4)), between(rng, -0.12, 0.12)
    field: Any = rng.random((SIDE, SIDE), np.float32) - np.float32(0.5)
    for _ in range(10):
        near = _spread(_spread(field, reach // 2 + 1), reach // 2 + 1)
        far = _spread(_spread(near, reach), reach)
        field = np.clip(field + 6 * (near - far) + level * np.float32(0.05), -1, 1)
    field = _spread(field, 1)
    relief = _enlarged(field)
    light = _relief(relief, rng, 0.6)
    ridge, valley = _paint(rng), _paint(rng) * np.float32(0.5)
    return blend(valley, ridge, smoothstep(relief, -0.4, 0.4)) * light[..., None]


def marble(rng: Generator) -> Floats:
    """Polished stone with thin bent veins that fade in and out."""
    x, y = grid()
    c, s = (np.float32(value) for value in direction(rng.random()))
    slope = (x - np.float32(0.5)) * c + (y - np.float32(0.5)) * s
    pale = rng.random() < 0.7
    stone = hue(rng.random(), between(rng, 0.0, 0.2), between(rng, 0.75, 0.95) if pale else between(rng, 0.15, 0.35))
    total = np.float32(0.5) * noise(rng, 3, octaves=4)
    for size, weight in ((2, 1.2), (3, 1.0), (5, 0.6)):
        crack = np.abs(noise(rng, size, octaves=4) - np.float32(0.5) + np.float32(0.5) * slope)
        total = total + np.float32(weight) * noise(rng, 3) * np.float32(0.015) / (crack + np.float32(0.015))
    vein = stone * np.float32(0.45) if pale else np.full(3, 0.85, np.float32)
    return blend(stone, vein, np.minimum(total * np.float32(0.8), 1))


def cloth(rng: Generator) -> Floats:
    """Plain weave: threads that pass over and under each other, in the colours of warp and weft, with creases."""
    u, v = _frame(rng, between(rng, 8, 13))
    u, v = u + np.float32(0.5) * noise(rng, 3), v + np.float32(0.5) * noise(rng, 3)
    column, row = np.floor(u), np.floor(v)
    a, b = u - column - np.float32(0.5), v - row - np.float32(0.5)
    over = (column + row) % 2 == 0
    warp = (1 - 4 * a * a) * (1 - np.float32(1.5) * b * b)
    weft = (1 - 4 * b * b) * (1 - np.float32(1.5) * a * a)
    first, second = _paint(rng), _paint(rng)
    band = (np.floor(column / 4) % 2 == 0)[..., None]
    first = np.where(band, first, _paint(rng))
    thread = np.where(over[..., None], first * warp[..., None], second * weft[..., None])
    return thread * (np.float32(0.55) + np.float32(0.9) * noise(rng, 3, octaves=2))[..., None]


def pebbles(rng: Generator) -> Floats:
    """Round stones of many colours, side by side in the dark, shaded as domes."""
    x, y = grid()
    x, y = (at + np.float32(0.03) * noise(rng, 6) for at in (x, y))
    cells = int(rng.integers(4, 8))
    near, second, number = nearest(rng, cells, x, y, jitter=0.6)
    radius = between(rng, 0.48, 0.62, 999)[number]
    dome = np.sqrt(np.maximum(1 - near * near / (radius * radius), 0))
    light = _relief(dome * np.float32(4 / cells), rng, 1.2)
    tones = hue(between(rng, 0.02, 0.15, 999), between(rng, 0.0, 0.35, 999), between(rng, 0.4, 0.95, 999))
    speckle = np.float32(0.85) + np.float32(0.3) * noise(rng, 40)
    gap = smoothstep(second - near, 0.0, 0.12) * smoothstep(dome, 0.0, 0.5)
    return tones[number] * (speckle * light * (np.float32(0.12) + np.float32(0.88) * gap))[..., None]


def tiles(rng: Generator) -> Floats:
    """A roof: rows of rounded tiles that overlap like scales, each with a shadow on the row below."""
    u, v = _frame(rng, between(rng, 4, 7), upright=True)
    u, v = u + np.float32(0.05) * noise(rng, 8), v * np.float32(1.15)
    best = np.full((SIZE, SIZE), -1, np.float32)
    tone = np.zeros((SIZE, SIZE), np.float32)
    for step in (1, 0):  # the row above lies on top of the row below
        row = np.floor(v) + step
        across = u + row * np.float32(0.5)
        column = np.floor(across)
        a, down = across - column - np.float32(0.5), v - row + 1
        inside = down - np.float32(0.3) + 2 * a * a * np.float32(0.7)
        covers = (inside < 1) & (down > 0)
        shade = np.float32(0.95) - np.float32(1.3) * a * a - np.float32(0.5) * smoothstep(inside, 0.9, 1.0)
        shade = shade * (np.float32(0.45) + np.float32(0.55) * smoothstep(down, 0.15, 0.55))
        best, tone = np.where(covers, shade, best), np.where(covers, _dice(rng, column, row), tone)
    clay = hue(between(rng, 0.0, 0.08), between(rng, 0.1, 0.75), between(rng, 0.55, 0.95))
    weather = (
        np.float32(0.7) + np.float32(0.35) * tone + np.float32(0.3) * (noise(rng, 12, octaves=2) - np.float32(0.5))
    )
    return clay * (np.maximum(best, np.float32(0.05)) * weather)[..., None]


def grass(rng: Generator) -> Floats:
    """Blades of a lawn: narrow strokes that lean about one way, the later over the earlier."""
    height, tone = np.zeros((SIZE, SIZE), np.float32), np.zeros((SIZE, SIZE), np.float32)
    lean = float(rng.random())
    for layer in range(5):
        u, v = _frame(rng, 1.0, turn=lean + 0.07 * float(between(rng, -1, 1)))
        bend = np.float32(0.12) * noise(rng, 3)
        u, v = (u + bend) * between(rng, 22, 34), v * between(rng, 4, 6)
        column = np.floor(u)
        v = v + np.float32(9) * _dice(rng, column, column * 0)
        row = np.floor(v)
        a, b = np.abs(u - column - np.float32(0.5)), v - row
        blade = (a < np.float32(0.42) * (1 - b * b)) & (_dice(rng, column, row) < 0.6)
        lit = np.float32(0.35) + np.float32(0.5) * b + np.float32(0.3) * _dice(rng, column, row) - a * np.float32(0.3)
        height = np.where(blade, lit * np.float32(0.6 + 0.1 * layer), height * np.float32(0.85))
        tone = np.where(blade, _dice(rng, row, column), tone)
    green = hue(between(rng, 0.2, 0.32), between(rng, 0.5, 0.8), between(rng, 0.7, 1.0))
    dry = hue(between(rng, 0.12, 0.18), np.float32(0.5), between(rng, 0.8, 1.0))
    return blend(green, dry, tone * between(rng, 0.0, 0.8)) * height[..., None]


def wicker(rng: Generator) -> Floats:
    """Basketry: rows of cane that run over one stake and under the next."""
    u, v = _frame(rng, between(rng, 3.5, 6.0), upright=True)
    v = v * np.float32(2.2)
    row, stake = np.floor(v), np.floor(u + np.float32(0.5))
    b, a = (v - row - np.float32(0.5)) * 2, u - stake
    over = np.where((row + stake) % 2 == 0, 1, -1)
    bulge = np.float32(0.62) + np.float32(0.38) * over * (1 - 4 * np.abs(a))
    strip = (1 - np.float32(0.75) * b * b) * bulge
    side = a / np.float32(0.17)
    shown = (over < 0) & (np.abs(side) < 1)
    light = np.where(shown, np.float32(0.8) - np.float32(0.5) * side * side, strip)
    cane = hue(between(rng, 0.06, 0.12), between(rng, 0.3, 0.65), between(rng, 0.75, 1.0))
    tone = (
        np.float32(0.75)
        + np.float32(0.3) * _dice(rng, row, row)
        + np.float32(0.3) * (_streaks(rng, u, v) - np.float32(0.5))
    )
    return cane * (light * tone)[..., None]


SURFACES: dict[str, Callable[[Generator], Floats]] = {
    surface.__name__: surface for surface in (wood, bricks, wool, coral, marble, cloth, pebbles, tiles, grass, wicker)
}


def _frame(rng: Generator, scale: Any, upright: bool = False, turn: float | None = None) -> tuple[Any, Any]:
    """Coordinates (SIZE, SIZE) along and across a material, at a random place and turn; upright leans only a little."""
    angle = turn if turn is not None else float(between(rng, -0.04, 0.04)) if upright else float(rng.random())
    c, s = (np.float32(value) for value in direction(angle))
    x, y = grid(SIZE)
    shift = rng.random(2, np.float32) * 8
    scale = np.float32(scale)
    return (x * c + y * s) * scale + shift[0], (y * c - x * s) * scale + shift[1]


def _dice(rng: Generator, column: Floats, row: Floats) -> Floats:
    """One random number per cell of a pattern."""
    table = rng.random(4096, np.float32)
    return table[(column.astype(np.int64) * 37 + row.astype(np.int64) * 101) % 4096]


def _paint(rng: Generator) -> Floats:
    return hue(rng.random(), between(rng, 0.15, 0.75), between(rng, 0.5, 1.0))


def _streaks(rng: Generator, u: Floats, v: Floats) -> Floats:
    """Fine noise that is long along u and short along v."""
    table = rng.random((64, 64), np.float32)
    a, b = u * 3, v * 30
    i, j = np.floor(a).astype(np.int64), np.floor(b).astype(np.int64) % 64
    weight = smoothstep(a - i)
    low = table[i % 64, j]
    return low + weight * (table[(i + 1) % 64, j] - low)


def _relief(height: Floats, rng: Generator, strength: float) -> Floats:
    """Brightness of a height field under light from a random side."""
    c, s = (np.float32(value * strength * 12) for value in direction(rng.random()))
    slope = np.zeros_like(height)
    slope[1:-1, 1:-1] = c * (height[1:-1, 2:] - height[1:-1, :-2]) + s * (height[2:, 1:-1] - height[:-2, 1:-1])
    return np.float32(0.8) + np.float32(0.5) * slope / (1 + np.abs(slope))


def _spread(field: Floats, reach: int) -> Floats:
    """The mean over a square of 2 reach + 1 pixels, as on a torus."""
    for axis in (0, 1):
        field = sum((np.roll(field, step, axis) for step in range(1, reach + 1)), field) + sum(
            np.roll(field, -step, axis) for step in range(1, reach + 1)
        )
        field = field / np.float32(2 * reach + 1)
    return field


def _enlarged(field: Floats) -> Floats:
    """Twice as many pixels, each between its neighbours."""
    for _ in range(2):
        near = np.concatenate([field[:1], field[:-1]]), np.concatenate([field[1:], field[-1:]])
        three = np.float32(0.75) * field
        field = np.stack([three + np.float32(0.25) * near[0], three + np.float32(0.25) * near[1]], 1)
        field = field.reshape(-1, field.shape[-1]).T
    return field
