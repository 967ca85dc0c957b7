"""Pictures of the structured group: what is asked is not what a thing is, but how many, where, how far, which way."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from petlbench.drawing.canvas import (
    Canvas,
    Floats,
    Labels,
    Pixels,
    between,
    blend,
    developed,
    direction,
    grid,
    hue,
    noise,
    smoothstep,
    turned,
)
from petlbench.drawing.scenes import Ball, Camera, Scene, Solid, box, prism
from petlbench.drawing.toys import chair, truck

MOST = 6
"""Solids on the table of `count` that are still told apart; the fewest is one."""
BINS = 16
"""Places for `location`, headings for `orientation`."""
DEPTHS = (3.6, 5.0, 7.0, 9.8, 13.7, 19.2)
"""Borders in metres between the labels of `distance`; each is 1.4 times the one before."""
VIEWS = 12
"""Turns of the solid for `azimuth`."""
SHADE = np.array((0.05, 0.05, 0.08), np.float32)


def count(rng: Generator, labels: Labels) -> Pixels:
    """Label + 1 balls, boxes, cylinders and cones on a table, none hidden behind another (as CLEVR's count)."""
    return developed(rng, np.stack([table(rng, int(label) + 1).render()[0].finished() for label in labels]))


def location(rng: Generator, labels: Labels) -> Pixels:
    """A hot-air balloon between clouds; the label is its place from left to right in 16 steps (as dSprites' x)."""
    pictures = []
    for label in labels:
        canvas = _sky(rng)
        x = 0.1 + 0.8 * (label + 0.5 + float(between(rng, -0.35, 0.35))) / BINS
        _balloon(rng, canvas, x, float(between(rng, 0.2, 0.7)), float(between(rng, 0.09, 0.17)))
        pictures.append(canvas.finished())
    return developed(rng, np.stack(pictures), grain=0.06, light=0.3)


def orientation(rng: Generator, labels: Labels) -> Pixels:
    """An aeroplane above land or sea; the label is its heading in 16 steps of the full circle, from right clockwise."""
    pictures = []
    for label in labels:
        canvas = Canvas(_land(rng))
        turn = (label + float(between(rng, -0.35, 0.35))) / BINS
        x, y = between(rng, 0.4, 0.6, 2)
        _aeroplane(rng, canvas, x, y, float(between(rng, 0.26, 0.4)), turn)
        pictures.append(canvas.finished())
    return developed(rng, np.stack(pictures), grain=0.06, light=0.3)


def distance(rng: Generator, labels: Labels) -> Pixels:
    """A street with lorries and crates; the label is how far off the nearest of them stands (as KITTI's task)."""
    return developed(rng, np.stack([street(rng, int(label)).render()[0].finished() for label in labels]), light=0.25)


def azimuth(rng: Generator, labels: Labels) -> Pixels:
    """A lorry or a chair on a turntable; the label is its turn in 12 steps of the full circle (as smallNORB's task)."""
    pictures = []
    for label in labels:
        scene = _studio(rng)
        turn = (label + float(between(rng, -0.35, 0.35))) / VIEWS
        toy = truck if rng.random() < 0.5 else chair
        scene.add(1, *toy(rng, float(between(rng, -0.25, 0.25)), 6.0 + float(between(rng, -0.4, 0.4)), turn))
        pictures.append(scene.render()[0].finished())
    return developed(rng, np.stack(pictures), grain=0.05, light=0.25)


def table(rng: Generator, objects: int) -> Scene:
    """Solids on a plain table, seen from a steep angle: bright ones on a dark cloth, or dark ones on a bright cloth."""
    while True:
        camera = Camera(height=float(between(rng, 6.0, 7.0)), pitch=float(between(rng, 0.165, 0.19)), focal=1.3)
        places = _apart(rng, camera, objects)
        if len(places) == objects:
            break
    bright = float(between(rng, 0.35, 0.85))
    scene = _plain(rng, camera, hue(rng.random(), between(rng, 0.03, 0.2), bright))
    tones = (0.3, 0.5) if bright > 0.6 else (0.8, 1.0)
    for number, (x, y, reach) in enumerate(places, 1):
        colour = hue(rng.random(), between(rng, 0.5, 0.95), between(rng, *tones))
        scene.add(number, _solid(rng, x, y, reach, colour))
    return scene


def _apart(rng: Generator, camera: Camera, objects: int) -> list[tuple[float, float, float]]:
    """Places on the ground and radii of balls that are seen whole and do not touch; fewer where no room is found."""
    places: list[tuple[float, float, float]] = []
    taken: list[tuple[float, float, float]] = []
    for _ in range(40):
        if len(places) == objects:
            break
        reach = float(between(rng, 0.55, 0.8))
        x, y = camera.look(float(between(rng, 0.1, 0.9)), float(between(rng, 0.1, 0.9)), reach)
        u, v, depth = camera.see(x, y, reach)
        radius = 1.15 * camera.focal * reach / depth
        inside = radius < u < 1 - radius and radius < v < 1 - radius
        if inside and all((u - a) ** 2 + (v - b) ** 2 > (radius + r) ** 2 for a, b, r in taken):
            taken.append((u, v, radius))
            places.append((x, y, reach))
    return places


def _plain(rng: Generator, camera: Camera, colour: Floats) -> Scene:
    """Ground of one colour without a horizon, and a sun from a random side."""
    return Scene(
        camera=camera,
        ground=lambda x, y: np.broadcast_to(colour, (*x.shape, 3)),
        sky=(colour * np.float32(0.9), colour * np.float32(0.6)),
        sun=(float(between(rng, -0.9, 0.9)), float(between(rng, -0.9, -0.1)), 1.0),
    )


def _solid(rng: Generator, x: float, y: float, reach: float, colour: Floats) -> Solid:
    """A ball, cube, cylinder or cone that stands on the ground."""
    turn, shine = float(rng.random()), float(between(rng, 0.0, 0.8))
    kind = rng.integers(4)
    if kind == 0:
        return Ball((x, y, reach), reach, colour, shine)
    if kind == 1:
        side = 1.35 * reach
        return box((x, y, side / 2), (side, side, side), colour, turn)
    side = 1.6 * reach
    return prism((x, y, side / 2), (side, side, side), colour, turn, top=1.0 if kind == 2 else 0.1)


def _sky(rng: Generator) -> Canvas:
    """Sky with clouds over hills, at any time of day."""
    y = grid()[1]
    day = hue(between(rng, 0.5, 0.66), between(rng, 0.2, 0.7), between(rng, 0.5, 1.0))
    glow = hue(between(rng, 0.0, 0.15), between(rng, 0.1, 0.5), between(rng, 0.7, 1.0))
    clouds = smoothstep(noise(rng, 4, octaves=4), between(rng, 0.45, 0.6), 0.85)
    sky = blend(blend(day, glow, np.broadcast_to(y, clouds.shape)), (1, 1, 1), clouds)
    hills = smoothstep(y - between(rng, 0.75, 0.9) - np.float32(0.2) * (noise(rng, 4)[:1] - np.float32(0.5)), 0.0, 0.02)
    return Canvas(blend(sky, hue(between(rng, 0.2, 0.4), 0.4, between(rng, 0.2, 0.5)), hills))


def _balloon(rng: Generator, canvas: Canvas, x: float, y: float, radius: float) -> None:
    """Gores in two colours that get narrower towards the sides, ropes and a basket."""
    first = hue(rng.random(), between(rng, 0.5, 0.95), between(rng, 0.5, 1.0))
    second = hue(rng.random(), between(rng, 0.0, 0.9), between(rng, 0.4, 1.0))
    foot = y + 1.75 * radius
    for side in (-1, 1):
        rope = [(x + side * radius * 0.55, y + radius * 0.7), (x + side * radius * 0.16, foot)]
        canvas.paint(canvas.stroke(rope, 0.01), (0.2, 0.17, 0.15))
    canvas.paint(canvas.box(x, foot, radius * 0.2, radius * 0.15), (0.4, 0.26, 0.14), instance=1)
    funnel = [(x - radius * 0.8, y + radius * 0.6), (x + radius * 0.8, y + radius * 0.6)]
    skirt = canvas.polygon([*funnel, (x + radius * 0.3, y + radius * 1.3), (x - radius * 0.3, y + radius * 1.3)])
    canvas.paint(skirt, first * np.float32(0.75), instance=1)
    canvas.paint(canvas.ellipse(x, y, radius), first, instance=1)
    for part in (0.72, 0.2):
        canvas.paint(canvas.ellipse(x, y, radius * part, radius), second if part > 0.5 else first)
    canvas.paint(canvas.ellipse(x - radius * 0.35, y - radius * 0.35, radius * 0.45), (1, 1, 1), 0.25)


def _land(rng: Generator) -> Floats:
    """Land or sea far below."""
    low = hue(between(rng, 0.08, 0.62), between(rng, 0.1, 0.55), between(rng, 0.3, 0.75))
    high = low * between(rng, 0.7, 1.3, 3)
    cloud = np.float32(0.8) * smoothstep(noise(rng, 3, octaves=4), between(rng, 0.55, 0.75), 0.95)
    return blend(blend(low, high, smoothstep(noise(rng, 4, octaves=4), 0.35, 0.65)), (0.95, 0.95, 0.97), cloud)


def _aeroplane(rng: Generator, canvas: Canvas, x: float, y: float, size: float, turn: float) -> None:
    """Swept wings and tail from above, with its shadow on the ground; it flies to the right before it is turned."""
    body = hue(rng.random(), between(rng, 0.0, 0.5), between(rng, 0.75, 1.0))
    trim = hue(rng.random(), between(rng, 0.6, 0.9), between(rng, 0.3, 0.9))
    span = float(between(rng, 0.8, 1.0))
    wings = [(0.25, 0), (-0.2, -span), (-0.38, -span), (-0.15, 0), (-0.38, span), (-0.2, span)]
    tail = [(-0.62, 0), (-0.85, -0.36), (-0.98, -0.36), (-0.88, 0), (-0.98, 0.36), (-0.85, 0.36)]
    c, s = direction(turn)
    for shift, opacity, tones in ((0.08, 0.4, (SHADE, SHADE)), (0.0, 1.0, (trim, body))):
        for points in (wings, tail):
            part = canvas.polygon(turned(points, turn) * size + np.array([x + shift, y + shift]))
            canvas.paint(part, tones[0], opacity, instance=int(not shift))
        hull = canvas.ellipse(x + shift, y + shift, size, size * 0.13, turn)
        canvas.paint(hull, tones[1], opacity, instance=int(not shift))
    cockpit = canvas.ellipse(x + c * size * 0.75, y + s * size * 0.75, size * 0.1, size * 0.07, turn)
    canvas.paint(cockpit, (0.1, 0.15, 0.25))


def street(rng: Generator, label: int) -> Scene:
    """A road to the horizon; the nearest object is in the depths of the label, others are at least 1.3 times as far."""
    width = float(between(rng, 2.8, 3.8))
    road = hue(rng.random(), 0.05, between(rng, 0.3, 0.55))
    verge = hue(between(rng, 0.08, 0.33), between(rng, 0.2, 0.6), between(rng, 0.3, 0.7))

    def ground(x: Floats, y: Floats) -> Floats:
        dashes = (np.abs(x) < 0.09) & ((y * np.float32(0.4)) % 1 < 0.5)
        white = dashes | (np.abs(np.abs(x) - np.float32(width - 0.3)) < 0.07)
        return np.where(white[..., None], np.float32(0.9), np.where((np.abs(x) < width)[..., None], road, verge))

    sky = hue(between(rng, 0.5, 0.65), between(rng, 0.05, 0.5), between(rng, 0.7, 1.0))
    scene = Scene(
        camera=Camera(height=float(between(rng, 1.9, 2.3)), pitch=float(between(rng, 0.02, 0.035)), focal=0.85),
        ground=ground,
        sky=(np.minimum(sky + np.float32(0.2), 1), sky),
        sun=(float(between(rng, -0.9, 0.9)), float(between(rng, -0.9, 0.2)), 1.0),
        haze=float(between(rng, 0.003, 0.012)),
    )
    low, high = DEPTHS[label : label + 2]
    nearest = low + (high - low) * float(between(rng, 0.15, 0.85))
    depths = [nearest, *(nearest * float(between(rng, 1.3, 3.0)) for _ in range(rng.integers(0, 4)))]
    for number, depth in enumerate(depths, 1):
        reach = min(width - 0.9, 0.25 * depth) if number == 1 else width + 2
        _obstacle(rng, scene, number, float(between(rng, -reach, reach)), depth)
    return scene


def _obstacle(rng: Generator, scene: Scene, number: int, x: float, depth: float) -> None:
    """A lorry, a crate or a barrel whose front is `depth` metres away along the ground."""
    colour = hue(rng.random(), between(rng, 0.3, 0.9), between(rng, 0.4, 0.95))
    size = float(between(rng, 1.2, 1.7))
    kind = rng.integers(3)
    if kind == 0:
        length = 2.4 * size
        scene.add(number, *truck(rng, x, depth + length / 2, 0.25 if x < 0 else 0.75, length))
    elif kind == 1:
        scene.add(number, box((x, depth + size / 2, size / 2), (size, size, size), colour))
    else:
        scene.add(number, prism((x, depth + 0.4 * size, 0.6 * size), (0.8 * size, 0.8 * size, 1.2 * size), colour))


def _studio(rng: Generator) -> Scene:
    """A plain room in which what stands 6 m away fills most of the picture."""
    height = float(between(rng, 2.6, 4.2))
    pitch = 0.045 + 0.022 * (height - 2.6)  # towards 0.8 m above the ground at 6 m, in turns
    camera = Camera(height=height, pitch=pitch, focal=float(between(rng, 1.5, 1.8)))
    return _plain(rng, camera, hue(rng.random(), between(rng, 0.05, 0.5), between(rng, 0.35, 0.9)))
