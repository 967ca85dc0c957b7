"""Masked image modelling with distillation: a small student paints masked patches and looks where its teacher looks.

Gao et al., "An Experimental Study on Exploring Strong Lightweight Vision Transformers via Masked Image Modeling
Pre-Training" (arXiv 2404.12210), the decoupled distillation of its official code (wangsr126/MAE-Lite): pixels are
painted from a lower block, and the upper blocks are free to learn the attention of the teacher's last one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from petlbench.drawing.pretraining import Drawn
from petlbench.encoder import ViT
from petlbench.errors import InputError
from petlbench.pretraining.mim import MaskedAutoencoder, Mim, embed, take
from petlbench.pretraining.objective import Start, Teacher, masking_vit, xavier


@dataclass(frozen=True, kw_only=True)
class Distill(Mim):
    """MAE's loss, painted from two thirds of the student's depth, plus the distance to the teacher's attention scores.

    The scores are those in front of the softmax, over the class token and the visible patches. As in the official code
    the student gets one more attention, of which only queries and keys exist, to compare with the teacher's last, and a
    matrix that mixes its heads into the teacher's; both are thrown away. Not as there: the decoder has a norm of its
    own and the added attention reads the student's final norm, so that this is trained where it will be used.
    """

    title = "masked image modelling with decoupled distillation"
    taught = True

    attention: float = 1.0
    """Weight of the squared distance of attention scores."""
    features: float = 0.0
    """Weight of the squared distance between the student's tokens behind its last block, mapped linearly, and the
    teacher's, standardised per token. The teacher sees the whole picture, so what is masked has to be guessed. Ours."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("attention", "features"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"--objective distill: {name}={getattr(self, name)}, expected 0 or more")
        if not self.attention and not self.features:
            raise InputError("--objective distill: nothing is asked of the teacher, set attention or features above 0")

    def learner(self, start: Start) -> Student:
        assert start.teacher is not None, "the trainer reads it"
        student = masking_vit("distill", start.backbone)
        _check(student, start.backbone, start.teacher)
        return Student(self, student, start.teacher.vit)


class Student(MaskedAutoencoder):
    """A masked autoencoder that is compared with a larger one."""

    def __init__(self, objective: Distill, vit: ViT, teacher: ViT) -> None:
        super().__init__(objective, vit)
        self.objective = objective
        self.lower = round(vit.depth * 2 / 3)
        """Blocks below the decoder."""
        self.decoder_norm = nn.LayerNorm(vit.width)
        if objective.attention:
            self.scores = Scores(vit.width, vit.heads)
            self.mix = nn.Conv2d(vit.heads, teacher.heads, 1, bias=False)
        if objective.features:
            self.map = nn.Linear(vit.width, teacher.width)
        self._teacher = [teacher.eval()]  # in a list: it is neither trained nor saved

    def forward(self, drawn: Drawn, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        order, visible = self.choose(drawn.images, generator)
        visible_patches = order[:, :visible]
        tokens = self.vit.blocks[: self.lower](embed(self.vit, drawn.images, visible_patches))
        loss = self.decoder.loss(self.decoder_norm(tokens), drawn.images, order)
        parts = {"reconstruction": loss.detach()}
        tokens = self.model.norm(self.vit.blocks[self.lower :](tokens))
        if self.objective.attention:
            wanted = self._attention(drawn.images, visible_patches)
            distance = F.mse_loss(self.mix(self.scores(tokens)).float(), wanted)
            parts["attention"], loss = distance.detach(), loss + self.objective.attention * distance
        if self.objective.features:
            distance = F.mse_loss(self.map(tokens).float(), self._features(drawn.images, visible_patches))
            parts["features"], loss = distance.detach(), loss + self.objective.features * distance
        return loss, parts

    @torch.no_grad()
    def _attention(self, images: Tensor, visible: Tensor) -> Tensor:
        """The scores of the teacher's last attention when it sees what the student sees: (B, heads, tokens, tokens)."""
        (teacher,) = self._teacher
        last: Any = teacher.blocks[-1]
        tokens = last.norm1(teacher.blocks[:-1](embed(teacher, images, visible)))
        queries, keys, _ = last.attn.qkv(tokens).chunk(3, -1)
        return products(last.attn.q_norm(heads(queries, teacher.heads)), last.attn.k_norm(heads(keys, teacher.heads)))

    @torch.no_grad()
    def _features(self, images: Tensor, visible: Tensor) -> Tensor:
        """What the teacher makes of the whole picture at the student's tokens: (B, prefix + visible, width)."""
        (teacher,) = self._teacher
        tokens = teacher.blocks(teacher.embed(images))
        tokens = torch.cat([tokens[:, : teacher.prefix], take(tokens[:, teacher.prefix :], visible)], 1)
        return F.layer_norm(tokens.float(), tokens.shape[-1:])


class Scores(nn.Module):
    """An attention of which only the scores are wanted: (B, tokens, width) to (B, heads, tokens, tokens)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_and_keys = nn.Linear(width, 2 * width)
        self.apply(xavier)

    def forward(self, tokens: Tensor) -> Tensor:
        queries, keys = self.queries_and_keys(tokens).chunk(2, -1)
        return products(heads(queries, self.heads), heads(keys, self.heads))


def heads(tokens: Tensor, count: int) -> Tensor:
    """(B, tokens, width) to (B, heads, tokens, width / heads)."""
    return tokens.unflatten(-1, (count, -1)).transpose(1, 2)


def products(queries: Tensor, keys: Tensor) -> Tensor:
    """Scaled dot products of all pairs, in float32."""
    return (queries @ keys.transpose(-2, -1)).float() * queries.shape[-1] ** -0.5


def _check(student: ViT, backbone: str, teacher: Teacher) -> None:
    """Raise InputError for a teacher whose tokens are not those of the student."""
    ours, theirs = ((each.patch, each.prefix, each.model.patch_embed.grid_size) for each in (student, teacher.vit))
    if ours != theirs:
        raise InputError(
            f"--teacher: {teacher.name} cuts images into other tokens than {backbone}, so they cannot be compared"
        )
