"""How an image becomes the square that a backbone takes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

from petlbench import folder, zoo
from petlbench.framing import Framing


@pytest.fixture
def stripes() -> Image.Image:
    """Three stripes side by side, 90 x 30: red, green, blue."""
    pixels = np.zeros((30, 90, 3), np.uint8)
    for stripe in range(3):
        pixels[:, 30 * stripe : 30 * stripe + 30, stripe] = 255
    return Image.fromarray(pixels)


def test_squashing_keeps_the_whole_image(stripes: Image.Image) -> None:
    pixels = np.asarray(Framing(12)(stripes))
    assert pixels.shape == (12, 12, 3)
    assert [pixels[6, column].argmax() for column in (1, 6, 10)] == [0, 1, 2]


def test_cropping_keeps_the_middle_in_its_proportions(stripes: Image.Image) -> None:
    pixels = np.asarray(Framing(28, "crop")(stripes))  # to 96 x 32, then the middle 28
    assert pixels.shape == (28, 28, 3)
    assert (pixels[..., 1] > 200).all()


@pytest.mark.parametrize(("width", "height"), [(500, 375), (224, 224), (30, 900), (7, 5)])
@pytest.mark.parametrize("size", [224, 64, 1])
def test_any_image_becomes_a_square(width: int, height: int, size: int) -> None:
    assert Framing(size, "crop", "bilinear")(Image.new("RGB", (width, height))).size == (size, size)


@pytest.mark.parametrize("shape", [(300, 451), (375, 500), (613, 224), (100, 101)])
def test_a_crop_to_224_is_what_torchvision_makes_by_resizing_to_256_and_cutting_the_centre(
    shape: tuple[int, int],
) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    expected = v2.Compose([v2.Resize(256, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224)])(image)
    assert np.array_equal(Framing(224, "crop")(image), expected)


def test_the_two_interpolations_differ_on_anything_that_is_not_flat(stripes: Image.Image) -> None:
    one, other = (np.asarray(Framing(13, "squash", kind)(stripes)) for kind in ("bicubic", "bilinear"))
    assert (one != other).any()


def test_each_framing_of_a_split_is_kept_under_a_name_of_its_own(data: Path) -> None:
    suite = zoo.suite("vtab")()
    task = dataclasses.replace(suite.tasks[0], classes=2)
    framings = [Framing(6), Framing(8), Framing(8, "crop"), Framing(8, "squash", "bilinear")]
    digests = set()
    for framing in framings:
        images = suite.data(task, "test", data / "day", framing)
        images.all()
        digests.add(images.digest())
    kept = {file.name.rpartition("-")[0] for file in (data / "day" / "decoded").glob("*.npy")}
    assert kept == {"test-6-bicubic", "test-8-bicubic", "test-8-crop-bicubic", "test-8-bilinear"}
    assert len(digests) == 1  # that of the original pixels


def test_what_decides_is_the_suite_unless_it_is_asked_otherwise() -> None:
    assert {name: zoo.suite(name).resize for name in ("vtab", "fgvc", "mini", "cifar100")} == {
        "vtab": "squash",
        "fgvc": "crop",
        "mini": "squash",
        "cifar100": "squash",
    }


def test_an_image_is_framed_when_it_is_decoded(tmp_path: Path, stripes: Image.Image) -> None:
    stripes.save(tmp_path / "one.png")
    listing = folder.Listing(tmp_path / "list.txt", (tmp_path / "one.png",), (0,))
    _, squashed = folder.decode(listing, 0, Framing(12))
    _, cropped = folder.decode(listing, 0, Framing(12, "crop"))
    assert squashed[:, 1, 0].min() > 200
    assert cropped[:, 1, 0].max() < 30
