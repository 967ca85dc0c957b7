"""Land seen from a satellite: ten kinds of land use, each drawn at a random turn, season and scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from petlbench.drawing.canvas import (
    Canvas,
    Floats,
    Points,
    between,
    blend,
    direction,
    grid,
    nearest,
    noise,
    sine,
    smoothstep,
    turned,
)

GREENS = np.array([(0.30, 0.42, 0.18), (0.40, 0.50, 0.24), (0.22, 0.36, 0.20), (0.48, 0.52, 0.28)], np.float32)
SOILS = np.array([(0.55, 0.43, 0.30), (0.66, 0.56, 0.38), (0.45, 0.34, 0.26), (0.72, 0.64, 0.45)], np.float32)
ROOFS = np.array([(0.62, 0.30, 0.22), (0.50, 0.27, 0.22), (0.45, 0.42, 0.42), (0.68, 0.45, 0.33)], np.float32)
WATER = np.array([(0.13, 0.25, 0.36), (0.18, 0.33, 0.38), (0.10, 0.20, 0.28)], np.float32)
ASPHALT = np.array((0.42, 0.42, 0.44), np.float32)
CROWN = np.array((0.16, 0.29, 0.12), np.float32)
"""A tree from above."""


def crops(rng: Generator) -> Canvas:
    """Ploughed or sown parcels; the tracks of the machines run along each parcel in its own direction."""
    canvas = Canvas(_parcels(rng, furrows=True))
    if rng.random() < 0.3:
        _trees(rng, canvas, int(rng.integers(2, 8)))
    return canvas


def pivots(rng: Generator) -> Canvas:
    """Round fields in dry land, watered by an arm that turns around their middle."""
    canvas = Canvas(_rough(rng, SOILS[rng.integers(len(SOILS))]))
    radius = float(between(rng, 0.17, 0.36))
    step, turn, (ox, oy) = 2 * radius * float(between(rng, 1.03, 1.2)), rng.random(), rng.random(2)
    for i in range(-3, 4):
        for j in range(-3, 4):
            x, y = turned([((i + ox) * step, (j + oy) * step)], turn)[0] + 0.5
            if max(abs(x - 0.5), abs(y - 0.5)) < 0.5 + radius and rng.random() < 0.9:
                green = _pick(rng, GREENS) if rng.random() < 0.7 else _pick(rng, SOILS)
                canvas.paint(canvas.ellipse(x, y, radius), green * np.float32(0.9))
                canvas.paint(canvas.ellipse(x, y, radius * 0.6), green * between(rng, 0.85, 1.15))
                end = np.array(direction(rng.random())) * radius
                canvas.paint(canvas.stroke([(x, y), (x + end[0], y + end[1])], 0.012), (0.85, 0.85, 0.8), 0.8)
    return canvas


def orchard(rng: Generator) -> Canvas:
    """Trees of one size in a regular grid, each with its shadow."""
    canvas = Canvas(_rough(rng, _pick(rng, SOILS if rng.random() < 0.6 else GREENS + np.float32(0.1))))
    step, turn = float(between(rng, 0.10, 0.17)), rng.random()
    stretch = float(between(rng, 0.8, 1.0))
    radius, count = step * float(between(rng, 0.28, 0.4)), int(0.75 / step)
    places = [(i * step, j * step * stretch) for i in range(-count, count + 1) for j in range(-count, count + 1)]
    _crowns(rng, canvas, turned(places, turn) + 0.5 + between(rng, -0.1, 0.1, (len(places), 2)) * step, radius)
    return canvas


def forest(rng: Generator) -> Canvas:
    """Crowns close together, with light from one side; sometimes a clearing or a track."""
    x, y = grid()
    turn, cells = direction(rng.random()), int(rng.integers(9, 17))
    near, second, number = nearest(rng, cells, x, y, jitter=0.9)
    lit, _, _ = nearest(rng, cells, x + turn[0] * np.float32(0.3 / cells), y + turn[1] * np.float32(0.3 / cells))
    height = (1 - near) * np.float32(0.6) + smoothstep(second - near, 0, 0.3) * np.float32(0.4)
    tone = rng.random((cells + 2) ** 2, np.float32)[number]
    shade = height * (np.float32(0.75) + np.float32(0.35) * tone) + np.float32(0.12) * (lit - near)
    canvas = Canvas(blend((0.04, 0.08, 0.05), _pick(rng, GREENS[:3]) + np.float32(0.08), shade))
    if rng.random() < 0.3:
        canvas.paint(canvas.stroke(_winding(rng, 0.05), 0.03), _pick(rng, SOILS), 0.8)
    return canvas


def river(rng: Generator) -> Canvas:
    """A winding band of water with sandy banks through fields or woods."""
    canvas = Canvas(_parcels(rng, furrows=False))
    line, width = _winding(rng, float(between(rng, 0.06, 0.16))), float(between(rng, 0.08, 0.2))
    widths = width * (np.float32(0.8) + np.float32(0.4) * noise(rng, 5, len(line))[0])
    canvas.paint(canvas.stroke(line, widths + np.float32(0.05)), _pick(rng, SOILS), 0.7)
    canvas.paint(canvas.stroke(line, widths), _pick(rng, WATER))
    _trees(rng, canvas, int(rng.integers(0, 25)))
    return canvas


def highway(rng: Generator) -> Canvas:
    """Two carriageways with white lines and cars, nearly straight; often a road that crosses."""
    canvas = Canvas(_parcels(rng, furrows=False))
    _trees(rng, canvas, int(rng.integers(0, 15)))
    width = float(between(rng, 0.09, 0.13))
    line = _winding(rng, float(between(rng, 0.0, 0.03)))
    if rng.random() < 0.5:
        canvas.paint(canvas.stroke(_winding(rng, 0.02), 0.06), ASPHALT * np.float32(0.95))
    across = np.gradient(line, axis=0)[:, ::-1] * (-1, 1)
    across /= np.sqrt((across * across).sum(1, keepdims=True))
    canvas.paint(canvas.stroke(line, 2 * width + 0.07), ASPHALT * np.float32(0.8) + np.float32(0.12))
    for side in (-0.5, 0.5):
        lane = line + across * side * (width + 0.025)
        canvas.paint(canvas.stroke(lane, width), ASPHALT * between(rng, 0.8, 1.0))
        for first in range(0, len(line) - 2, 4):
            canvas.paint(canvas.stroke(lane[first : first + 3], 0.012), (0.95, 0.95, 0.95))
        for at in rng.integers(1, len(line) - 1, rng.integers(1, 5)):
            x, y = lane[at] + across[at] * (width / 4) * (1 if rng.random() < 0.5 else -1)
            body = [(-0.032, -0.014), (0.032, -0.014), (0.032, 0.014), (-0.032, 0.014)]
            forward = across[at][::-1] * (1, -1)
            corners = [
                (x + a * forward[0] + b * across[at][0], y + a * forward[1] + b * across[at][1]) for a, b in body
            ]
            canvas.paint(canvas.polygon(corners), rng.random(3, np.float32) * np.float32(0.9), instance=1)
    return canvas


def houses(rng: Generator) -> Canvas:
    """Rows of small pitched roofs along streets, with gardens and trees."""
    canvas = Canvas(_rough(rng, _pick(rng, GREENS) + np.float32(0.05)))
    turn, plot = float(rng.random()), float(between(rng, 0.17, 0.23))
    middle = between(rng, 0.4, 0.6, 2)
    for row in range(-4, 5):
        if row % 2 == 0:
            ends = turned([(-1, row * plot * 1.15), (1, row * plot * 1.15)], turn) + middle
            canvas.paint(canvas.stroke(ends, 0.06), ASPHALT + between(rng, -0.05, 0.15))
    ends = turned([(plot / 2, -1), (plot / 2, 1)], turn) + middle
    canvas.paint(canvas.stroke(ends, 0.055), ASPHALT)
    for row in range(-4, 4):
        for column in range(-5, 5):
            x, y = turned([(column * plot, (row + 0.5) * plot * 1.15)], turn)[0] + middle
            if -0.1 < x < 1.1 and -0.1 < y < 1.1 and rng.random() < 0.88:
                a, b = plot * float(between(rng, 0.24, 0.36)), plot * float(between(rng, 0.2, 0.28))
                _house(rng, canvas, x, y, a, b, turn + 0.25 * float(rng.integers(2)))
    _trees(rng, canvas, int(rng.integers(10, 30)), radius=0.03)
    return canvas


def industry(rng: Generator) -> Canvas:
    """Large flat halls with skylights on paved ground, with parked lorries."""
    canvas = Canvas(_rough(rng, ASPHALT + between(rng, 0.05, 0.2)))
    turn, pitch = float(rng.random()), float(between(rng, 0.42, 0.62))
    middle = between(rng, 0.3, 0.7, 2)
    for i in range(-2, 3):
        for j in range(-2, 3):
            x, y = turned([(i * pitch, j * pitch * 0.8)], turn)[0] + middle
            if max(abs(x - 0.5), abs(y - 0.5)) > 0.85:
                continue
            a, b = pitch * float(between(rng, 0.33, 0.43)), pitch * float(between(rng, 0.22, 0.32))
            if rng.random() < 0.15:
                canvas.paint(canvas.box(x, y, a, b, turn), _pick(rng, GREENS))
                continue
            roof = between(rng, 0.6, 0.92) * np.array((1.0, 0.99, 0.97), np.float32) - between(rng, 0, 0.12, 3)
            canvas.paint(canvas.box(x + 0.025, y + 0.025, a, b, turn), (0.1, 0.1, 0.12), 0.6)
            canvas.paint(canvas.box(x, y, a, b, turn), roof)
            strips = int(rng.integers(3, 7))
            for k in range(strips):
                u = (2 * (k + 0.5) / strips - 1) * a
                dx, dy = turned([(u, 0)], turn)[0]
                canvas.paint(canvas.box(x + dx, y + dy, a * 0.04 + 0.006, b * 0.7, turn), roof * np.float32(0.6))
            for k in range(int(rng.integers(0, 6))):
                dx, dy = turned([(-a + (k + 0.5) * 0.05, b + 0.045)], turn)[0]
                canvas.paint(canvas.box(x + dx, y + dy, 0.013, 0.032, turn), rng.random(3, np.float32), instance=1)
    return canvas


def harbour(rng: Generator) -> Canvas:
    """A quay with piers, and boats beside them on dark water."""
    canvas = Canvas(_rough(rng, _pick(rng, WATER), strength=0.15))
    turn, quay = float(rng.random()), float(between(rng, -0.35, -0.05))
    land = turned([(-2, -2), (2, -2), (2, quay), (-2, quay)], turn) + 0.5
    canvas.paint(canvas.polygon(land), np.float32(0.62) + between(rng, -0.1, 0.1, 3))
    for u in (-0.4, 0.0, 0.4):
        x, y = turned([(u, quay - 0.14)], turn)[0] + 0.5
        _house(rng, canvas, x, y, 0.08, 0.05, turn)
    step, length = float(between(rng, 0.22, 0.32)), float(between(rng, 0.35, 0.7))
    shift, (c, s) = rng.random() * step, direction(turn)
    for k in range(-4, 5):
        u = k * step + shift
        pier = turned([(u, quay - 0.01), (u, quay + length)], turn) + 0.5
        canvas.paint(canvas.stroke(pier, 0.025), (0.68, 0.62, 0.52))
        for side in (-1, 1):
            v = quay + 0.07
            while v < quay + length - 0.02:
                x, y = u * c - v * s, u * s + v * c
                if max(abs(x), abs(y)) < 0.65 and rng.random() < 0.75:
                    boat = float(between(rng, 0.035, 0.055))
                    bow = u + side * (0.03 + boat * 2)
                    hull = [(u + side * 0.02, v - 0.02), (bow - side * boat, v - 0.02), (bow, v)]
                    hull += [(bow - side * boat, v + 0.02), (u + side * 0.02, v + 0.02)]
                    canvas.paint(canvas.polygon(turned(hull, turn) + 0.5), between(rng, 0.8, 1.0, 3), instance=1)
                v += float(between(rng, 0.055, 0.08))
    return canvas


def dunes(rng: Generator) -> Canvas:
    """Sand in curved ridges: a slow rise towards the wind and a steep fall in the shade."""
    x, y = grid()
    c, s = direction(rng.random())
    along, across = x * np.float32(c) + y * np.float32(s), y * np.float32(c) - x * np.float32(s)
    bend = (noise(rng, 3, octaves=2) - np.float32(0.5)) * between(rng, 0.25, 0.5)
    crest = np.float32(0.04) * sine(across * between(rng, 1.5, 3.0) + rng.random(dtype=np.float32))
    phase = (along + bend + crest) * between(rng, 3.5, 6.5)
    phase = phase - np.floor(phase)
    light = np.where(
        phase < 0.72, phase / np.float32(0.72), (1 - phase) / np.float32(0.28) * np.float32(0.9) - np.float32(0.25)
    )
    light = light * noise(rng, 4, octaves=2) + np.float32(0.1) * noise(rng, 24)
    sand = np.array((0.86, 0.68, 0.44), np.float32) + between(rng, -0.06, 0.06, 3)
    return Canvas(blend(sand * np.float32(0.55), sand * np.float32(1.12), np.clip(light * np.float32(1.6), 0, 1)))


LAND: dict[str, Callable[[Generator], Canvas]] = {
    drawing.__name__: drawing
    for drawing in (crops, pivots, orchard, forest, river, highway, houses, industry, harbour, dunes)
}


def _pick(rng: Generator, colours: Floats) -> Floats:
    return colours[rng.integers(len(colours))] + between(rng, -0.05, 0.05, 3)


def _rough(rng: Generator, colour: Floats, strength: float = 0.3) -> Floats:
    """A ground that is lighter and darker in places."""
    hills = noise(rng, 4, octaves=4) - np.float32(0.5)
    return colour * (1 + np.float32(2 * strength) * hills)[..., None]


def _parcels(rng: Generator, furrows: bool) -> Floats:
    """Two to four fields side by side in different colours."""
    x, y = grid()
    turn, shift = float(rng.random()), (noise(rng, 2) - np.float32(0.5)) * np.float32(0.08)
    ground = np.empty((x.size, y.size, 3), np.float32)
    cuts = [turn, turn + 0.25 + float(between(rng, -0.05, 0.05))]
    place = between(rng, 0.25, 0.75, 2)
    sides = [
        (x - place[0]) * np.float32(c) + (y - place[1]) * np.float32(s) + shift > 0 for c, s in map(direction, cuts)
    ]
    for part in range(4):
        colour = _pick(rng, GREENS if rng.random() < 0.5 else SOILS)
        picture = np.broadcast_to(colour, ground.shape)
        if furrows:
            c, s = direction(cuts[rng.integers(2)] + 0.01 * float(between(rng, -1, 1)))
            wave = sine((x * np.float32(c) + y * np.float32(s)) * between(rng, 10, 20) + shift * 3)
            depth = between(rng, 0.08, 0.22) * (np.float32(0.3) + noise(rng, 5))
            picture = colour * (1 + depth * wave)[..., None]
        inside = (sides[0] == bool(part & 1)) & (sides[1] == bool(part & 2))
        ground[inside] = picture[inside]
    return ground * (np.float32(0.85) + np.float32(0.3) * noise(rng, 5, octaves=3))[..., None]


def _winding(rng: Generator, bend: float) -> Floats:
    """A line (24, 2) from edge to edge through the middle part of the picture."""
    t = np.linspace(-0.85, 0.85, 24)
    waves = between(rng, 0.5, 1.1, 2)
    side = bend * (sine(t * waves[0] + rng.random()) + 0.5 * sine(t * 2 * waves[1] + rng.random()))
    return (turned(np.stack([t, side], -1), rng.random()) + between(rng, 0.35, 0.65, 2)).astype(np.float32)


def _trees(rng: Generator, canvas: Canvas, count: int, radius: float = 0.035) -> None:
    """A few single trees anywhere."""
    _crowns(rng, canvas, rng.random((count, 2)), radius)


def _crowns(rng: Generator, canvas: Canvas, places: Points, radius: float) -> None:
    tone = between(rng, 0.8, 1.3)
    for x, y in places:
        if -radius < x < 1 + radius and -radius < y < 1 + radius:
            size = radius * float(between(rng, 0.8, 1.2))
            canvas.paint(canvas.ellipse(x + size * 0.5, y + size * 0.5, size), (0.08, 0.08, 0.06), 0.5)
            canvas.paint(canvas.ellipse(x, y, size), CROWN * tone)
            canvas.paint(canvas.ellipse(x - size * 0.25, y - size * 0.25, size * 0.5), CROWN * tone * np.float32(1.5))


def _house(rng: Generator, canvas: Canvas, x: float, y: float, a: float, b: float, turn: float) -> None:
    """A pitched roof: one half in the light, one in the shade."""
    roof = _pick(rng, ROOFS)
    canvas.paint(canvas.box(x + 0.02, y + 0.02, a, b, turn), (0.08, 0.08, 0.08), 0.55)
    canvas.paint(canvas.box(x, y, a, b, turn), roof * np.float32(0.8), instance=1)
    dx, dy = turned([(0, -b / 2)], turn)[0]
    canvas.paint(canvas.box(x + dx, y + dy, a, b / 2, turn), roof * np.float32(1.25))
