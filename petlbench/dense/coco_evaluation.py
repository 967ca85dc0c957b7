"""COCO's average precision of boxes and of masks, for predictions made at another size than the image has.

faster-coco-eval counts, several times faster than the reference, pycocotools; a test holds the two equal. Boxes and
masks are counted apart: given both, either library takes an object's area from its box, which shifts the masks' AP by
size.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval import mask as rle
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample

from petlbench.dense.coco import Instances, encoded

Detection = dict[str, Any]
"""One detection as COCO's results files have it: "image_id", "category_id", "score", "bbox" and, if the detector makes
masks, "segmentation"."""
Size = tuple[int, int]
"""Height and width in pixels."""
STATISTICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar_100")
"""The first of COCO's twelve figures, in its order. Small is below 32 x 32 pixels, large from 96 x 96 on."""


class Evaluator:
    """Collects what a detector finds in the images of a split, and scores it once all is there."""

    def __init__(self, truth: Instances, masks: bool = True) -> None:
        """`masks` says whether the detector makes any."""
        self.truth, self.masks = truth, masks
        self.found: list[Detection] = []

    def add(self, index: int, found: dict[str, Tensor], seen: Size, original: Size) -> None:
        """Take what was found in the image at this place of the split, in pixels of the size at which it was `seen`."""
        image, categories = self.truth.photos[index].id, self.truth.categories
        self.found += detections(found, image_id=image, seen=seen, original=original, categories=categories)

    def scores(self) -> Iterator[tuple[str, float]]:
        """(metric, percent), box_ap first."""
        return score(self.truth, self.found, self.masks)

    def picture(self, index: int) -> Image.Image:
        """The image at this place of the split with its true objects, and with what was found."""
        from petlbench.dense.pictures import pair

        return pair(self.truth, index, self.found)


def detections(
    found: dict[str, Tensor], *, image_id: int, seen: Size, original: Size, categories: Sequence[int]
) -> list[Detection]:
    """What a detector found in an image, in the image's own pixels.

    `found` holds "boxes" (N, 4), "labels" (N,) from 1, "scores" (N,) and, of some, "masks" (N, S, S), in pixels of the
    size at which it was `seen`. A mask is pasted and encoded before the next one is touched: a hundred of them
    would fill half a gigabyte.
    """
    height, width = original
    factors = torch.tensor([width / seen[1], height / seen[0]]).repeat(2)
    boxes = found["boxes"].cpu() * factors
    results: list[Detection] = []
    for box, label, score in zip(boxes, found["labels"], found["scores"], strict=True):
        left, top, right, bottom = box.tolist()
        results.append(
            {
                "image_id": image_id,
                "category_id": categories[int(label) - 1],
                "score": float(score),
                "bbox": [left, top, right - left, bottom - top],
            }
        )
    if "masks" in found:
        for result, box, mask in zip(results, boxes, found["masks"].cpu(), strict=True):
            pixels = rle.encode(np.asfortranarray(paste(mask, box, original)))
            result["segmentation"] = {"size": pixels["size"], "counts": pixels["counts"].decode()}
    return results


def paste(mask: Tensor, box: Tensor, size: Size) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The pixels (H, W) of an image whose middle lies in the mask: its probabilities (S, S), spread over the box by
    bilinear interpolation, are 0.5 or more there."""
    height, width = size
    pixels = np.zeros(size, dtype=np.uint8)
    left, top, right, bottom = box.tolist()
    first, last = max(int(left) - 1, 0), min(int(right) + 2, width)
    start, end = max(int(top) - 1, 0), min(int(bottom) + 2, height)
    if right <= left or bottom <= top or first >= last or start >= end:
        return pixels
    x, y = torch.arange(first, last), torch.arange(start, end)
    columns = (x + 0.5 - left) / (right - left) * 2 - 1  # from -1 at the left border of the box to 1 at the right
    rows = (y + 0.5 - top) / (bottom - top) * 2 - 1
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=2)
    values = grid_sample(mask[None, None].float(), grid[None], align_corners=False)[0, 0]
    pixels[start:end, first:last] = (values >= 0.5).numpy()
    return pixels


def score(truth: Instances, found: Sequence[Detection], masks: bool = True) -> Iterator[tuple[str, float]]:
    """Yield (metric, value in percent): box_ap, box_ap50, ..., mask_ap, ..., and box_ap/NAME, ... for every class.
    Without `masks`, those of boxes only.

    A figure for which there is nothing to find, such as AP of large objects where all are small, is left out.
    """
    reference = index(ground_truth(truth))
    classes: list[tuple[str, float]] = []
    for name, kind, key in (("box", "bbox", "bbox"), ("mask", "segm", "segmentation"))[: 1 + masks]:
        own = [{field: each[field] for field in ("image_id", "category_id", "score", key)} for each in found]
        with contextlib.redirect_stdout(io.StringIO()):
            counted = COCOeval_faster(reference, reference.loadRes(own), kind)
            counted.evaluate()
            counted.accumulate()
            counted.summarize()
        values = zip(STATISTICS, counted.stats, strict=False)
        yield from ((f"{name}_{statistic}", 100 * float(value)) for statistic, value in values if value >= 0)
        precision = counted.eval["precision"]  # (IoU thresholds, recalls, classes, areas, most detections per image)
        for label, title in enumerate(truth.names):
            curve = precision[:, :, label, 0, -1]
            if (curve > -1).any():
                classes.append((f"{name}_ap/{title}", 100 * float(curve[curve > -1].mean())))
    yield from classes


def ground_truth(truth: Instances) -> dict[str, Any]:
    """The images and objects of a split as COCO's annotation files have them, outlines as compressed codes."""
    return {
        "info": {},
        "images": [{"id": photo.id, "height": photo.height, "width": photo.width} for photo in truth.photos],
        "categories": [{"id": each.id, "name": each.name} for each in truth.contents.categories],
        "annotations": [
            {
                "id": each.id,
                "image_id": photo.id,
                "category_id": each.category_id,
                "bbox": list(each.bbox),
                "area": each.area,
                "iscrowd": each.iscrowd,
                "segmentation": encoded(each, photo),
            }
            for photo in truth.photos
            for each in truth.objects.get(photo.id, ())
        ],
    }


def index(dataset: dict[str, Any]) -> Any:
    """The library's view of a data set."""
    made = COCO()
    made.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        made.createIndex()
    return made
