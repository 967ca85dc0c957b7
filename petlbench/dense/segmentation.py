"""Suites that name the class of every pixel: crops for training, whole images or windows for testing, mean IoU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from petlbench.dense import ade20k, images
from petlbench.dense.draw import labelled, overlay
from petlbench.dense.head import Target
from petlbench.dense.images import IGNORED, MULTIPLE, Size, Source
from petlbench.dense.segmenters import Segmenter, SemanticFPN, UPerNet
from petlbench.dense.suite import SHOWN, DenseSuite, DenseTask, Look
from petlbench.errors import unknown
from petlbench.folder import Refuse, strict
from petlbench.suite import Task

if TYPE_CHECKING:
    from petlbench.encoder import Encoder
    from petlbench.recipe import Recipe

HEADS: dict[str, Callable[..., Segmenter]] = {"semantic_fpn": SemanticFPN, "upernet": UPerNet}
TRIES = 10
"""Crops that are drawn until one is not nearly all of one class."""
LARGEST = 0.75
"""Share of a crop that one class may take."""


@dataclass(frozen=True, kw_only=True)
class SegmentationTask(DenseTask):
    """A task with label maps."""

    metric: str = "miou"
    crop: int
    """Height and width of what is trained on; a multiple of 32."""
    zoom: tuple[float, float] = (0.5, 2.0)
    """Training resizes an image to its size in testing times a random factor in this range."""
    photometric: bool = True
    """Whether brightness, contrast, saturation and hue are changed in training."""
    inference: Literal["whole", "slide"] = "whole"
    """Whether an image is seen at once or in windows of the size of a crop, whose scores are averaged."""
    stride: int = 0
    """Pixels from one window to the next."""
    ratios: tuple[float, ...] = ()
    """Sizes, relative to `sides`, at which an image is seen for miou_ms, each also mirrored; empty for no miou_ms."""
    width: int | None = None
    """Channels of the head, if other than published."""

    @property
    def panels(self) -> tuple[str, ...]:
        return "image", "truth", "answer"

    @property
    def facts(self) -> str:
        seen = "" if self.inference == "whole" else f" in windows of {self.crop} every {self.stride}"
        return f"{self._title}trained on crops of {self.crop}, scored on images of {self._within}{seen}"

    @property
    def areas(self) -> tuple[float, float]:
        views = (1.0, *self.ratios, *self.ratios)  # each ratio also mirrored
        return self.crop**2, sum(self._area(ratio) for ratio in views)

    def _area(self, ratio: float) -> float:
        height, width = self._size(ratio)
        if self.inference == "whole":
            return height * width
        windows = [len(starts(max(side, self.crop), self.crop, self.stride)) for side in (height, width)]
        return math.prod(windows) * self.crop**2


class Segmentation(DenseSuite):
    """A suite in the layout of ADEChallengeData2016."""

    def locate(self, task: Task, root: Path) -> Path | None:
        return ade20k.locate(root)

    def read(self, task: Task, data: Path, *, training: bool, refuse: Refuse = strict) -> Source:
        return ade20k.read(data, "training" if training else "validation", task.classes, refuse)

    def head(self, encoder: Encoder, task: Any) -> Segmenter:
        if task.head not in HEADS:
            raise unknown("head", task.head, HEADS)
        widths = {"width": task.width, "hidden": task.width} if task.width else {}
        return HEADS[task.head](encoder.channels, encoder.strides, task.classes, **widths)

    def labelled(self, source: Source, classes: int, index: int) -> Image.Image:
        names = self.names(source, classes)
        return labelled(source.image(index), source.target(index)["map"], names)

    def made_up(self, task: SegmentationTask, chance: torch.Generator) -> Target:
        return {"map": torch.randint(task.classes, self.counted, generator=chance)}

    def plain(self, task: SegmentationTask) -> SegmentationTask:
        """Without the sizes of miou_ms."""
        return replace(task, ratios=())

    def evaluator(self, task: SegmentationTask, source: Source) -> MeanIoU:
        return MeanIoU(source, task.classes, self.names(source, task.classes))

    def names(self, source: Source, classes: int) -> tuple[str, ...]:
        """The names of the classes."""
        return ade20k.class_names(source.files()[0].parents[2], classes)

    def augmented(
        self, task: SegmentationTask, recipe: Recipe, image: Image.Image, target: Target, rng: Generator
    ) -> tuple[Image.Image, Target]:
        """A crop of the image at a random size, mirrored and in other colours, as mmsegmentation does it.

        Unlike there, an image is never smaller than the crop: padding could tell a head where an image ends.
        """
        zoom = rng.uniform(*task.zoom)
        height, width = images.fitted((image.height, image.width), *(max(1, round(side * zoom)) for side in task.sides))
        least = max(1.0, task.crop / min(height, width))
        size = max(task.crop, round(height * least)), max(task.crop, round(width * least))
        image, target = images.resized(image, target, size)
        for _ in range(TRIES):
            top, left = (int(rng.integers(side - task.crop + 1)) for side in size)
            window = target["map"][top : top + task.crop, left : left + task.crop]
            counts = torch.bincount(window[window != IGNORED].flatten())
            if (counts > 0).sum() > 1 and counts.max() < LARGEST * counts.sum():
                break
        image, target = images.cropped(image, target, top, left, (task.crop, task.crop))
        if rng.random() < recipe.flip:
            image, target = images.mirrored(image, target)
        return (recoloured(image, rng) if task.photometric else image), target

    def answers(
        self, task: SegmentationTask, look: Look, pictures: Sequence[Image.Image]
    ) -> list[tuple[dict[str, Any], Size]]:
        """Scores at one size, and the mean probabilities over several. Sizes are multiples of 32, so nothing is
        padded, and only images of one size are seen together."""
        found: list[tuple[dict[str, Any], Size]] = [({}, (0, 0))] * len(pictures)
        for place, (scores, size) in enumerate(self._scores(task, look, pictures, 1.0)):
            found[place] = {"scores": scores}, size
        if task.ratios:
            for place, picture in enumerate(pictures):
                several = torch.zeros(task.classes, picture.height, picture.width)
                for ratio in task.ratios:
                    turned = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                    (plain, _), (mirror, _) = self._scores(task, look, [picture, turned], ratio)
                    for each in (plain, mirror.flip(-1)):
                        several += upsampled(each, (picture.height, picture.width)).softmax(0)
                found[place][0]["several"] = several / (2 * len(task.ratios))
        return found

    def _scores(
        self, task: SegmentationTask, look: Look, pictures: Sequence[Image.Image], ratio: float
    ) -> list[tuple[Tensor, Size]]:
        """Logits (C, height, width) of each image at a size, with that size."""
        views = [self._view(task, picture, ratio) for picture in pictures]
        sizes = [(view.height, view.width) for view in views]
        found: list[Tensor] = [torch.empty(0)] * len(views)
        for size in dict.fromkeys(sizes):
            places = [place for place, each in enumerate(sizes) if each == size]
            if task.inference == "whole":
                for place, each in zip(places, look([views[place] for place in places]), strict=True):
                    found[place] = each["scores"]
            else:
                for place in places:
                    found[place] = slid(look, views[place], task)
        return list(zip(found, sizes, strict=True))

    @staticmethod
    def _view(task: SegmentationTask, picture: Image.Image, ratio: float) -> Image.Image:
        limits = (max(1, round(side * ratio)) for side in task.sides)
        height, width = images.fitted((picture.height, picture.width), *limits)
        least = task.crop if task.inference == "slide" else MULTIPLE
        height, width = (max(least, -(-side // MULTIPLE) * MULTIPLE) for side in (height, width))
        return images.resized(picture, {}, (height, width))[0]


def slid(look: Look, view: Image.Image, task: SegmentationTask) -> Tensor:
    """Mean logits of windows of the size of a crop; the last of a row or column ends with the image."""
    crop, total = task.crop, torch.zeros(task.classes, view.height, view.width)
    seen = torch.zeros(view.height, view.width)
    tops, lefts = (starts(side, crop, task.stride) for side in (view.height, view.width))
    for top in tops:
        row = look([view.crop((left, top, left + crop, top + crop)) for left in lefts])
        for left, each in zip(lefts, row, strict=True):
            window = slice(top, top + crop), slice(left, left + crop)
            total[:, *window] += each["scores"]
            seen[window] += 1
    return total / seen


def starts(side: int, crop: int, stride: int) -> list[int]:
    """Where windows begin that cover a side."""
    steps = max(0, -(-(side - crop) // stride))
    return [min(step * stride, side - crop) for step in range(steps + 1)]


def upsampled(scores: Tensor, size: Size) -> Tensor:
    """Scores (C, H, W) in another size."""
    return interpolate(scores[None].float(), size, mode="bilinear", align_corners=False)[0]


def recoloured(image: Image.Image, rng: Generator) -> Image.Image:
    """Brightness by up to 32 of 255, contrast and saturation by up to a half, hue by up to 18 degrees, each with
    probability 0.5; contrast at the start or at the end. The ranges are mmsegmentation's."""
    changed, late = rng.random(5) < 0.5, rng.random() < 0.5
    shift, contrast, saturation = rng.uniform(-32, 32), *rng.uniform(0.5, 1.5, 2)
    values = np.asarray(image).astype(np.float32)
    values = values + shift if changed[0] else values
    values = values * contrast if changed[1] and not late else values
    if changed[2]:
        grey = values @ np.array([0.299, 0.587, 0.114], np.float32)
        values = grey[..., None] + saturation * (values - grey[..., None])
    made = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    if changed[3]:
        hue, strength, value = made.convert("HSV").split()
        turn = int(rng.integers(-13, 14))  # of 256
        hue = Image.fromarray(((np.asarray(hue).astype(np.int32) + turn) % 256).astype(np.uint8))
        made = Image.merge("HSV", (hue, strength, value)).convert("RGB")
    if changed[1] and late:
        made = Image.fromarray(np.clip(np.asarray(made).astype(np.float32) * contrast, 0, 255).astype(np.uint8))
    return made


class MeanIoU:
    """Confusion matrices over all pixels of all images in their own size; what is ignored is not counted.

    miou is the mean over the classes that occur in the truth or in an answer, as mmsegmentation has it; aacc the share
    of pixels that are right; macc the mean share over the classes that occur in the truth.
    """

    def __init__(self, source: Source, classes: int, names: Sequence[str]) -> None:
        self.source, self.classes, self.names = source, classes, names
        self.confusion: dict[str, Tensor] = {}
        """By what is appended to the names of metrics: (C, C), rows are the truth."""
        self.answers: dict[int, Tensor] = {}
        """The first few, for `picture`."""

    def add(self, index: int, found: dict[str, Any], seen: Size, original: Size) -> None:
        truth = self.source.target(index)["map"]
        answer = upsampled(found["scores"], original).argmax(0)
        if index < SHOWN:
            self.answers[index] = answer
        self.count("", truth, answer)
        if "several" in found:
            self.count("_ms", truth, found["several"].argmax(0))

    def picture(self, index: int) -> Image.Image:
        return overlay(self.source.image(index), self.source.target(index)["map"], self.answers[index], self.names)

    def count(self, kind: str, truth: Tensor, answer: Tensor) -> None:
        """Add the pixels of an image."""
        known = truth != IGNORED
        pairs = torch.bincount(truth[known] * self.classes + answer[known], minlength=self.classes**2)
        before = self.confusion.get(kind, torch.zeros(self.classes, self.classes, dtype=torch.int64))
        self.confusion[kind] = before + pairs.view(self.classes, self.classes)

    def scores(self) -> Iterator[tuple[str, float]]:
        for kind, matrix in self.confusion.items():
            right, truth, answer = matrix.diagonal().double(), matrix.sum(1).double(), matrix.sum(0).double()
            iou = 100 * right / (truth + answer - right)  # 0 / 0 is no number, and left out
            yield f"miou{kind}", iou.nanmean().item()
            yield f"aacc{kind}", (100 * right.sum() / truth.sum()).item()
            yield f"macc{kind}", (100 * right / truth).nanmean().item()
            for name, value in zip(self.names, iou.tolist(), strict=True):
                if value == value:
                    yield f"iou{kind}/{name}", value
