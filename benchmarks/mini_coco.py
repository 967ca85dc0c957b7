"""A small COCO: generated streets with six classes of things, in COCO's own format, for detectors of a laptop."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from petlbench.dense.suite import DenseTask
from petlbench.recipe import Recipe

from .coco import BESIDE, BOXES, COCO

if TYPE_CHECKING:
    from petlbench.dense.mask_rcnn import Sizes

MINI = Recipe(
    source="petlbench: short enough for a laptop; what was tried is in docs/detection.md",
    steps=450,
    batch_size=4,
    lr=1e-3,
    weight_decay=0.05,
    decay_all=False,
    decay="steps",
    milestones=(8 / 12, 11 / 12),
    warmup_steps=50,
    warmup_lr=1e-6,
    flip=0.5,
)


class MiniCOCO(COCO):
    """Reader, detectors, training and evaluation are those of `coco`.

    The heads are narrower, with GroupNorm in the pyramid.
    """

    paper = None
    source = ""
    generated = "mini-coco"
    counted = (128, 128)
    tasks = tuple(
        DenseTask(
            name=name,
            group="detection",
            classes=6,
            train=240,
            val=24,
            test=60,
            metric="box_ap",
            also=BOXES if name == "atss" else BESIDE,
            folders=("mini-coco",),
            note=f"Generated: balls, crates, barrels, cones, trucks and chairs in a street; {title}.",
            head=name,
            sides=(128, 128),
        )
        for name, title in (
            ("mask_rcnn", "Mask R-CNN"),
            ("cascade_mask_rcnn", "Cascade Mask R-CNN"),
            ("atss", "ATSS, boxes only"),
        )
    )
    recipes = {"mask_rcnn": MINI, "cascade_mask_rcnn": MINI, "atss": MINI}

    def sizes(self) -> Sizes:
        return replace(
            super().sizes(),
            width=64,
            groups=8,
            hidden=128,
            box_convs=1,
            mask_convs=1,
            anchors=(8, 16, 32, 64, 128),
            candidates=(100, 100),
            proposals=100,
            regions=32,
            detections=20,
        )
