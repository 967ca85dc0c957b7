"""Names beside points, placed so that none covers another or a point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

ROUNDS = 4
"""How often every label may move once all others have a place."""
DISTANCES = (1.5, 5.0, 10.0, 16.0, 23.0, 31.0, 40.0, 50.0, 62.0)
"""Points between the edge of a point and its label; from the second on a thin line leads to it."""
ANGLES = [math.tau * step / 24 for step in range(24)]

Point = tuple[float, float]
"""In pixels."""
Line = tuple[Point, Point]
Box = tuple[float, float, float, float]
"""Left, bottom, right and top, in pixels."""


def write(
    axes: Any, points: Sequence[tuple[float, float, str, bool]], size: float, marker: float, line: Any = None
) -> list[Any]:
    """Write the names of points: x, y, name, and whether in bold. Returns the texts.

    `size` of the text and `marker` are in points; `line` should not be written over. The layout of the figure is fixed
    from here on, and everything else must have been drawn.
    """
    figure = axes.figure
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    pixels = figure.dpi / 72
    centres = [(float(x), float(y)) for x, y in axes.transData.transform([(x, y) for x, y, _, _ in points])]
    markers = [_around(centre, marker * pixels, marker * pixels) for centre in centres]
    drawn = [] if line is None else _steps(axes.transData.transform(line.get_xydata()), line.get_drawstyle())
    texts = [
        figure.text(0, 0, name, size=size, color="0.1", weight="bold" if bold else "normal", ha="center", va="center")
        for _, _, name, bold in points
    ]
    extents = [(text.get_window_extent().width, text.get_window_extent().height) for text in texts]
    frame: Box = (axes.bbox.x0, axes.bbox.y0, axes.bbox.x1, axes.bbox.y1)
    crowded = sorted(range(len(points)), key=lambda i: sum(math.dist(centres[i], other) for other in centres))
    found: dict[int, Place] = {}
    for _ in range(ROUNDS):
        for i in crowded:
            others = {j: place for j, place in found.items() if j != i}
            around = Around(
                [place.box for place in others.values()],
                [box for j, box in enumerate(markers) if j != i],
                [(centres[j], place.middle) for j, place in others.items() if place.distance > DISTANCES[0]],
                list(pairwise(drawn)),
                frame,
            )
            found[i] = _best(centres[i], extents[i], marker * pixels, pixels, around)
    for i, (text, centre) in enumerate(zip(texts, centres, strict=True)):
        box, distance = found[i]
        text.set_position(figure.transFigure.inverted().transform(found[i].middle))
        if distance > DISTANCES[0]:
            nearest = (min(max(centre[0], box[0]), box[2]), min(max(centre[1], box[1]), box[3]))
            ends = axes.transData.inverted().transform([centre, nearest])
            axes.plot(ends[:, 0], ends[:, 1], color="0.55", linewidth=0.4, zorder=1, scalex=False, scaley=False)
    return texts


class Place(NamedTuple):
    """Where a label may be."""

    box: Box
    distance: float
    """One of `DISTANCES`."""

    @property
    def middle(self) -> Point:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


class Around(NamedTuple):
    """What a label must keep clear of."""

    labels: list[Box]
    points: list[Box]
    leaders: list[Line]
    """From other points to their labels."""
    line: list[Line]
    frame: Box


def _best(centre: Point, extent: tuple[float, float], marker: float, pixels: float, around: Around) -> Place:
    """The cheapest place. Distances rise, and with them what each costs by itself, so the search may end early."""
    best, least = Place(_around(centre, *extent), 0.0), math.inf
    for distance in DISTANCES:
        if 3 * distance >= least:
            break
        gap = marker / 2 + distance * pixels
        for angle in ANGLES:
            across, up = math.cos(angle), math.sin(angle)
            middle = centre[0] + (gap + extent[0] / 2) * across, centre[1] + (gap + extent[1] / 2) * up
            place = Place(_around(middle, *extent), distance)
            cost = _cost(place, centre, around, pixels)
            if cost < least:
                best, least = place, cost
    return best


def _cost(place: Place, centre: Point, around: Around, pixels: float) -> float:
    """Overlap is worst, then lines through labels, points or each other, then what may be misread, then distance."""
    box, frame = _wider(place.box, pixels), around.frame
    outside = box[0] < frame[0] or box[1] < frame[1] or box[2] > frame[2] or box[3] > frame[3]
    boxes = [*around.labels, *around.points]
    overlap = sum(_overlap(box, other) for other in boxes)
    left, bottom, right, top = box
    gap = (place.distance + 1) * pixels  # a label should be nearer to its own point than to others
    unclear = sum(_overlap((left - gap, bottom - gap, right + gap, top + gap), other) > 0 for other in around.points)
    struck = sum(_through(ends, box) for ends in (*around.leaders, *around.line))
    crossed = 0
    if place.distance > DISTANCES[0]:
        own = (centre, place.middle)
        crossed = sum(_through(own, other) for other in boxes)
        crossed += sum(_meet(own, other) for other in around.leaders)
    return 1e6 * outside + 100 * overlap + 150 * (struck + crossed) + 8 * unclear + 3 * place.distance


def _steps(points: Any, style: str) -> list[Point]:
    """The corners that matplotlib puts between the points of a line of steps."""
    corners = [(float(x), float(y)) for x, y in points]
    made = corners[:1]
    for (x, y), (next_x, next_y) in pairwise(corners):
        made += [(next_x, y) if style == "steps-post" else (x, next_y), (next_x, next_y)]
    return made


def _around(middle: Point, width: float, height: float) -> Box:
    return middle[0] - width / 2, middle[1] - height / 2, middle[0] + width / 2, middle[1] + height / 2


def _wider(box: Box, by: float) -> Box:
    return box[0] - by, box[1], box[2] + by, box[3]


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _through(ends: Line, box: Box) -> bool:
    """Whether a line passes through a box: through one of its diagonals, or with an end inside."""
    left, bottom, right, top = box
    inside = any(left <= x <= right and bottom <= y <= top for x, y in ends)
    return inside or _meet(ends, ((left, bottom), (right, top))) or _meet(ends, ((left, top), (right, bottom)))


def _meet(one: Line, other: Line) -> bool:
    """Whether two lines cross."""

    def side(line: Line, point: Point) -> float:
        (ax, ay), (bx, by) = line
        return (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax)

    return side(one, other[0]) * side(one, other[1]) < 0 and side(other, one[0]) * side(other, one[1]) < 0
