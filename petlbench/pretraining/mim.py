"""Masked image modelling: see a quarter of the patches, paint the others.

He et al., "Masked Autoencoders Are Scalable Vision Learners" (arXiv 2111.06377), with the light decoder for small
backbones of MAE-Lite, arXiv 2404.12210 (official code: wangsr126/MAE-Lite).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from petlbench.drawing.pretraining import Drawn
from petlbench.encoder import ViT
from petlbench.errors import InputError
from petlbench.pretraining.objective import Learner, Objective, Start, masking_vit, unfuse, waves, xavier


@dataclass(frozen=True, kw_only=True)
class Mim(Objective):
    """The encoder gets the visible patches only; a narrow decoder of one block predicts the pixels of the masked ones.

    Pixels are normalised by mean and deviation of their patch. As in MAE-Lite the decoder is half as wide as the
    encoder. Not as there: the peak learning rate and the images, which are those of all objectives here.
    """

    title = "masked image modelling"

    mask: float = 0.75
    """Part of the patches that is masked."""

    def __post_init__(self) -> None:
        if not 0 < self.mask < 1:
            raise InputError(f"--objective mim: mask={self.mask}, expected more than 0 and less than 1")

    def learner(self, start: Start) -> Learner:
        return MaskedAutoencoder(self, masking_vit("mim", start.backbone))


class MaskedAutoencoder(Learner):
    """A ViT that sees some patches, and a decoder that paints the others."""

    measure: ClassVar[Literal["accuracy", "losses"]] = "losses"

    def __init__(self, objective: Mim, vit: ViT) -> None:
        super().__init__()
        self.vit, self.mask = vit, objective.mask
        self.decoder = Decoder(vit)

    @property
    def model(self) -> VisionTransformer:
        return self.vit.model

    def forward(self, drawn: Drawn, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        order, visible = self.choose(drawn.images, generator)
        tokens = self.model.norm(self.vit.blocks(embed(self.vit, drawn.images, order[:, :visible])))
        loss = self.decoder.loss(tokens, drawn.images, order)
        return loss, {"reconstruction": loss.detach()}

    def choose(self, images: Tensor, generator: Generator) -> tuple[Tensor, int]:
        """A random order of the patches of each image (B, patches), and how many, from the first on, are visible."""
        rows, columns = self.vit.grid(images)
        order = torch.rand(len(images), rows * columns, generator=generator).argsort(1)
        visible = int(rows * columns * (1 - self.mask))
        return order, min(max(1, visible), rows * columns - 1)


def embed(vit: ViT, images: Tensor, visible: Tensor) -> Tensor:
    """The tokens in front of the first block, (B, prefix + visible, width): class token and the patches listed."""
    tokens = vit.embed(images)
    return torch.cat([tokens[:, : vit.prefix], take(tokens[:, vit.prefix :], visible)], 1)


def take(patches: Tensor, index: Tensor) -> Tensor:
    """Some patches of each image: (B, N, D) and (B, n) become (B, n, D)."""
    return patches.gather(1, index[..., None].expand(-1, -1, patches.shape[-1]))


class Decoder(nn.Module):
    """One transformer block, half as wide as the encoder, from visible tokens to the pixels of the masked patches."""

    positions: Tensor

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        width = vit.width // 8 * 4  # sines and cosines need a multiple of four
        self.patch, self.prefix = vit.patch, vit.prefix
        self.embed = nn.Linear(vit.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", waves(vit, width), persistent=False)
        self.block = Block(width, math.gcd(vit.heads, width), qkv_bias=True)
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, self.patch**2 * 3)
        nn.init.normal_(self.mask_token, std=0.02)
        self.apply(xavier)
        unfuse(self)

    def loss(self, tokens: Tensor, images: Tensor, order: Tensor) -> Tensor:
        """Mean squared error of the masked patches' normalised pixels.

        tokens: (B, prefix + visible, width) of the encoder; order: (B, patches), visible ones first.
        """
        prefix, patches = self.embed(tokens).split([self.prefix, tokens.shape[1] - self.prefix], 1)
        count = order.shape[1] - patches.shape[1]
        patches = torch.cat([patches, self.mask_token.to(patches.dtype).expand(len(patches), count, -1)], 1)
        # Attention does not care about the order, so the positions are shuffled instead of the patches put back.
        tokens = self.block(torch.cat([prefix, patches + self.positions[order]], 1))
        painted = self.predict(self.norm(tokens[:, -count:])).float()
        return F.mse_loss(painted, take(self.pixels(images), order[:, -count:]))

    def pixels(self, images: Tensor) -> Tensor:
        """Every patch's pixels, normalised by their own mean and deviation: (B, patches, 3 * patch * patch)."""
        patches = F.unfold(images, self.patch, stride=self.patch).transpose(1, 2)
        variance, mean = torch.var_mean(patches, 2, keepdim=True)
        return (patches - mean) / (variance + 1e-6).sqrt()
