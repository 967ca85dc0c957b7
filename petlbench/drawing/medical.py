"""Pictures for the eye of a physician: stained cells under a microscope, and the back of an eye."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from petlbench.drawing.canvas import (
    Canvas,
    Floats,
    Points,
    between,
    cosine,
    direction,
    hue,
    noise,
    outline,
    sine,
    turned,
)

Place = tuple[float, float, float]
"""Middle and radius of a cell."""


def tissue(rng: Generator, state: str) -> Canvas:
    """A section stained pink, with purple nuclei; about half to nine tenths of its cells are in the given state."""
    pink = hue(between(rng, 0.88, 0.97), between(rng, 0.18, 0.4), between(rng, 0.8, 0.97))
    stain = hue(between(rng, 0.68, 0.8), between(rng, 0.45, 0.75), between(rng, 0.3, 0.55))
    canvas = Canvas(pink * (np.float32(0.85) + np.float32(0.25) * noise(rng, 6, octaves=3))[..., None])
    cells = _scattered(rng, float(between(rng, 0.23, 0.31)))
    share = float(between(rng, 0.5, 0.9))
    for number, place in enumerate(cells, 1):
        _body(rng, canvas, place, pink, number)
        kind = state if rng.random() < share else "normal"
        STATES[kind](rng, canvas, place, stain * between(rng, 0.85, 1.15))
    return canvas


def normal(rng: Generator, canvas: Canvas, cell: Place, stain: Floats) -> None:
    """One small round nucleus with a nucleolus."""
    x, y, radius = cell
    _nucleus(rng, canvas, x, y, radius * float(between(rng, 0.36, 0.46)), stain)


def dividing(rng: Generator, canvas: Canvas, cell: Place, stain: Floats) -> None:
    """No nucleus: two bars of chromosomes that move apart in a clear, round body."""
    x, y, radius = cell
    turn, apart = float(rng.random()), radius * float(between(rng, 0.28, 0.42))
    c, s = direction(turn)
    canvas.paint(canvas.ellipse(x, y, radius * 0.9, radius * 0.75, turn), (1.0, 0.95, 0.98), 0.45)
    for side in (-1, 1):
        middle = np.array((x + side * apart * c, y + side * apart * s))
        bar = turned([(side * 0.1, -0.5), (0, -0.2), (0, 0.2), (side * 0.1, 0.5)], turn) * radius + middle
        canvas.paint(canvas.stroke(bar, radius * 0.26), stain * np.float32(0.6))


def irregular(rng: Generator, canvas: Canvas, cell: Place, stain: Floats) -> None:
    """A nucleus that is too large, too dark and lobed."""
    x, y, radius = cell
    turns = np.arange(40) / 40
    waves = sum(between(rng, 0.05, 0.16) * sine(k * turns + rng.random()) for k in (2, 3, 4))
    away = radius * between(rng, 0.65, 0.85) * (1 + waves)
    outline = np.stack([x + away * cosine(turns), y + away * sine(turns)], -1)
    patch = canvas.polygon(outline)
    clumps = np.float32(0.55) + np.float32(0.5) * noise(rng, 20)[patch.rows, patch.columns]
    canvas.paint(patch, stain * clumps[..., None])


def inflamed(rng: Generator, canvas: Canvas, cell: Place, stain: Floats) -> None:
    """A normal nucleus, and small round dark white blood cells that crowd around the body."""
    x, y, radius = cell
    normal(rng, canvas, cell, stain)
    for _ in range(rng.integers(3, 6)):
        c, s = direction(rng.random())
        away = radius * float(between(rng, 0.85, 1.25))
        canvas.paint(canvas.ellipse(x + c * away, y + s * away, radius * 0.2), stain * np.float32(0.5))


def dying(rng: Generator, canvas: Canvas, cell: Place, stain: Floats) -> None:
    """A shrunken, glowing body whose nucleus has burst into round fragments."""
    x, y, radius = cell
    canvas.paint(canvas.ellipse(x, y, radius), (1.0, 0.93, 0.96), 0.8)
    canvas.paint(canvas.ellipse(x, y, radius * 0.72), (0.93, 0.42, 0.55), 0.8)
    for _ in range(rng.integers(4, 8)):
        c, s = direction(rng.random())
        away = radius * float(between(rng, 0.0, 0.5))
        size = radius * float(between(rng, 0.1, 0.2))
        canvas.paint(canvas.ellipse(x + c * away, y + s * away, size), stain * np.float32(0.55))


def twin(rng: Generator, canvas: Canvas, cell: Place, stain: Floats) -> None:
    """Two nuclei side by side in one body."""
    x, y, radius = cell
    (dx, dy), size = np.array(direction(rng.random())) * radius * 0.4, radius * float(between(rng, 0.32, 0.38))
    for side in (-1, 1):
        _nucleus(rng, canvas, x + side * dx, y + side * dy, size, stain)


def fatty(rng: Generator, canvas: Canvas, cell: Place, stain: Floats) -> None:
    """A large empty drop of fat that pushes the nucleus to the edge."""
    x, y, radius = cell
    c, s = direction(rng.random())
    drop = radius * float(between(rng, 0.62, 0.8))
    canvas.paint(canvas.ellipse(x, y, drop), (0.97, 0.95, 0.97))
    away = radius * 0.86
    canvas.paint(canvas.ellipse(x + c * away, y + s * away, radius * 0.16, radius * 0.36, _turn(c, s)), stain)


def infected(rng: Generator, canvas: Canvas, cell: Place, stain: Floats) -> None:
    """An owl's eye: a dark inclusion in the middle of a nucleus, with a clear ring around it."""
    x, y, radius = cell
    size = radius * float(between(rng, 0.62, 0.75))
    canvas.paint(canvas.ellipse(x, y, size), stain)
    canvas.paint(canvas.ellipse(x, y, size * 0.82), (0.95, 0.88, 0.95))
    canvas.paint(canvas.ellipse(x, y, size * 0.48), stain * np.float32(0.55))


STATES: dict[str, Callable[[Generator, Canvas, Place, Floats], None]] = {
    state.__name__: state for state in (normal, dividing, irregular, inflamed, dying, twin, fatty, infected)
}


def _scattered(rng: Generator, step: float) -> list[Place]:
    """Cells at random places that do not overlap, seen whole or in part."""
    i, j = np.meshgrid(np.arange(-4, 5), np.arange(-4, 5))
    places = np.stack([i + 0.5 * (j % 2), j], -1).reshape(-1, 2) + between(rng, -0.12, 0.12, (81, 2))
    places = turned(places * (step, 0.9 * step), rng.random()) + 0.5
    seen = (np.abs(places - 0.5) < 0.58).all(1)
    return [(float(x), float(y), step * float(between(rng, 0.40, 0.46))) for x, y in places[seen]]


def _body(rng: Generator, canvas: Canvas, cell: Place, pink: Floats, number: int) -> None:
    """Cytoplasm inside a membrane."""
    x, y, radius = cell
    turn, squeeze = float(rng.random()), float(between(rng, 0.88, 1.0))
    canvas.paint(canvas.ellipse(x, y, radius * 1.08, radius * 1.08 * squeeze, turn), pink * np.float32(0.68), 0.8)
    tone = pink * between(rng, 0.92, 1.1)
    canvas.paint(canvas.ellipse(x, y, radius, radius * squeeze, turn), tone, instance=number)


def _nucleus(rng: Generator, canvas: Canvas, x: float, y: float, size: float, stain: Floats) -> None:
    turn, squeeze = float(rng.random()), float(between(rng, 0.85, 1.0))
    canvas.paint(canvas.ellipse(x, y, size, size * squeeze, turn), stain)
    dx, dy = np.array(direction(turn)) * size * 0.3
    canvas.paint(canvas.ellipse(x + dx, y + dy, size * 0.25), stain * np.float32(0.45))


def _turn(c: float, s: float) -> float:
    """The angle of a direction, to a sixteenth of a circle; enough to lay something along an edge."""
    turns = np.arange(32) / 32
    return float(turns[(c * cosine(turns) + s * sine(turns)).argmax()])


LINE = np.linspace(0, 1, 14)
LESIONS = (
    ((0, 0), (0, 0), (0, 0)),
    ((6, 11), (0, 0), (0, 0)),
    ((6, 11), (3, 6), (0, 2)),
    ((6, 11), (7, 12), (9, 16)),
    ((6, 11), (3, 9), (3, 12)),
)
"""Fewest and most red dots, bleedings and yellow deposits of each grade."""


def fundus(rng: Generator, grade: int) -> Canvas:
    """The back of an eye with lesions of one of five grades (as Diabetic Retinopathy's task).

    0 none, 1 a few red dots, 2 also some bleedings, 3 many bleedings and yellow deposits, 4 also tangles of new vessels
    and a large bleeding.
    """
    canvas = Canvas((0.02, 0.02, 0.02))
    side = 1 if rng.random() < 0.5 else -1
    middle: Points = 0.5 + between(rng, -0.02, 0.02, 2)
    x, y = middle
    orange = hue(between(rng, 0.025, 0.07), between(rng, 0.65, 0.85), between(rng, 0.6, 0.9))
    globe = canvas.ellipse(x, y, float(between(rng, 0.45, 0.49)))
    mottled = (np.float32(0.8) + np.float32(0.4) * noise(rng, 4, octaves=4))[globe.rows, globe.columns]
    canvas.paint(globe, orange * mottled[..., None], instance=1)
    canvas.paint(canvas.ellipse(x, y, 0.1), orange * np.float32(0.5), 0.45)  # the macula
    head = middle + np.array([side * 0.24, float(between(rng, -0.03, 0.03))])
    red = orange * np.array((0.62, 0.35, 0.4), np.float32)
    canvas.paint(canvas.ellipse(head[0], head[1], 0.075, 0.085), (0.98, 0.86, 0.55), 0.9)
    canvas.paint(canvas.ellipse(head[0], head[1], 0.035), (1.0, 0.96, 0.8), 0.9)
    vessels: list[Points] = []
    for up in (-1, 1):
        _vessel(rng, vessels, head, np.array((-side * 0.55, up * 0.30)), -up * side * 0.11, 0.022)
        _vessel(rng, vessels, head, np.array((side * 0.18, up * 0.25)), up * side * 0.04, 0.016)
        _vessel(rng, vessels, head, np.array((-side * 0.34, up * 0.36)), -up * side * 0.11, 0.012)
    canvas.paint(canvas.polygon(*vessels), red, 0.85)
    _lesions(rng, canvas, middle, head, grade, red)
    away = ((canvas.line[None] - middle[0]) ** 2 + (canvas.line[:, None] - middle[1]) ** 2).astype(np.float32)
    canvas.pixels *= (1 - np.float32(1.2) * away)[..., None]  # the lamp lights the middle
    return canvas


def _vessel(
    rng: Generator, vessels: list[Points], start: Points, way: Points, bend: float, width: float, depth: int = 0
) -> None:
    """Add the outline of a line that bends away to one side and gets thinner, and those of its branches."""
    t = LINE
    across = way[::-1] * (-1, 1) / np.sqrt((way * way).sum())
    curve = (bend + 0.01 * float(between(rng, -1, 1))) * 4 * t * (1 - t) + 0.008 * sine(2.5 * t + rng.random())
    line = start + t[:, None] * way * float(between(rng, 0.9, 1.05)) + curve[:, None] * across
    line = line[((line - 0.5) ** 2).sum(1) < 0.46**2]
    if len(line) < 3:
        return
    vessels.append(outline(line, width * (1 - 0.6 * t[: len(line)])))
    if depth < 2:
        for at in rng.integers(3, 11, 2 - depth):
            if at < len(line) - 1:
                ahead = line[at] - line[at - 1]
                branch = turned(
                    [ahead * 14 * 0.45], float(between(rng, 0.06, 0.13)) * (1 if rng.random() < 0.5 else -1)
                )[0]
                _vessel(rng, vessels, line[at], branch, 0.02, width * 0.5, depth + 1)


def _lesions(rng: Generator, canvas: Canvas, middle: Points, head: Points, grade: int, red: Floats) -> None:
    blood = red * np.float32(0.3)
    dots, blots, deposits = LESIONS[grade]
    kinds = ((dots, 0.017, 0.024, blood), (blots, 0.034, 0.055, blood), (deposits, 0.016, 0.03, (1.0, 0.9, 0.45)))
    for (least, most), low, high, colour in kinds:
        for _ in range(rng.integers(least, most + 1)):
            c, s = direction(rng.random())
            away, size = float(between(rng, 0.08, 0.4)), float(between(rng, low, high))
            x, y = middle[0] + c * away, middle[1] + s * away
            canvas.paint(canvas.ellipse(x, y, size, size * float(between(rng, 0.6, 1.0)), rng.random()), colour, 0.9)
    if grade == 4:
        tangles: list[Points] = []
        for _ in range(2):
            place = head + between(rng, -0.12, 0.12, 2)
            for _ in range(7):
                c, s = direction(rng.random())
                _vessel(rng, tangles, place, np.array((c, s)) * 0.12, 0.03, 0.013, depth=2)
        canvas.paint(canvas.polygon(*tangles), red, 0.85)
        c, s = direction(rng.random())
        x, y = middle + np.array((c, s)) * 0.25
        canvas.paint(canvas.ellipse(x, y, float(between(rng, 0.11, 0.15)), 0.07, 0.0), blood, 0.9)
