"""Makes VTAB-1K from TensorFlow Datasets, cut as google-research/task_adaptation and VPT cut it, with unchanged pixels.

The first 800 examples of a training split and the first 200 of a validation split, in the order of TFDS, are the 1,000
to train on; some data sets have no validation split, and a part of another one is cut off for it. NOAH's export is the
same selection saved as JPEG. Needs `pip install petlbench[tfds]`; resisc45 and diabetic_retinopathy also need files
that TFDS asks to be fetched by hand.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from petlbench.errors import InputError

Example = Mapping[str, Any]
Counts = Mapping[str, int]
Slices = Callable[[Counts], dict[str, str]]


@dataclass(frozen=True)
class Source:
    """Where a task comes from."""

    builder: str
    """Name, configuration and version in TFDS."""
    slices: Slices
    """TFDS's slices for train800, val200 and test, from the sizes of its splits."""
    label: Callable[[Example], int] = lambda example: int(example["label"])
    binary: bool = False
    """Pixels are 0 and 1 rather than 0 to 255."""


def _own(counts: Counts) -> dict[str, str]:
    """The data set has all three splits."""
    return {"train800": "train[:800]", "val200": "validation[:200]", "test": "test"}


def _cut(percent: int, test: str = "test", test_from: int | None = None) -> Slices:
    """val200 begins after so many percent of train; so does the test split, after more, where there is none."""

    def slices(counts: Counts) -> dict[str, str]:
        first = percent * counts["train"] // 100
        found = {"train800": "train[:800]", "val200": f"train[{first}:{first + 200}]", "test": test}
        if test_from is not None:
            found["test"] = f"train[{first + (test_from - percent) * counts['train'] // 100}:]"
        return found

    return slices


def _halved(counts: Counts) -> dict[str, str]:
    """smallNORB: val200 opens the official test split, whose second half is the test split."""
    return {"train800": "train[:800]", "val200": "test[:200]", "test": f"test[{counts['test'] // 2}:]"}


def _bin(value: float, edges: tuple[float, ...]) -> int:
    """The last edge that lies below the value."""
    return int(np.flatnonzero(np.array(edges) < value).max())


def _vehicle(example: Example) -> int:
    """Distance of the nearest car, van or truck (types 0 to 2), in three bins; the fourth is "none"."""
    objects = example["objects"]
    near = np.asarray(objects["location"]).reshape(-1, 3)[np.asarray(objects["type"]) < 3, 2]
    return _bin(min([*near.tolist(), 1000.0]), (-100.0, 8.0, 20.0, 999.0))


def _depth(example: Example) -> int:
    """Depth of the nearest object."""
    return _bin(np.asarray(example["objects"]["pixel_coords"])[:, 2].min(), (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0))


SOURCES = {
    "cifar100": Source("cifar100:3.*.*", _cut(90)),
    "caltech101": Source("caltech101:3.*.*", _cut(90)),
    "dtd": Source("dtd:3.*.*", _own),
    "flowers102": Source("oxford_flowers102:2.*.*", _own),
    "pets": Source("oxford_iiit_pet:3.*.*", _cut(80)),
    "svhn": Source("svhn_cropped:3.*.*", _cut(90)),
    "sun397": Source("sun397/tfds:4.*.*", _own),
    "patch_camelyon": Source("patch_camelyon:2.*.*", _own),
    "eurosat": Source("eurosat/rgb:2.*.*", _cut(60, test_from=80)),
    "resisc45": Source("resisc45:3.*.*", _cut(60, test_from=80)),
    "diabetic_retinopathy": Source("diabetic_retinopathy_detection/btgraham-300:3.*.*", _own),
    "clevr_count": Source("clevr:3.*.*", _cut(90, "validation"), lambda x: len(x["objects"]["size"]) - 3),
    "clevr_dist": Source("clevr:3.*.*", _cut(90, "validation"), _depth),
    "dmlab": Source("dmlab:2.0.1", _own),
    "kitti_dist": Source("kitti:3.2.0", _own, _vehicle),
    "dsprites_loc": Source(
        "dsprites:2.*.*", _cut(80, test_from=90), lambda x: int(x["label_x_position"] // 2), binary=True
    ),
    "dsprites_ori": Source(
        "dsprites:2.*.*", _cut(80, test_from=90), lambda x: int(x["label_orientation"] // 2.5), binary=True
    ),
    "smallnorb_azi": Source("smallnorb:2.*.*", _halved, lambda x: int(x["label_azimuth"])),
    "smallnorb_ele": Source("smallnorb:2.*.*", _halved, lambda x: int(x["label_elevation"])),
}


def library() -> Any:
    """The module tensorflow_datasets. Raises InputError that says how to install it."""
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise InputError(
            f"--from tfds: {error}; it comes with `pip install petlbench[tfds]`, best in an environment of its own"
        ) from error
    return tensorflow_datasets


def prepare(
    name: str,
    folder: Path,
    tfds: Any,
    form: Literal["png", "jpg"] = "png",
    download: str | None = None,
    progress: Callable[[str, int], None] = lambda split, done: None,
) -> None:
    """Write a task into a folder, in the layout of VTAB-1K; it appears whole or not at all.

    `tfds` is the module, or whatever has its `builder` and `as_numpy`; `download` is where TFDS keeps its own files;
    "jpg" saves as NOAH's data maker does. Raises InputError with TFDS's own reason if it cannot make the data set.
    """
    source = SOURCES[name]
    try:
        builder = tfds.builder(source.builder, data_dir=download)
        builder.download_and_prepare()
    except Exception as error:  # TFDS raises what its downloads, versions and manual files raise
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"task {name}: TFDS cannot make {source.builder}: {reason}") from error
    slices = source.slices({split: each.num_examples for split, each in builder.info.splits.items()})
    part = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        lists = {}
        for split, piece in slices.items():
            examples = tfds.as_numpy(builder.as_dataset(split=piece, shuffle_files=False))
            lists[split] = list(_saved(part, split, examples, source, form, progress))
        lists["train800val200"] = lists["train800"] + lists["val200"]
        for split, lines in lists.items():
            (part / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _saved(
    folder: Path,
    split: str,
    examples: Iterable[Example],
    source: Source,
    form: str,
    progress: Callable[[str, int], None],
) -> Iterator[str]:
    (folder / "images" / split).mkdir(parents=True)
    for number, example in enumerate(examples):
        name = f"images/{split}/{number:06d}.{form}"
        pixels = np.asarray(example["image"])
        pixels = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
        Image.fromarray(pixels * np.uint8(255) if source.binary else pixels).save(folder / name)
        progress(split, number + 1)
        yield f"{name} {source.label(example)}\n"
