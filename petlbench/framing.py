"""How an image of any size becomes the square that a backbone takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image

Resize = Literal["squash", "crop"]
"""`squash`: both sides to the wanted size, whatever the shape, as VTAB-1K prescribes. `crop`: the shorter side to 8/7
of it (256 for 224) and then the middle, as ImageNet and FGVC are evaluated."""
Interpolation = Literal["bicubic", "bilinear"]
"""Both as Pillow does them, with antialiasing where an image shrinks."""

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
KEPT = 7 / 8
"""Share of the shorter side that `crop` keeps: timm's default `crop_pct`."""


@dataclass(frozen=True)
class Framing:
    """Turns an RGB image into one of size x size pixels."""

    size: int
    """Height and width, in pixels."""
    resize: Resize = "squash"
    interpolation: Interpolation = "bicubic"

    def __call__(self, image: Image.Image) -> Image.Image:
        size, method = self.size, FILTERS[self.interpolation]
        if self.resize == "squash":
            return image if image.size == (size, size) else image.resize((size, size), method)
        shorter = int(size / KEPT)  # rounded as torchvision's Resize and CenterCrop round
        width, height = (int(shorter * side / min(image.size)) for side in image.size)
        left, top = round((width - size) / 2), round((height - size) / 2)
        return image.resize((width, height), method).crop((left, top, left + size, top + size))

    def __str__(self) -> str:
        """Part of a file's name: "224-bicubic", "224-crop-bilinear"."""
        return "-".join([str(self.size), *(["crop"] if self.resize == "crop" else []), self.interpolation])
