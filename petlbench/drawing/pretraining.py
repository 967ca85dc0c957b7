"""The images of pre-training: 652 classes of shapes, fractals, textures and scenes, drawn anew for every batch."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

SIZE = 64
"""Height and width of every picture, in pixels."""


SHARES = {"shapes": 5, "fractals": 4, "textures": 3, "scenes": 4}
"""Parts of a batch that each family gets. Shapes are the hardest to tell apart."""


class Drawn(NamedTuple):
    """A batch of pictures."""

    images: Tensor
    """(B, 3, 64, 64), 0 to 1."""
    labels: Tensor
    """(B,)"""
    coverage: Tensor
    """How much ink is on each pixel: (B, 64, 64), 0 to 1."""


class PretrainingImages:
    """An endless stream of labelled pictures; the seed fixes what the classes look like, on every device.

    A picture is made in two steps: its family draws a coverage map (how much ink is on each pixel), and `paint`
    gives ink and paper their colours. Classes differ in coverage only, never in colour.
    """

    def __init__(self, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        """Where pictures are drawn; a generator of theirs lives there too."""
        self.families = _families(seed, self.device)
        """By name, in the order of their labels."""
        self.labels: dict[str, range] = {}
        """The labels of each family."""
        for name, family in self.families.items():
            first = sum(map(len, self.labels.values()))
            self.labels[name] = range(first, first + family.classes)

    def batch(self, count: int, generator: Generator, hardness: float = 1.0) -> Drawn:
        """Draw `count` pictures, so many of each family as `SHARES` says.

        Hardness 0 is light, nearly grey ink on dark paper, 1 has free colours, noise and negatives. A network that
        starts at hardness 1 does not leave the loss of guessing, so training raises it slowly.
        """
        maps, labels = [], []
        share = drawn = 0
        with self.device:
            for name, family in self.families.items():
                share += SHARES[name]
                size = round(count * share / sum(SHARES.values())) - drawn
                drawn += size
                own = torch.randint(family.classes, (size,), generator=generator)
                maps.append(family.draw(own, generator))
                labels.append(own + self.labels[name].start)
            coverage = torch.cat(maps)
            return Drawn(paint(coverage, generator, hardness), torch.cat(labels), coverage)


class Shapes:
    """200 closed contours, r(angle) = 1 + a random sum of the harmonics 1 to 8; filled, as an outline or as a ring."""

    classes = 200
    ANGLES = 720
    """Resolution of the contour's table of radii."""

    def __init__(self, generator: Generator) -> None:
        order = torch.arange(1, 9)[:, None]
        turns = order * torch.linspace(0, 2 * math.pi, self.ANGLES + 1)[:-1]  # (8, angles)
        waves = torch.cat([turns.cos(), turns.sin()]) / torch.cat([order, order]).sqrt()
        radii = torch.randn(self.classes, 16, generator=generator) @ waves
        radii = (1 + 0.35 * radii / radii.std(1, keepdim=True)).clamp(min=0.2)
        self.radii = radii / radii.square().mean(1, keepdim=True).sqrt()  # every contour encloses the same area

    def draw(self, labels: Tensor, generator: Generator) -> Tensor:
        """Coverage (B, 64, 64): the contour at a random place, size and tilt, and a paler ellipse as a distraction."""
        count = len(labels)
        x, y = _pixels(_uniform(22, 42, count, 2, generator=generator))
        turn = _uniform(-0.5, 0.5, count, 1, 1, generator=generator)
        angle = ((torch.atan2(y, x) + turn) * (self.ANGLES / (2 * math.pi))).long().remainder(self.ANGLES)
        radius = self.radii[labels].gather(1, angle.flatten(1)).view_as(x)
        radius = radius * _uniform(9, 19, count, 1, 1, generator=generator)
        depth = radius - (x.square() + y.square()).sqrt()  # below the contour, in pixels
        outline = _uniform(1.5, 4, count, 1, 1, generator=generator)
        style = torch.randint(3, (count, 1, 1), generator=generator)
        carved = torch.where(style == 0, torch.inf, torch.where(style == 1, outline, radius / 2))
        ink = (depth + 0.5).clamp(0, 1) - (depth - carved + 0.5).clamp(0, 1)
        return torch.maximum(ink, 0.5 * _ellipses(count, generator))


class Fractals:
    """200 attractors of random iterated function systems (2 to 4 affine maps), each in six slightly different versions.

    Source of the idea: Kataoka et al., "Pre-training without Natural Images" (arXiv 2101.08515).
    """

    classes = 200
    VERSIONS = 6
    CANDIDATES = 800

    def __init__(self, generator: Generator) -> None:
        matrices, shifts, chances = self._systems(self.CANDIDATES, generator)
        covered = (self._attractors(matrices, shifts, chances, generator) > 0).float().mean((1, 2))
        kept = ((covered > 0.1) & (covered < 0.45)).nonzero()[: self.classes, 0]  # neither dust nor a filled square
        assert len(kept) == self.classes
        kept = kept.repeat_interleave(self.VERSIONS)
        change = _uniform(0.85, 1.15, len(kept), 4, 6, generator=generator)
        maps = self._attractors(
            matrices[kept] * change[:, :, :4].unflatten(2, (2, 2)),
            shifts[kept] * change[:, :, 4:],
            chances[kept],
            generator,
        )
        self.maps = maps.view(self.classes, self.VERSIONS, SIZE, SIZE)

    def draw(self, labels: Tensor, generator: Generator) -> Tensor:
        """Coverage (B, 64, 64): one version of each attractor, moved, scaled and tilted."""
        count = len(labels)
        version = torch.randint(self.VERSIONS, (count,), generator=generator)
        turn = _uniform(-0.5, 0.5, count, generator=generator)
        scale = _uniform(0.8, 1.5, count, generator=generator)
        move = _uniform(-0.3, 0.3, count, 2, 1, generator=generator)
        affine = torch.cat([_rotations(turn) * scale[:, None, None], move], 2)  # (B, 2, 3)
        grid = F.affine_grid(affine, [count, 1, SIZE, SIZE], align_corners=False)
        return F.grid_sample(self.maps[labels, version][:, None], grid, align_corners=False)[:, 0]

    @staticmethod
    def _systems(count: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Contracting maps x -> Ax + b, and how often each is taken: (count, 4, 2, 2), (count, 4, 2), (count, 4)."""
        stretch = _uniform(0.25, 0.85, count, 4, 2, generator=generator)
        stretch = stretch * torch.randint(2, stretch.shape, generator=generator).mul(2).sub(1)  # with mirror images
        first, second = _uniform(0, 2 * math.pi, 2, count, 4, generator=generator)
        matrices = _rotations(first) @ torch.diag_embed(stretch) @ _rotations(second)
        shifts = _uniform(-1, 1, count, 4, 2, generator=generator)
        used = torch.arange(4) < torch.randint(2, 5, (count, 1), generator=generator)
        return matrices, shifts, (stretch.prod(2).abs() + 0.05) * used

    @staticmethod
    def _attractors(matrices: Tensor, shifts: Tensor, chances: Tensor, generator: Generator) -> Tensor:
        """The chaos game, played by 64 points at once: coverage maps (systems, 64, 64)."""
        systems, points, steps, skipped = len(matrices), 64, 120, 20
        position = torch.zeros(systems, points, 2)
        rows = torch.arange(systems)[:, None]
        visited = []
        for step in range(steps):
            choice = torch.multinomial(chances, points, replacement=True, generator=generator)
            position = (matrices[rows, choice] @ position[..., None])[..., 0] + shifts[rows, choice]
            if step >= skipped:
                visited.append(position)
        cloud = torch.cat(visited, 1)  # (systems, points * steps kept, 2)
        low, high = cloud.amin(1, keepdim=True), cloud.amax(1, keepdim=True)
        cells = ((cloud - low) / (high - low).clamp(min=1e-6) * (SIZE - 1e-3)).long().clamp(0, SIZE - 1)
        counts = torch.zeros(systems, SIZE * SIZE)
        counts.scatter_add_(1, cells[..., 1] * SIZE + cells[..., 0], torch.ones(cells.shape[:2]))
        return (counts / 3).clamp(max=1).view(systems, SIZE, SIZE)


class Textures:
    """132 textures: five kinds of pattern in 6 orientations and 4 frequencies, and 3 kinds of cells in 4 sizes."""

    classes = 132
    PERIODS = (24.0, 14.0, 8.0, 5.0)
    """Pixels per period of the patterns."""
    SITES = (8, 16, 32, 64)
    """Cells per picture."""

    def draw(self, labels: Tensor, generator: Generator) -> Tensor:
        """Coverage (B, 64, 64), filling the picture."""
        maps = torch.empty(len(labels), SIZE, SIZE)
        cells = labels >= 120
        maps[~cells] = self._patterns(labels[~cells], generator)
        maps[cells] = self._cells(labels[cells] - 120, generator)
        return maps

    def _patterns(self, labels: Tensor, generator: Generator) -> Tensor:
        """Sine waves, stripes, checkers, dots and oriented noise, each a function of two waves or of a few."""
        count = len(labels)
        kind, orientation = labels // 24, labels % 24 // 4
        period = torch.tensor(self.PERIODS)[labels % 4] * _uniform(0.9, 1.1, count, generator=generator)
        lattice = (kind == 2) | (kind == 3)  # looks the same after a quarter of a turn, the others after a half
        turn = (orientation + _uniform(-0.25, 0.25, count, generator=generator)) * torch.where(lattice, 90, 180) / 6
        turn, wave = turn.deg2rad(), 2 * math.pi / period
        spread = (kind == 4)[:, None].float()
        turns = turn[:, None] + spread * _uniform(-0.25, 0.25, count, 6, generator=generator)  # (B, 6 waves)
        waves = wave[:, None] * (1 + spread * _uniform(-0.25, 0.25, count, 6, generator=generator))
        turns[:, 1] += lattice * math.pi / 2
        phases = _uniform(0, 2 * math.pi, count, 6, generator=generator)
        steps = torch.arange(SIZE) - SIZE / 2
        across = (waves * turns.cos())[..., None] * steps + phases[..., None]  # (B, 6, 64)
        down = (waves * turns.sin())[..., None] * steps
        # cos(a + b) from the sines and cosines of a and b: 128 values per wave instead of 4096
        (cos_x, sin_x), (cos_y, sin_y) = ((each.cos(), each.sin()) for each in (across, down))
        first, second = (
            cos_x[:, index, None, :] * cos_y[:, index, :, None] - sin_x[:, index, None, :] * sin_y[:, index, :, None]
            for index in (0, 1)
        )
        outer = "bkx,bky->byx"
        noise = 0.6 * (torch.einsum(outer, cos_x, cos_y) - torch.einsum(outer, sin_x, sin_y))  # the sum of all six
        kind = kind[:, None, None]
        value = torch.where(kind == 0, first, 4 * first)
        value = torch.where(kind == 2, 6 * first * second, value)
        value = torch.where(kind == 3, 3 * (first + second - 1), value)
        value = torch.where(kind == 4, noise, value)
        return (0.5 + 0.5 * value).clamp(0, 1)

    def _cells(self, labels: Tensor, generator: Generator) -> Tensor:
        """Voronoi cells of random sites: as flat tiles, as their borders, as bumps."""
        count, kind = len(labels), (labels // 4)[:, None, None]
        sites = _uniform(0, SIZE, count, max(self.SITES), 2, generator=generator)
        used = torch.tensor(self.SITES)[labels % 4]
        sites[torch.arange(max(self.SITES)) >= used[:, None]] = 1e4  # out of sight
        y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
        distance, nearest = torch.cdist(torch.stack([x, y], -1).view(1, -1, 2), sites).topk(2, largest=False)
        near, next_ = distance.unflatten(1, (SIZE, SIZE)).unbind(-1)
        tones = _uniform(0, 1, *sites.shape[:2], generator=generator)
        tiles = tones.gather(1, nearest[..., 0]).unflatten(1, (SIZE, SIZE))
        borders = (1.5 - 0.5 * (next_ - near)).clamp(0, 1)
        bumps = (1 - near * (used[:, None, None] / 2).sqrt() / SIZE * 1.5).clamp(0, 1)
        return torch.where(kind == 0, tiles, torch.where(kind == 1, borders, bumps))


class Scenes:
    """120 turned solids, such as a lathe makes; one to three of a kind, lit from one side, the nearest in front.

    The outline of a solid is a random sum of the harmonics 1 to 6 along its axis, which stands nearly upright. What is
    drawn is its parallel projection with Lambert's shading.
    """

    classes = 120
    HEIGHTS = 64
    """Resolution of the outline's table of radii."""
    NEAR = ((7.0, 11.0), (10.0, 15.0), (14.0, 22.0))
    """Half the height of a solid in pixels, for the farthest, the middle and the nearest."""

    def __init__(self, generator: Generator) -> None:
        order = torch.arange(1, 7)[:, None]
        turns = order * torch.linspace(0, math.pi, self.HEIGHTS)  # (6, heights)
        waves = torch.cat([turns.cos(), turns.sin()]) / torch.cat([order, order]).sqrt()
        radii = torch.randn(self.classes, 12, generator=generator) @ waves
        radii = (1 + 0.4 * (radii - radii.mean(1, keepdim=True)) / radii.std(1, keepdim=True)).clamp(min=0.2)
        self.radii = 0.55 * radii / radii.mean(1, keepdim=True)  # in half heights; all outlines enclose the same area
        (self.slopes,) = torch.gradient(self.radii, spacing=2 / (self.HEIGHTS - 1), dim=1)

    def draw(self, labels: Tensor, generator: Generator) -> Tensor:
        """Coverage (B, 64, 64): bright where the light falls on a solid, 0 beside them."""
        count = len(labels)
        light = _uniform(0, 2 * math.pi, count, 1, 1, generator=generator)
        others = torch.rand(len(self.NEAR) - 1, count, 1, 1, generator=generator) < 0.5
        shown = [*others, torch.ones(count, 1, 1)]
        scene = torch.zeros(count, SIZE, SIZE)
        for (low, high), there in zip(self.NEAR, shown, strict=True):
            half = _uniform(low, high, count, 1, 1, generator=generator)
            x, y = _pixels(_uniform(18, 46, count, 2, generator=generator))
            tilt = _uniform(-0.5, 0.5, count, 1, 1, generator=generator)
            along, across = (y * tilt.cos() - x * tilt.sin()) / half, (x * tilt.cos() + y * tilt.sin()) / half
            height = ((along + 1) / 2 * self.HEIGHTS).long().clamp(0, self.HEIGHTS - 1).flatten(1)
            radius, slope = (table[labels].gather(1, height).view_as(along) for table in (self.radii, self.slopes))
            inside = ((radius - across.abs()) * half + 0.5).clamp(0, 1) * ((1 - along.abs()) * half + 0.5).clamp(0, 1)
            aside = (across / radius).clamp(-1, 1)
            front = (1 - aside.square()).sqrt()
            lit = 0.7 * (aside * (light - tilt).cos() - slope * (light - tilt).sin()) + 0.7 * front
            shade = 0.25 + 0.75 * (lit / (1 + slope.square()).sqrt()).clamp(0, 1)
            scene.lerp_(shade, inside * there)
        return scene


def paint(coverage: Tensor, generator: Generator, hardness: float) -> Tensor:
    """Give coverage maps (B, 64, 64) colours, light, noise and polarity: (B, 3, 64, 64) in 0 to 1."""
    count = len(coverage)
    chroma = 0.05 + 0.2 * hardness
    ink = _uniform(0.8 - 0.3 * hardness, 1, count, 1, 1, 1, generator=generator)
    ink = ink + _uniform(-chroma, chroma, count, 3, 1, 1, generator=generator)
    paper = _uniform(0, 0.15 + 0.25 * hardness, count, 1, 1, 1, generator=generator)
    paper = paper + _uniform(-chroma, chroma, count, 3, 1, 1, generator=generator)
    stains = 0.1 * hardness * torch.randn(count, 3, 8, 8, generator=generator)
    image = F.interpolate(stains, size=(SIZE, SIZE), mode="bilinear").add_(paper)
    image.lerp_(ink, coverage[:, None])
    steps = torch.linspace(-1, 1, SIZE)
    slope = 0.25 * hardness * torch.randn(count, 2, 1, 1, generator=generator)
    light = 1 + slope[:, :1] * steps + slope[:, 1:] * steps[:, None]
    image.mul_(light).add_(torch.randn(count, 1, SIZE, SIZE, generator=generator), alpha=0.04 * hardness)
    negative = torch.rand(count, 1, 1, 1, generator=generator) < 0.5 * hardness
    sign = 1 - 2 * negative.float()
    return image.mul_(sign).add_(negative).clamp_(0, 1)


@cache
def _families(seed: int, device: torch.device) -> dict[str, Shapes | Fractals | Textures | Scenes]:
    """The families of a seed, made once per process: playing the chaos game takes seconds. They are made on the CPU, so
    that they are the same everywhere, and what they are made of is moved."""
    generator = Generator().manual_seed(seed)
    families: dict[str, Shapes | Fractals | Textures | Scenes] = {
        "shapes": Shapes(generator),
        "fractals": Fractals(generator),
        "textures": Textures(),
        "scenes": Scenes(generator),
    }
    for family in families.values():
        for name, value in vars(family).items():
            setattr(family, name, value.to(device))
    return families


def _ellipses(count: int, generator: Generator) -> Tensor:
    """Coverage (count, 64, 64) of one small ellipse at a random place; two in three pictures have one."""
    x, y = _pixels(_uniform(0, SIZE, count, 2, generator=generator))
    width, height = _uniform(3, 9, 2, count, 1, 1, generator=generator)
    shown = torch.rand(count, 1, 1, generator=generator) < 2 / 3
    return ((1 - ((x / width).square() + (y / height).square()).sqrt()) * 4).clamp(0, 1) * shown


def _pixels(centre: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical distance, with sign, of every pixel from the centres (B, 2): two of (B, 64, 64)."""
    steps = torch.arange(SIZE) + 0.5
    x = (steps - centre[:, 0, None, None]).expand(-1, SIZE, -1)
    y = (steps[:, None] - centre[:, 1, None, None]).expand(-1, -1, SIZE)
    return x, y


def _rotations(angles: Tensor) -> Tensor:
    """Rotation matrices (..., 2, 2)."""
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def _uniform(low: float, high: float, *shape: int, generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low
