"""Backbones for the tests of methods, and what is done to them there."""

import pickle
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

from petlbench.encoder import ViT
from petlbench.surgery import trained


def vit_base() -> ViT:
    """ViT-B/16, which is the default of timm's class, without memory for its weights: to count, not to compute."""
    with torch.device("meta"):
        return ViT(VisionTransformer())


def small(depth: int = 2, **options: Any) -> ViT:
    """A ViT of 24 channels for images of 32 x 32."""
    torch.manual_seed(0)
    model = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=depth, num_heads=2, **options)
    return ViT(model).eval()


def count(encoder: Any) -> int:
    """Weights that are trained."""
    return sum(parameter.numel() for parameter in trained(encoder))


def perturbed(encoder: Any) -> Any:
    """As after some training: no trained weight is zero any more."""
    for parameter in trained(encoder):
        torch.nn.init.normal_(parameter, std=0.1)
    return encoder


def pickled(module: Any) -> Any:
    """As it arrives in another process."""
    return pickle.loads(pickle.dumps(module))
