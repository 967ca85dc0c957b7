"""COCO 2017: detection and instance segmentation of 80 classes with (Cascade) Mask R-CNN, detection with ATSS.

HST, whose tables these are, published neither code nor settings for COCO. The recipes are those of ViT-Adapter's plain
ViTs, whose heads and parameter counts are the ones that HST's table implies; they were made for full fine-tuning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from petlbench.dense.suite import DenseSuite, DenseTask, Look
from petlbench.folder import Refuse, strict
from petlbench.method import Method, Paper
from petlbench.recipe import Recipe
from petlbench.suite import Task

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Generator

    from petlbench.dense.coco import Instances
    from petlbench.dense.coco_evaluation import Evaluator
    from petlbench.dense.head import DenseHead, Target
    from petlbench.dense.images import Source
    from petlbench.dense.mask_rcnn import Sizes
    from petlbench.encoder import Encoder

STEPS = 7_330
"""Steps of one pass over the training images with objects, 16 a step."""
ONCE = Recipe(
    source="petlbench, HST published none: czczup/ViT-Adapter detection/configs/mask_rcnn, made for full fine-tuning",
    steps=12 * STEPS,
    batch_size=16,
    lr=1e-4,
    weight_decay=0.05,
    decay_all=False,
    decay="steps",
    milestones=(8 / 12, 11 / 12),
    warmup_steps=500,
    warmup_lr=1e-7,
    flip=0.5,
)
"""The schedule 1x: 12 passes."""
THRICE = replace(ONCE, steps=36 * STEPS, milestones=(27 / 36, 33 / 36))
"""The schedule 3x: 36 passes."""
SCALES = tuple(range(480, 801, 32))
"""Shorter sides of multi-scale training."""
OBJECTS = 7
"""Objects of an image that training is timed with, about as many as COCO has on average."""
BESIDE = ("box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75")
"""What tables show beside the AP of boxes."""
BOXES = BESIDE[:2]
"""The same for a detector without masks."""


class COCO(DenseSuite):
    """Reads COCO 2017 as it is distributed, trains on train2017 and scores on val2017."""

    paper: ClassVar[Paper | None] = Paper(
        title="Microsoft COCO: Common Objects in Context",
        authors="Tsung-Yi Lin and Michael Maire and Serge Belongie and Lubomir Bourdev and Ross Girshick and "
        "James Hays and Pietro Perona and Deva Ramanan and C. Lawrence Zitnick and Piotr Doll{\\'a}r",
        year=2014,
        arxiv="1405.0312",
        code="cocodataset/cocoapi",
    )
    source = (
        "train2017.zip, val2017.zip and annotations_trainval2017.zip are linked from cocodataset.org; unpack them so "
        "that DIR/coco/annotations/instances_val2017.json and DIR/coco/val2017/ exist"
    )
    counted = (800, 1344)
    tasks = tuple(
        DenseTask(
            name=name,
            group="detection",
            classes=80,
            train=118_287,
            val=11_828,
            test=5_000,
            metric="box_ap",
            also=BOXES if head == "atss" else BESIDE,
            folders=("coco", "coco2017", "COCO"),
            note=note,
            head=head,
            sides=(800, 1333),
            scales=scales,
        )
        for name, head, scales, note in (
            ("mask_rcnn_1x", "mask_rcnn", (), "Mask R-CNN, 12 passes."),
            ("mask_rcnn_3x", "mask_rcnn", SCALES, "Mask R-CNN, 36 passes at random scales."),
            ("cascade_mask_rcnn_3x", "cascade_mask_rcnn", SCALES, "Cascade Mask R-CNN, 36 passes at random scales."),
            ("atss_3x", "atss", SCALES, "ATSS, 36 passes at random scales; boxes only."),
        )
    )
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "mask_rcnn_1x": ONCE,
        "mask_rcnn_3x": THRICE,
        "cascade_mask_rcnn_3x": THRICE,
        "atss_3x": THRICE,
    }

    def standard(self, task: Task, method: Method) -> Recipe:
        return self.recipes[task.name]

    def locate(self, task: Task, root: Path) -> Path | None:
        """The folder that holds `annotations/`: the root itself or one of the task's folders below it."""
        folders = (root, *(root / name for name in task.folders))
        return next((folder for folder in folders if (folder / "annotations").is_dir()), None)

    def read(self, task: Task, data: Path, *, training: bool, refuse: Refuse = strict) -> Instances:
        return split(data, "train2017" if training else "val2017", task.classes, training=training, refuse=refuse)

    def every(self, task: Task, data: Path, *, training: bool, refuse: Refuse = strict) -> Instances:
        return split(data, "train2017" if training else "val2017", task.classes, training=False, refuse=refuse)

    def sizes(self) -> Sizes:
        """How large the heads are."""
        from petlbench.dense.mask_rcnn import Sizes

        return Sizes()

    def head(self, encoder: Encoder, task: Any) -> DenseHead:
        from petlbench.dense.atss import ATSS
        from petlbench.dense.cascade import CascadeMaskRCNN
        from petlbench.dense.mask_rcnn import MaskRCNN

        kinds: dict[str, Any] = {"mask_rcnn": MaskRCNN, "cascade_mask_rcnn": CascadeMaskRCNN, "atss": ATSS}
        made: DenseHead = kinds[task.head](encoder.channels, encoder.strides, task.classes, self.sizes())
        return made

    def answers(
        self, task: DenseTask, look: Look, pictures: Sequence[Image]
    ) -> list[tuple[dict[str, Any], tuple[int, int]]]:
        """What is found in some images, each with the size that it was seen in.

        Images are seen together only if they are padded to the same size, so that none is padded more in company than
        alone: a ViT sees its padding, and results would depend on the batch.
        """
        from petlbench.dense import images

        sizes = [images.fitted((each.height, each.width), *task.sides) for each in pictures]
        views = [images.resized(each, {}, size)[0] for each, size in zip(pictures, sizes, strict=True)]
        groups: dict[tuple[int, ...], list[int]] = {}
        for place, size in enumerate(sizes):
            groups.setdefault(tuple(-(-side // images.MULTIPLE) for side in size), []).append(place)
        found: dict[int, dict[str, Any]] = {}
        for places in groups.values():
            found |= zip(places, look([views[place] for place in places]), strict=True)
        return [(found[place], size) for place, size in enumerate(sizes)]

    def labelled(self, source: Source, classes: int, index: int) -> Image:
        from petlbench.dense import pictures

        return pictures.labelled(instances(source), index)

    def remarks(self, source: Source) -> Iterator[str]:
        from petlbench.dense import coco

        return coco.remarks(instances(source))

    def made_up(self, task: Task, chance: Generator) -> Target:
        """Rectangles of a twentieth to three tenths of the image."""
        import torch

        height, width = self.counted
        size = torch.tensor([width, height])
        near, far = torch.rand(2, OBJECTS, 2, generator=chance)
        corners = torch.cat([near * 0.7, near * 0.7 + 0.05 + far * 0.25], dim=1) * size.repeat(2)
        masks = torch.zeros(OBJECTS, height, width, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(masks, corners.int().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
        labels = torch.randint(1, task.classes + 1, (OBJECTS,), generator=chance)
        return {"boxes": corners, "labels": labels, "masks": masks}

    def evaluator(self, task: Task, source: Source) -> Evaluator:
        from petlbench.dense.coco_evaluation import Evaluator

        return Evaluator(instances(source), masks="mask_ap" in task.also)


def split(data: Path, name: str, classes: int, *, training: bool, refuse: Refuse) -> Instances:
    """A split by its name in COCO's files; `training` leaves out what cannot be trained on."""
    from petlbench.dense import coco

    file = data / "annotations" / f"instances_{name}.json"
    return coco.read(file, data / name, classes, training=training, refuse=refuse)


def instances(source: Any) -> Instances:
    """The images and objects behind a source, which may be a part of a part of a split."""
    from petlbench.dense.images import Part

    return instances(source.source).part(source.indices) if isinstance(source, Part) else source
