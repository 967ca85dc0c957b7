"""A small ray caster: shaded solids with shadows on a ground plane, seen in perspective.

The world has x to the right, y away from the camera and z up, in metres; the ground is z = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from petlbench.drawing.canvas import (
    SHARP,
    SIDE,
    Canvas,
    Colour,
    Floats,
    Points,
    cosine,
    direction,
    grid,
    sine,
    smoothstep,
    turned,
)

CUBE = np.array([(x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
FAR = np.float32(1e6)
"""The depth of what no ray meets."""


@dataclass(frozen=True)
class Ball:
    """A sphere."""

    centre: tuple[float, float, float]
    radius: float
    colour: Colour
    shine: float = 0.6
    """Strength of the highlight."""

    @property
    def corners(self) -> Points:
        """The corners (8, 3) of a box around it."""
        return np.asarray(self.centre) + self.radius * CUBE

    def hit(self, origin: Floats, ray: Floats) -> tuple[Floats, Floats]:
        """Lengths of the ray (h, w) until it meets the surface, FAR where it does not, and normals (3, h, w)."""
        away = origin - _column(self.centre)
        a, b = _dot(ray, ray), _dot(ray, away)
        inside = b * b - a * (_dot(away, away) - np.float32(self.radius * self.radius))
        near = (-b - np.sqrt(np.maximum(inside, 0))) / a
        near = _single(np.where((inside > 0) & (near > 0), near, FAR))
        return near, (away + near * ray) * np.float32(1 / self.radius)


@dataclass(frozen=True)
class Block:
    """A convex body: the space behind all of its faces."""

    centre: tuple[float, float, float]
    corners: Points
    """Those (8, 3) of a box around it."""
    colour: Colour
    normals: Floats
    """(faces, 3), pointing outwards."""
    offsets: Floats
    """(faces,): distance of each face from the centre."""
    shine: float = 0.0

    def hit(self, origin: Floats, ray: Floats) -> tuple[Floats, Floats]:
        """As `Ball.hit`: a ray is inside between the last face that it enters and the first that it leaves."""
        away = origin - _column(self.centre)
        n = self.normals[:, :, None, None]
        speed = n[:, 0] * ray[0] + n[:, 1] * ray[1] + n[:, 2] * ray[2]
        height = self.offsets[:, None, None] - (n[:, 0] * away[0] + n[:, 1] * away[1] + n[:, 2] * away[2])
        at = height / np.where(speed == 0, np.float32(1e-7), speed)
        enter = np.where(speed < 0, at, -FAR)
        near, leave = enter.max(0), np.where(speed < 0, FAR, at).min(0)
        near = np.where((near < leave) & (near > 0), near, FAR)
        return near, self.normals.T[:, enter.argmax(0)]


Solid = Ball | Block


def box(centre: ArrayLike, sides: ArrayLike, colour: Colour, turn: float = 0.0, shine: float = 0.0) -> Block:
    """A cuboid of side lengths (x, y, z), turned around the vertical."""
    return prism(centre, sides, colour, turn, corners=4, shine=shine)


def prism(
    centre: ArrayLike,
    sides: ArrayLike,
    colour: Colour,
    turn: float = 0.0,
    corners: int = 12,
    top: float = 1.0,
    axis: int = 2,
    shine: float = 0.0,
) -> Block:
    """An upright prism, or a cylinder with many corners; its upper end is `top` times as wide (0 is a pyramid).

    `axis` 0 lays it along its own x axis and 1 along its own y axis, before it is turned.
    """
    half = np.asarray(sides, np.float64) / 2
    height = half[axis]
    across = [k for k in range(3) if k != axis]
    a, b = half[across]
    angle = np.arange(corners) / corners
    lean = (1 - top) * a / (2 * height)
    flat = np.stack([cosine(angle), sine(angle) * a / b], -1)
    middle = np.full(corners, a * (1 + top) / 2)
    local = np.zeros((corners + 2, 3))
    local[:corners, across] = flat
    local[:corners, axis] = lean
    local[corners:, axis] = 1, -1
    offsets = np.concatenate([middle, [height, height]])
    length = np.sqrt((local * local).sum(1))
    c, s = direction(turn)
    normals = np.stack([local[:, 0] * c - local[:, 1] * s, local[:, 0] * s + local[:, 1] * c, local[:, 2]], -1)
    x, y, z = (float(value) for value in np.asarray(centre, np.float64))
    around = CUBE * half
    if corners != 4:
        around = around * 1.1  # the flat sides touch the ellipse, so the edges between them lie outside
    around = np.concatenate([turned(around[:, :2], turn), around[:, 2:]], 1)
    return Block(
        (x, y, z),
        around + np.array([x, y, z]),
        colour,
        _single(normals / length[:, None]),
        _single(offsets / length),
        shine,
    )


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole above the origin that looks along y and down."""

    height: float
    pitch: float
    """How far down it looks, in turns."""
    focal: float = 1.0
    """Focal length in widths of the picture."""

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """World points (n, 3) to (n, 3): x and y on the picture in 0..1, and depth along the optical axis."""
        return np.stack(self.see(*np.asarray(points, np.float64).T), -1)

    def see(self, x: Any, y: Any, z: Any) -> tuple[Any, Any, Any]:
        """As `project`, by coordinate."""
        c, s = direction(self.pitch)
        z = z - self.height
        depth = y * c - z * s
        return 0.5 + self.focal * x / depth, 0.5 - self.focal * (y * s + z * c) / depth, depth

    def look(self, u: float, v: float, height: float = 0.0) -> tuple[float, float]:
        """The x and y in the world of what is seen at a place on the picture, if it is so high above the ground."""
        c, s = direction(self.pitch)
        across, up = (u - 0.5) / self.focal, (0.5 - v) / self.focal
        depth = (self.height - height) / (s - up * c)
        return across * depth, (c + up * s) * depth

    def rays(self, size: int) -> Floats:
        """Directions (3, size, size), each one metre deep, so that distances along them are depths."""
        c, s = direction(self.pitch)
        x, y = grid(size)
        across, up = (x - np.float32(0.5)) / np.float32(self.focal), (np.float32(0.5) - y) / np.float32(self.focal)
        parts = np.broadcast_arrays(across, c + up * np.float32(s), up * np.float32(c) - np.float32(s))
        return np.stack(parts).astype(np.float32)


@dataclass(kw_only=True)
class Scene:
    """Solids on the ground, a sun and a camera."""

    camera: Camera
    ground: Callable[[Floats, Floats], Floats]
    """The colour (..., 3) of the ground at x and y."""
    sky: tuple[Colour, Colour]
    """Colours at the horizon and at the zenith."""
    sun: tuple[float, float, float] = (-0.5, -0.6, 1.0)
    """Direction towards the light."""
    haze: float = 0.0
    """How much of the light is lost per metre to the colour of the horizon."""
    solids: list[tuple[Solid, int]] = field(default_factory=list)
    """Each with the number of the object that it belongs to, from 1."""

    def add(self, instance: int, *solids: Solid) -> None:
        """Put an object made of solids into the scene."""
        self.solids += [(solid, instance) for solid in solids]

    def render(self, side: int = SIDE) -> tuple[Canvas, Floats]:
        """The picture with its instances, and the depth (size, size) in metres."""
        size = SHARP * side
        ray = self.camera.rays(size)
        depth = np.where(ray[2] < -1e-4, np.float32(self.camera.height) / np.maximum(-ray[2], np.float32(1e-4)), FAR)
        pixels = self._backdrop(ray, depth)
        canvas = Canvas(pixels, side)
        sun = _single(self.sun)
        sun /= np.sqrt((sun * sun).sum())
        canvas.pixels[self._shaded(ray, depth, sun)] *= np.float32(0.55)
        eye = _column((0, 0, self.camera.height))
        for solid, instance in self.solids:
            rows, columns = self._window(solid.corners, size)
            if rows.start >= rows.stop or columns.start >= columns.stop:
                continue
            seen, far = ray[:, rows, columns], depth[rows, columns]
            near, normal = solid.hit(eye, seen)
            front = near < far
            light = self._hazy(_lit(normal, seen, sun[:, None, None], solid), near[..., None])
            np.copyto(canvas.pixels[rows, columns], light, where=front[..., None])
            np.copyto(canvas.instances[rows, columns], instance, where=front)
            np.copyto(far, near, where=front)
        return canvas, depth

    def _backdrop(self, ray: Floats, depth: Floats) -> Floats:
        """Ground and sky without any solid."""
        horizon, zenith = (_single(colour) for colour in self.sky)
        end = int((depth[:, 0] >= FAR).sum())  # the camera never tilts sideways: the sky is the first rows
        depth = depth[end:]
        ground = self._hazy(self.ground(ray[0, end:] * depth, ray[1, end:] * depth), depth[..., None])
        above = horizon + smoothstep(ray[2, :end], 0.0, 0.5)[..., None] * (zenith - horizon)
        return np.concatenate([above, ground])

    def _shaded(self, ray: Floats, flat: Floats, sun: Floats) -> NDArray[np.bool_]:
        """Where (size, size) a solid hides the sun from the ground at depths `flat`."""
        dark = np.zeros(flat.shape, np.bool_)
        for solid, _ in self.solids:
            shadow = solid.corners - solid.corners[:, 2:] / float(sun[2]) * sun.astype(np.float64)
            rows, columns = self._window(shadow, len(flat))
            if rows.start < rows.stop and columns.start < columns.stop:
                far = flat[rows, columns]
                point = ray[:, rows, columns] * far + _column((0, 0, self.camera.height))
                above, _ = solid.hit(point, sun[:, None, None])
                dark[rows, columns] |= (above < FAR) & (far < FAR)
        return dark

    def _window(self, corners: Points, size: int) -> tuple[slice, slice]:
        """Rows and columns that can show what lies between some points."""
        x, y, depth = self.camera.see(*corners.T)
        if depth.min() <= 0.01:  # partly behind the camera
            return slice(0, size), slice(0, size)
        edges = (
            math.floor(y.min() * size),
            math.ceil(y.max() * size),
            math.floor(x.min() * size),
            math.ceil(x.max() * size),
        )
        top, bottom, left, right = (min(max(edge, 0), size) for edge in edges)
        return slice(top, bottom), slice(left, right)

    def _hazy(self, colour: Any, depth: Any) -> Floats:
        """What is left of a colour behind so many metres of air."""
        if not self.haze:
            return colour
        clear = 1 / (1 + np.float32(self.haze) * depth)
        return colour * clear + _single(self.sky[0]) * (1 - clear)


def _lit(normal: Floats, ray: Floats, sun: Floats, solid: Solid) -> Floats:
    """Lambert's law with light from the sky, and Blinn's highlight: colours (h, w, 3)."""
    lambert = np.maximum(_dot(normal, sun), 0)
    light = np.float32(0.38) + np.float32(0.12) * normal[2] + np.float32(0.55) * lambert
    colour = light[..., None] * _single(solid.colour)
    if solid.shine:
        half = sun - ray / np.sqrt(_dot(ray, ray))
        gloss = np.maximum(_dot(normal, half) / np.sqrt(_dot(half, half)), 0)
        for _ in range(5):  # the 32nd power
            gloss = gloss * gloss
        colour = colour + (np.float32(solid.shine) * gloss)[..., None]
    return colour


def _dot(a: Any, b: Any) -> Floats:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _column(point: Sequence[float]) -> Floats:
    return _single(point)[:, None, None]


def _single(values: ArrayLike) -> Floats:
    return np.asarray(values, np.float32)
