"""Augmentation: each does what it says, image by image, and is repeated by its seed."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from petlbench.augment import Augment
from petlbench.recipe import Recipe

EVERYTHING: dict[str, Any] = {
    "crop_scale": (0.08, 1.0),
    "flip": 0.5,
    "erasing": 0.5,
    "mixup": 0.8,
    "cutmix": 1.0,
}


def augment(seed: int = 0, size: int = 16, normalize: Callable[[Tensor], Tensor] = Tensor.float, **on: Any) -> Augment:
    return Augment(Recipe(**on), normalize, random.Random(seed), size=size, classes=4)


def pixels(count: int = 64, size: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    return images, torch.arange(count) % 4


def flat(*values: int) -> tuple[Tensor, Tensor]:
    """Images of one grey each, whose labels count up."""
    images = torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16).contiguous()
    return images, torch.arange(len(values))


def test_a_plain_recipe_only_normalises() -> None:
    images, labels = pixels()
    found, targets = augment(normalize=lambda x: x.float() / 255)(images, labels)
    assert torch.equal(found, images.float() / 255)
    assert targets is labels


@pytest.mark.parametrize("settings", [{name: value} for name, value in EVERYTHING.items()] + [EVERYTHING], ids=str)
def test_a_seed_repeats_every_batch_and_another_does_not(settings: dict[str, Any]) -> None:
    images, labels = pixels()
    first, again, other = augment(1, **settings), augment(1, **settings), augment(2, **settings)
    batches = []
    for _ in range(3):
        found, expected = first(images, labels), again(images, labels)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
        assert not torch.equal(found[0], other(images, labels)[0])
        batches.append(found[0])
    assert not torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[1], batches[2])


def test_the_global_generators_neither_matter_nor_move() -> None:
    images, labels = pixels()

    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), torch.rand(1).item()

    def seeded(seed: int) -> None:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

    seeded(3)
    expected = drawn()
    seeded(3)
    one = augment(**EVERYTHING)(images, labels)
    assert drawn() == expected
    two = augment(**EVERYTHING)(images, labels)
    assert torch.equal(one[0], two[0])


def test_the_images_of_the_caller_stay_as_they_are() -> None:
    images, labels = pixels()
    before = images.clone()
    augment(**EVERYTHING)(images, labels)
    assert torch.equal(images, before)


def test_a_flip_mirrors_whole_images_each_by_its_own_draw() -> None:
    images, labels = pixels(400)
    found, targets = augment(flip=0.25)(images, labels)
    mirrored = (found == images.flip(-1)).flatten(1).all(1)
    kept = (found == images).flatten(1).all(1)
    assert bool((mirrored ^ kept).all())
    assert 70 < int(mirrored.sum()) < 130  # 100 of 400 expected, three and a half sigma either way
    assert targets is labels


def test_a_crop_of_the_whole_image_is_the_image() -> None:
    images, labels = pixels()
    assert torch.equal(augment(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))(images, labels)[0], images.float())


def test_a_crop_shows_a_part_at_full_size_and_each_image_another() -> None:
    ramp = torch.arange(0, 256, 4, dtype=torch.uint8).expand(64, 3, 64, 64).contiguous()  # bright to the right
    found, _ = augment(size=32, crop_scale=(0.25, 0.25), crop_ratio=(1.0, 1.0))(ramp, torch.zeros(64))
    assert found.shape == (64, 3, 32, 32)
    span = found.amax((1, 2, 3)) - found.amin((1, 2, 3))
    assert span.tolist() == [124.0] * 64  # 32 of 64 columns, untouched by resizing
    assert len(found[:, 0, 0, 0].unique()) > 15  # of 33 places


def test_the_random_crop_of_vpt_cuts_224_from_256_pixels() -> None:
    share = (224 / 256) ** 2
    images, labels = pixels(2, 256)
    found, _ = augment(size=224, crop_scale=(share, share), crop_ratio=(1.0, 1.0))(images, labels)
    for image, crop in zip(images, found, strict=True):
        windows = image.float().unfold(1, 224, 1).unfold(2, 224, 1)[0]
        assert sum(bool(torch.equal(window, crop[0])) for row in windows for window in row) == 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "random"])
def test_a_crop_is_resized_as_asked(interpolation: str) -> None:
    images, labels = pixels(32)
    settings: dict[str, Any] = {"crop_scale": (0.25, 0.25), "crop_ratio": (1.0, 1.0)}
    found, bilinear, bicubic = (
        augment(crop_interpolation=each, **settings)(images, labels)[0]
        for each in (interpolation, "bilinear", "bicubic")
    )
    assert torch.equal(found, bilinear) is (interpolation == "bilinear")
    assert torch.equal(found, bicubic) is (interpolation == "bicubic")


def test_erasing_replaces_one_box_by_normal_noise_in_its_share_of_the_images() -> None:
    images, labels = flat(*[200] * 400)
    found, _ = augment(erasing=0.25)(images, labels)
    gone = (found != 200).all(1)
    touched = gone.flatten(1).any(1)
    assert 70 < int(touched.sum()) < 130
    for mask in gone[touched]:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert bool(box.all())
        assert 0.01 < box.numel() / 256 < 0.37  # 2 % to a third, in whole pixels
    noise = found.permute(0, 2, 3, 1)[gone]
    assert noise.mean().item() == pytest.approx(0, abs=0.05)
    assert noise.std().item() == pytest.approx(1, abs=0.05)


def test_mixup_blends_images_and_targets_in_one_ratio() -> None:
    images, labels = flat(0, 40, 80, 120)
    found, targets = augment(mixup=0.8)(images, labels)
    share = targets[0, 0].item()
    assert 0 < share < 1
    assert targets[0].tolist() == pytest.approx([share, 0, 0, 1 - share])
    assert found[0].unique().tolist() == pytest.approx([120 * (1 - share)], abs=1e-3)
    assert found[1].unique().tolist() == pytest.approx([40 * share + 80 * (1 - share)], abs=1e-3)


def test_cutmix_pastes_one_box_and_weighs_targets_by_its_area() -> None:
    images, labels = flat(0, 40, 80, 120)
    found, targets = augment(cutmix=1.0)(images, labels)
    assert found[0].unique().tolist() == [0, 120]
    share = (found[0, 0] == 120).double().mean().item()
    assert targets[0].tolist() == pytest.approx([1 - share, 0, 0, share])
    assert torch.equal(found[0] == 120, found[1] == 80)


@pytest.mark.parametrize(("switch", "cut"), [(0.0, 0), (1.0, 200)])
def test_the_switch_chooses_between_mixup_and_cutmix(switch: float, cut: int) -> None:
    images, labels = flat(0, 40, 80, 120)
    mix = augment(mixup=1.0, cutmix=1.0, mix_switch=switch)
    batches = [mix(images, labels)[0] for _ in range(200)]
    assert sum(bool(torch.isin(batch, images.float()).all()) for batch in batches) == cut


def test_a_batch_is_mixed_with_the_given_probability() -> None:
    images, labels = flat(0, 40, 80, 120)
    mix = augment(mixup=1.0, mix_probability=0.25)
    mixed = sum(not torch.equal(mix(images, labels)[0], images.float()) for _ in range(400))
    assert 70 < mixed < 130
