"""Draws objects into their image: a tint over the mask, a frame around the box, class and score beside it."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from faster_coco_eval import mask as rle
from PIL import Image, ImageDraw, ImageFont

from petlbench.dense.coco import Instances, encoded
from petlbench.dense.coco_evaluation import Detection

SIDE = 480
"""Pixels that the longer side of a picture has at least; small images are enlarged."""
SURE = 0.5
"""Score from which on a detection is drawn."""
TINT = 0.45
"""Share of its colour that a mask has."""


def pair(truth: Instances, index: int, found: Sequence[Detection]) -> Image.Image:
    """An image twice, side by side: with its true objects (a crowd is marked "crowd"), and with what was found."""
    photo = truth.photos[index]
    own = [
        {**each, "note": f" {each['score']:.2f}"}
        for each in found
        if each["image_id"] == photo.id and each["score"] >= SURE
    ]
    left, right = labelled(truth, index), drawn(truth.image(index), own, truth)
    both = Image.new("RGB", (left.width + right.width + 8, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + 8, 0))
    return both


def labelled(truth: Instances, index: int) -> Image.Image:
    """An image with its true objects."""
    photo = truth.photos[index]
    actual = [
        {
            "category_id": each.category_id,
            "bbox": list(each.bbox),
            "segmentation": encoded(each, photo),
            "note": " crowd" if each.iscrowd else "",
        }
        for each in truth.objects.get(photo.id, ())
    ]
    return drawn(truth.image(index), actual, truth)


def drawn(image: Image.Image, objects: Sequence[Detection], truth: Instances) -> Image.Image:
    """The image with these objects: "category_id", "bbox" as left, top, width and height, "note" and, where
    there is a mask, "segmentation"."""
    pixels = np.asarray(image, dtype=np.float32).copy()
    for each in objects:
        if "segmentation" not in each:
            continue
        inside = rle.decode(each["segmentation"]).astype(bool)
        pixels[inside] = (1 - TINT) * pixels[inside] + TINT * np.array(colour(truth, each), dtype=np.float32)
    factor = max(1, round(SIDE / max(image.size)))
    picture = Image.fromarray(pixels.round().astype(np.uint8))
    picture = picture.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for each in objects:
        left, top, width, height = (factor * value for value in each["bbox"])
        pen.rectangle((left, top, left + width - 1, top + height - 1), outline=colour(truth, each), width=2)
        title = truth.names[truth.labels[each["category_id"]] - 1] + each["note"]
        place = (max(left, 0), max(top - 17, 0))
        pen.rectangle(pen.textbbox(place, title, font=font), fill=colour(truth, each))
        pen.text(place, title, fill="black", font=font)
    return picture


def colour(truth: Instances, each: Detection) -> tuple[int, int, int]:
    """The colour of a class: hues as far from each other as the number of classes allows."""
    label = truth.labels[each["category_id"]]
    red, green, blue = colorsys.hls_to_rgb(label / len(truth.names), 0.6, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)
