"""A tiny data set in COCO's layout, with everything that real ones hold."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

CATEGORIES = [{"id": 44, "name": "bottle"}, {"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
"""With gaps, and not in order."""


def real_categories() -> list[dict[str, Any]]:
    """The 80 categories of COCO with their ids, 1 to 90."""
    names = MaskRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    return [
        {"id": number, "name": name, "supercategory": "any"}
        for number, name in enumerate(names)
        if name not in ("__background__", "N/A")
    ]


def annotation(number: int, image: int, category: int, box: tuple[float, ...], **changes: Any) -> dict[str, Any]:
    """An object that fills its box (left, top, width, height)."""
    left, top, width, height = box
    right, bottom = left + width, top + height
    outline = [[left, top, right, top, right, bottom, left, bottom]]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "area": width * height,
        "iscrowd": 0,
        "segmentation": outline,
    } | changes


def contents() -> dict[str, Any]:
    """Three images of 48 x 40 pixels: with a person and a dog, with a crowd, and without anything."""
    crowd = {"size": [40, 48], "counts": [0, 400, 1520]}  # the ten columns at the left
    return {
        "info": {"year": 2017},
        "licenses": [],
        "images": [
            {"id": number, "file_name": f"{number:012d}.jpg", "height": 40, "width": 48, "license": 1}
            for number in (9, 139, 285)
        ],
        "categories": [{**each, "supercategory": "any"} for each in CATEGORIES],
        "annotations": [
            annotation(1, 9, 1, (4, 6, 20, 30)),
            annotation(2, 9, 18, (30, 10, 10, 10)),
            annotation(3, 139, 44, (20, 5, 16, 24)),
            annotation(900100000139, 139, 1, (0, 0, 10, 40), iscrowd=1, segmentation=crowd),
        ],
    }


def write(root: Path, data: dict[str, Any], split: str = "val2017") -> tuple[Path, Path]:
    """Write a split and return its annotation file and its folder of images, random noise each."""
    folder, file = root / split, root / "annotations" / f"instances_{split}.json"
    folder.mkdir(parents=True, exist_ok=True)
    file.parent.mkdir(exist_ok=True)
    for each in data["images"]:
        pixels = np.random.default_rng(each["id"]).integers(0, 255, (each["height"], each["width"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / each["file_name"])
    file.write_text(json.dumps(data))
    return file, folder
