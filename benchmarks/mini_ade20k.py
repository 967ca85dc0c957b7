"""Small scene parsing: drawn streets in the layout of ADE20K, through the same reader, heads, training and scores."""

from __future__ import annotations

from typing import Any

from petlbench.dense.segmentation import Segmentation, SegmentationTask
from petlbench.drawing import annotated, outdoors
from petlbench.method import Method
from petlbench.recipe import Recipe


def _task(name: str, head: str) -> SegmentationTask:
    return SegmentationTask(
        name=name,
        group="segmentation",
        also=("miou_ms",),
        classes=len(outdoors.CLASSES),
        train=annotated.SIZES["train"],
        val=annotated.SIZES["train"] // 10,
        test=annotated.SIZES["val"],
        head=head,
        sides=(128, 128),
        zoom=(1.0, 1.5),
        crop=96,
        photometric=False,
        ratios=(1.0, 1.25),
        width=64,
        folders=("ADEChallengeData2016",),
        note="Generated: streets with things on them; which of eleven classes does each pixel show?",
    )


class MiniADE20K(Segmentation):
    """Eleven classes, 240 pictures to train on and 60 to score on, about 128 x 128 pixels."""

    generated = "mini-ade20k"
    counted = (128, 128)
    tasks = (_task("semantic_fpn", "semantic_fpn"), _task("upernet", "upernet"))

    def standard(self, task: Any, method: Method) -> Recipe:
        return Recipe(
            source="petlbench: the better of two rates on the images that are scored, see docs/dense.md",
            steps=300,
            batch_size=8,
            lr=5e-3,
            weight_decay=0.01,
            decay_all=False,
            decay="poly",
            warmup_steps=20,
            min_lr=0.0,
            flip=0.5,
        )
