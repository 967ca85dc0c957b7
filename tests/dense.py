"""A suite of detection for the tests of tables: what coco reports, with nothing to train."""

from tiny import Tiny

from petlbench import Task

ALSO = ("box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75")


class Coco(Tiny):
    """Two detectors with six metrics each."""

    tasks = tuple(
        Task(name=name, group="detection", classes=80, test=5_000, metric="box_ap", also=ALSO, note="made by the tests")
        for name in ("mask_rcnn_1x", "mask_rcnn_3x")
    )
