"""Streets with things on them, and which class and which object every pixel of the picture shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from petlbench.drawing.canvas import SHARP, Floats, Pixels, between, developed, direction, hue
from petlbench.drawing.scenes import Ball, Camera, Scene, Solid, box, prism
from petlbench.drawing.toys import chair, truck

STUFF = ("sky", "road", "grass", "building", "tree")
"""Classes without a shape of their own; `things` stand in front of them."""
THINGS = ("ball", "crate", "barrel", "cone", "truck", "chair")
"""Classes whose objects are counted, told apart and boxed in."""
CLASSES = (*STUFF, *THINGS)
OTHER = -1
"""What is none of the classes: rocks."""
SIDE = 128
"""Pixels of the longer side of a picture."""
SHAPES = ((128, 96), (96, 128), (128, 128))
"""Heights and widths of pictures."""
HUES = {"ball": 0.0, "crate": 0.1, "barrel": 0.6, "cone": 0.17}
"""Usual colours of some things, in turns; a truck and a chair may have any."""
PAINTS = {"truck": 0.0, "cone": 0.09, "crate": 0.17, "chair": 0.42, "barrel": 0.62, "ball": 0.82}
"""Usual colours of all things, farther apart: red, orange, yellow, green, blue and violet."""
ODD = 1 / 6
"""Share of the things that have any colour in place of their usual one."""
LONG = ("truck", "chair")
"""Things that stand farther away: next to the camera they would fill the picture."""


@dataclass(frozen=True, kw_only=True)
class View:
    """Where the camera stands, and how near the things are."""

    height: tuple[float, float]
    """Of the camera, in metres."""
    depth: tuple[float, float]
    """Metres from the camera to a thing."""
    long: float
    """Metres from the camera to a thing of LONG, at least."""
    things: int
    """In a picture, at most."""
    painted: bool
    """Whether each class has a usual colour, of `PAINTS`."""


FAR = View(height=(2.2, 3.2), depth=(4.0, 13.0), long=4.0, things=7, painted=False)
"""From above: up to seven things, most of them 10 to 20 pixels large."""
NEAR = View(height=(1.2, 1.6), depth=(2.2, 5.0), long=3.2, things=3, painted=True)
"""From among them: up to three things, the nearest a third to a half of the picture, each in the hue of its class or,
more seldom, in any."""


@dataclass(frozen=True)
class Picture:
    """A picture and the truth about it."""

    pixels: Pixels
    """(H, W, 3)."""
    classes: NDArray[np.int64]
    """(H, W): places in CLASSES, or OTHER."""
    instances: NDArray[np.int32]
    """(H, W): the object that a pixel shows, from 1; 0 is sky or ground."""
    kinds: tuple[str, ...]
    """Class of each object; "rock" is none of the classes."""
    crowds: frozenset[int]
    """Objects that are heaps of things of one class."""


def picture(rng: Generator, view: View = FAR) -> Picture:
    """A street with buildings and trees beside it and a few things on it; one picture in ten has no thing."""
    width = float(between(rng, 2.6, 4.2))
    scene = _street(rng, width, view)
    kinds: list[str] = []
    crowds: set[int] = set()

    def add(kind: str, *solids: Solid) -> None:
        kinds.append(kind)
        scene.add(len(kinds), *solids)

    for side in (-1, 1):
        if rng.random() < 0.6:
            add("building", _building(rng, side * width))
        for _ in range(rng.integers(0, 3)):
            add("tree", *_tree(rng, side * float(between(rng, width + 0.8, width + 3)), float(between(rng, 7, 20))))
    if rng.random() < 0.3:
        x, y = float(between(rng, -width - 2, width + 2)), float(between(rng, 5, 12))
        add("rock", prism((x, y, 0.4), (1.2, 1.0, 0.8), hue(0.1, 0.1, 0.45), float(rng.random()), corners=5, top=0.5))
    taken: list[tuple[float, float]] = []
    wanted = 0 if rng.random() < 0.1 else rng.integers(1, view.things + 1)
    for _ in range(40):
        if len(taken) == wanted:
            break
        depth = float(between(rng, *view.depth))
        x = float(between(rng, -0.42, 0.42)) * depth
        if any((x - a) ** 2 + (depth - b) ** 2 < 2.6 for a, b in taken):
            continue
        kind = THINGS[rng.integers(len(THINGS))]
        if kind in LONG and depth < view.long:
            continue
        taken.append((x, depth))
        is_heap = kind == "ball" and rng.random() < 0.3
        if is_heap:
            crowds.add(len(kinds) + 1)
        solids = _heap(rng, x, depth) if is_heap else MADE[kind](rng, x, depth)
        add(kind, *(_painted(rng, kind, solids) if view.painted else solids))
    return _developed(rng, scene, width, kinds, frozenset(crowds))


def _developed(rng: Generator, scene: Scene, width: float, kinds: list[str], crowds: frozenset[int]) -> Picture:
    """Render a scene, name its pixels, and cut one of SHAPES out of the square."""
    canvas, _ = scene.render(SIDE)
    places = {kind: number for number, kind in enumerate(CLASSES)}
    instances = canvas.instances[::SHARP, ::SHARP]
    ray = scene.camera.rays(SHARP * SIDE)[:, ::SHARP, ::SHARP]
    down = ray[2] < -1e-4
    across = ray[0] * np.float32(scene.camera.height) / np.where(down, -ray[2], np.float32(1))
    ground = np.where(np.abs(across) < width, places["road"], places["grass"])
    classes = np.where(down, ground, places["sky"])
    named = np.array([0, *(places.get(kind, OTHER) for kind in kinds)])
    classes = np.where(instances > 0, named[instances], classes)
    height, broad = SHAPES[rng.integers(len(SHAPES))]
    top, left = (SIDE - height) * 2 // 3, (SIDE - broad) // 2
    cut = slice(top, top + height), slice(left, left + broad)
    pixels = developed(rng, canvas.finished()[None], grain=0.03, light=0.15)[0]
    return Picture(pixels[cut], classes[cut], instances[cut], tuple(kinds), crowds)


def _street(rng: Generator, width: float, view: View) -> Scene:
    road = hue(rng.random(), 0.05, between(rng, 0.3, 0.55))
    verge = hue(between(rng, 0.2, 0.36), between(rng, 0.3, 0.7), between(rng, 0.35, 0.7))

    def ground(x: Floats, y: Floats) -> Floats:
        dashes = (np.abs(x) < 0.09) & ((y * np.float32(0.4)) % 1 < 0.5)
        return np.where(dashes[..., None], np.float32(0.9), np.where((np.abs(x) < width)[..., None], road, verge))

    sky = hue(between(rng, 0.5, 0.65), between(rng, 0.05, 0.5), between(rng, 0.7, 1.0))
    return Scene(
        camera=Camera(height=float(between(rng, *view.height)), pitch=float(between(rng, 0.03, 0.05)), focal=0.9),
        ground=ground,
        sky=(np.minimum(sky + np.float32(0.2), 1), sky),
        sun=(float(between(rng, -0.9, 0.9)), float(between(rng, -0.9, 0.2)), 1.0),
        haze=float(between(rng, 0.003, 0.012)),
    )


def _building(rng: Generator, edge: float) -> Solid:
    sides = between(rng, 3, 6), between(rng, 4, 9), between(rng, 2.5, 6)
    x = edge + float(np.copysign(sides[0] / 2 + between(rng, 0.3, 2), edge))
    colour = hue(between(rng, 0.02, 0.12), between(rng, 0.05, 0.4), between(rng, 0.55, 0.9))
    return box((x, float(between(rng, 13, 24)), sides[2] / 2), sides, colour)


def _tree(rng: Generator, x: float, y: float) -> list[Solid]:
    size, green = float(between(rng, 1.4, 2.4)), hue(between(rng, 0.25, 0.4), 0.7, between(rng, 0.2, 0.45))
    trunk = prism((x, y, 0.4 * size), (0.2 * size, 0.2 * size, 0.8 * size), (0.35, 0.24, 0.14), corners=6)
    if rng.random() < 0.5:
        return [trunk, Ball((x, y, 1.3 * size), 0.7 * size, green, 0.0)]
    return [trunk, prism((x, y, 1.4 * size), (1.2 * size, 1.2 * size, 1.6 * size), green, top=0.1, corners=10)]


def _painted(rng: Generator, kind: str, solids: list[Solid]) -> list[Solid]:
    """The same solids in one hue, mostly the usual one; each keeps how bright and how colourful it is."""
    tone = rng.random() if rng.random() < ODD else PAINTS[kind] + between(rng, -0.025, 0.025)

    def colour(solid: Solid) -> Floats:
        low, high = np.min(solid.colour), np.max(solid.colour)
        return hue(tone, 1 - low / high, high)

    return [replace(solid, colour=colour(solid)) for solid in solids]


def _colour(rng: Generator, kind: str) -> Floats:
    return hue(HUES[kind] + between(rng, -0.05, 0.05), between(rng, 0.55, 0.95), between(rng, 0.5, 1.0))


def _ball(rng: Generator, x: float, y: float) -> list[Solid]:
    radius = float(between(rng, 0.45, 0.75))
    return [Ball((x, y, radius), radius, _colour(rng, "ball"))]


def _heap(rng: Generator, x: float, y: float) -> list[Solid]:
    """Nine small balls, some on top of the others."""
    around = [(*direction(k / 6), 0.22) for k in range(6)] + [(0.45 * c, 0.45 * s, 0.5) for c, s in _three()]
    shift = float(rng.random())
    c, s = direction(shift)
    return [
        Ball((x + 0.55 * (a * c - b * s), y + 0.55 * (a * s + b * c), z), 0.24, _colour(rng, "ball"))
        for a, b, z in around
    ]


def _three() -> list[tuple[float, float]]:
    return [direction(k / 3) for k in range(3)]


def _crate(rng: Generator, x: float, y: float) -> list[Solid]:
    side = float(between(rng, 0.8, 1.3))
    return [box((x, y, side / 2), (side, side, side), _colour(rng, "crate"), float(rng.random()))]


def _barrel(rng: Generator, x: float, y: float) -> list[Solid]:
    size = float(between(rng, 0.9, 1.3))
    return [prism((x, y, size / 2), (0.75 * size, 0.75 * size, size), _colour(rng, "barrel"), shine=0.4)]


def _cone(rng: Generator, x: float, y: float) -> list[Solid]:
    size = float(between(rng, 0.9, 1.5))
    return [prism((x, y, size / 2), (0.8 * size, 0.8 * size, size), _colour(rng, "cone"), top=0.1)]


def _truck(rng: Generator, x: float, y: float) -> list[Solid]:
    return [*truck(rng, x, y, float(rng.random()), float(between(rng, 1.9, 2.5)))]


def _chair(rng: Generator, x: float, y: float) -> list[Solid]:
    return [*chair(rng, x, y, float(rng.random()), float(between(rng, 1.5, 2.0)))]


MADE: dict[str, Callable[[Generator, float, float], list[Solid]]] = {
    "ball": _ball,
    "crate": _crate,
    "barrel": _barrel,
    "cone": _cone,
    "truck": _truck,
    "chair": _chair,
}
"""The solids of a thing at a place on the ground."""
