"""A suite for the tests: bright against dark images, four tasks in two groups, in the layout of VTAB-1K."""

from pathlib import Path

import numpy as np
from PIL import Image

from petlbench import Classification, Task

SIZES = {"train800": 24, "val200": 8, "test": 16}


class Tiny(Classification):
    """Separable by a child."""

    tasks = tuple(
        Task(
            name=name,
            group=group,
            classes=2,
            train=32,
            val=8,
            test=16,
            folders=(f"{name}_folder",),
            note="made by the tests",
        )
        for name, group in (("day", "natural"), ("night", "natural"), ("left", "structured"), ("right", "structured"))
    )


def write(root: Path, names: tuple[str, ...] = ("day", "night", "left", "right")) -> Path:
    """Write the images and lists of the tasks below a folder and return it."""
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        lists: dict[str, list[str]] = {}
        for split, size in SIZES.items():
            folder = root / name / "images" / split
            folder.mkdir(parents=True)
            for index in range(size):
                label = index % 2
                pixels = rng.integers(0, 60, (8, 8, 3)) + 190 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:06d}.png")
                lists.setdefault(split, []).append(f"images/{split}/{index:06d}.png {label}")
        lists["train800val200"] = lists["train800"] + lists["val200"]
        for split, lines in lists.items():
            (root / name / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root
