"""Things made of a few shaded solids that show which way they face."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from petlbench.drawing.canvas import Colour, between, hue, turned
from petlbench.drawing.scenes import Block, box, prism

Part = tuple[tuple[float, float, float], tuple[float, float, float], Colour]
"""Centre, sides and colour of a box, in the own coordinates of a thing."""
TYRE = (0.12, 0.12, 0.13)
GLASS = (0.25, 0.35, 0.45)


def truck(rng: Generator, x: float, y: float, turn: float, length: float = 2.6) -> list[Block]:
    """A pick-up: cab in front of an open bed, wheels, windscreen and lamps. It faces right before it is turned.

    `x` and `y` are its middle on the ground.
    """
    paint = hue(rng.random(), between(rng, 0.4, 0.95), between(rng, 0.5, 1.0))
    bed = paint * between(rng, 0.6, 0.9)
    parts: list[Part] = [  # in lengths of the truck
        ((0.0, 0.0, 0.16), (1.0, 0.4, 0.12), bed),
        ((0.40, 0.0, 0.25), (0.2, 0.4, 0.10), paint),
        ((0.14, 0.0, 0.31), (0.32, 0.4, 0.26), paint),
        ((0.28, 0.0, 0.37), (0.06, 0.36, 0.12), GLASS),
        ((-0.26, 0.185, 0.27), (0.48, 0.03, 0.1), bed),
        ((-0.26, -0.185, 0.27), (0.48, 0.03, 0.1), bed),
        ((0.505, 0.0, 0.21), (0.02, 0.36, 0.05), (1.0, 0.95, 0.6)),
    ]
    solids = [_placed(part, x, y, turn, length) for part in parts]
    for along in (-0.3, 0.3):
        for side in (-0.19, 0.19):
            (dx, dy), size = turned([(along * length, side * length)], turn)[0], 0.22 * length
            middle = (x + dx, y + dy, size / 2)
            solids.append(prism(middle, (size, 0.09 * length, size), TYRE, turn, corners=8, axis=1))
    return solids


def chair(rng: Generator, x: float, y: float, turn: float, height: float = 2.4) -> list[Block]:
    """Four legs, a seat and a back; who sits on it looks to the right before it is turned."""
    wood = hue(rng.random(), between(rng, 0.3, 0.8), between(rng, 0.5, 1.0))
    seat = hue(rng.random(), between(rng, 0.2, 0.8), between(rng, 0.5, 1.0))
    rest = float(between(rng, 0.14, 0.3))
    parts: list[Part] = [
        ((0.0, 0.0, 0.43), (0.5, 0.5, 0.07), seat),
        ((-0.23, 0.0, 0.95 - rest / 2), (0.05, 0.5, rest), wood),
        *(((u, v, 0.2), (0.06, 0.06, 0.4), wood) for u in (-0.21, 0.21) for v in (-0.21, 0.21)),
        *(((-0.23, v, 0.7), (0.05, 0.06, 0.5), wood) for v in (-0.21, 0.21)),
    ]
    return [_placed(part, x, y, turn, height) for part in parts]


def _placed(part: Part, x: float, y: float, turn: float, scale: float) -> Block:
    """A part of a thing as it stands in the scene."""
    centre, sides, colour = part
    dx, dy = turned([np.array(centre[:2]) * scale], turn)[0]
    return box((x + dx, y + dy, centre[2] * scale), np.array(sides) * scale, colour, turn)
