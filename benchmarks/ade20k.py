"""ADE20K as scene parsing: 150 classes for every pixel, with Semantic FPN and UPerNet.

HST, whose tables these are, published neither code nor settings for ADE20K. What it prints, it fixes: crops of 512,
80k steps of Semantic FPN and 160k of UPerNet, scores at one and at several sizes. The rest is the field's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from petlbench.dense.segmentation import Segmentation, SegmentationTask
from petlbench.method import Method, Paper
from petlbench.recipe import Recipe

UPERNET = Recipe(
    source="petlbench, HST published none: mmsegmentation configs/mae (rate) and configs/vit (the rest), UPerNet, 160k "
    "steps",
    steps=160_000,
    batch_size=16,
    lr=1e-4,
    weight_decay=0.01,
    decay_all=False,
    decay="poly",
    warmup_steps=1500,
    warmup_lr=1e-10,
    min_lr=0.0,
    flip=0.5,
)


def _task(name: str, steps: str) -> SegmentationTask:
    return SegmentationTask(
        name=name,
        group="segmentation",
        also=("miou_ms",),
        classes=150,
        train=20_210,
        val=2_021,
        test=2_000,
        head=name,
        sides=(512, 2048),
        crop=512,
        ratios=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
        inference="slide",
        stride=341,
        folders=("ADEChallengeData2016",),
        note=f"Scenes, {steps} steps; windows of 512 every 341 pixels.",
    )


class ADE20K(Segmentation):
    """Reads ADEChallengeData2016 as it is distributed, trains on training and scores on validation."""

    paper = Paper(
        title="Scene Parsing through ADE20K Dataset",
        authors="Bolei Zhou and Hang Zhao and Xavier Puig and Sanja Fidler and Adela Barriuso and Antonio Torralba",
        year=2017,
        venue="IEEE Conference on Computer Vision and Pattern Recognition",
        code="CSAILVision/sceneparsing",
    )
    source = (
        "ADEChallengeData2016.zip is linked from the scene parsing challenge of MIT (sceneparsing.csail.mit.edu); "
        "unpack it so that DIR/ADEChallengeData2016/images/training exists"
    )
    tasks = (_task("semantic_fpn", "80k"), _task("upernet", "160k"))

    def standard(self, task: Any, method: Method) -> Recipe:
        """Half the steps for Semantic FPN."""
        return replace(UPERNET, steps=80_000) if task.head == "semantic_fpn" else UPERNET
