"""Augmentation: what a recipe changes at random in the training images, batch by batch, on their device."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Tensor

from petlbench.recipe import Recipe


class Augment:
    """Turns pixels (B, 3, H, W) uint8 and labels (B,) into what is trained on: normalised images and targets.

    In the order of timm's prefetching loader: crop, flip, mix, erase. The images come out `size` x `size` where they
    are cropped; targets are probabilities (B, classes) where images are mixed, and the labels as they came otherwise.
    Labels are not smoothed here: that is the loss's business.
    """

    def __init__(
        self,
        recipe: Recipe,
        normalize: Callable[[Tensor], Tensor],
        seeds: random.Random,
        *,
        size: int,
        classes: int,
        device: str = "cpu",
    ) -> None:
        self.recipe = recipe
        self.normalize = normalize
        self.seeds = seeds
        """Gives each batch a seed of its own, so that nothing else that draws, such as dropout, changes the images."""
        self.device = torch.device(device)
        self.crop = self.mix = self.erase = None
        if recipe.crop_scale is not None:
            self.crop = RandomResizedCropAndInterpolation(
                size, recipe.crop_scale, recipe.crop_ratio, recipe.crop_interpolation
            )
        if recipe.mixes:
            self.mix = Mixup(
                recipe.mixup,
                recipe.cutmix,
                prob=recipe.mix_probability,
                switch_prob=recipe.mix_switch,
                label_smoothing=0.0,
                num_classes=classes,
            )
        if recipe.erasing > 0:
            self.erase = RandomErasing(recipe.erasing, mode="pixel", device=self.device)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if not self.recipe.augments:
            return self.normalize(images), labels
        with _seeded(self.seeds.getrandbits(32), self.device):
            if self.crop is not None:
                images = torch.stack([self.crop(image) for image in images])
            if self.recipe.flip > 0:
                mirrored = torch.rand(len(images)) < self.recipe.flip
                images = torch.where(mirrored.to(self.device)[:, None, None, None], images.flip(-1), images)
            images = self.normalize(images)
            if self.mix is not None:
                images, labels = self.mix(images, labels)
            if self.erase is not None:
                images = self.erase(images)
        return images, labels


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Start the global generators of Python, NumPy and torch from a seed, and put them back afterwards.

    The transforms of timm draw from all three.
    """
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
