"""What every objective of pre-training is: settings that make a learner, which makes a loss of pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from timm.layers import build_sincos2d_pos_embed
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Generator, Tensor, nn

from petlbench import backbone as backbones
from petlbench.drawing.pretraining import SIZE, Drawn
from petlbench.encoder import Swin, ViT
from petlbench.errors import InputError


@dataclass(frozen=True)
class Teacher:
    """A backbone that was pre-trained before."""

    name: str
    """As `petlbench run --backbone` takes it."""
    sha256: str
    """Of its weights file."""
    vit: ViT
    """Frozen."""


@dataclass(frozen=True)
class Start:
    """What a learner is made of."""

    backbone: str
    labels: dict[str, range]
    """The labels of each family of pictures."""
    teacher: Teacher | None = None


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """What a backbone is asked during its pre-training; the fields are its settings."""

    title: ClassVar[str]
    """In words, for the model card."""
    taught: ClassVar[bool] = False
    """Whether a teacher is needed."""

    @abstractmethod
    def learner(self, start: Start) -> Learner:
        """A network with random weights and this objective. Raises InputError for a backbone that does not fit."""


class Learner(nn.Module, ABC):
    """A backbone together with whatever else an objective trains; all that requires a gradient is trained."""

    measure: ClassVar[Literal["accuracy", "losses"]]
    """What the scores are: percentages, or parts of the loss."""

    @property
    @abstractmethod
    def model(self) -> VisionTransformer | SwinTransformer:
        """The backbone, which is what pre-training is for."""

    @abstractmethod
    def forward(self, drawn: Drawn, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of normalised pictures, and scores by name; what is random comes from the generator."""


def built(backbone: str) -> ViT | Swin:
    """A random backbone for the pictures of pre-training. Raises InputError if there is no such thing."""
    try:
        return backbones.build(backbone, image_size=SIZE)
    except InputError:
        raise
    except Exception as error:  # numbers that do not go together: timm asserts, torch complains in all sorts of ways
        reason = str(error).partition("\n")[0]
        raise InputError(f"--backbone {backbone}: cannot be built: {type(error).__name__}: {reason}") from error


def masking_vit(objective: str, backbone: str) -> ViT:
    """A random ViT to be trained on some of its patches, initialised as the official code of MAE does it.

    The position embedding is MAE's: sines and cosines of rows and columns, zero for the class token, not trained.
    Not as there: the class token starts near zero, as timm has it, and not from a deviation of 0.02.
    """
    vit = built(backbone)
    if not isinstance(vit, ViT):
        raise InputError(f"--objective {objective}: leaves out patches, which only a ViT allows; {backbone} is none")
    if vit.width % 8:
        raise InputError(f"--objective {objective}: {backbone} has width {vit.width}, expected a multiple of 8")
    if vit.model.patch_embed.num_patches < 2:
        raise InputError(f"--objective {objective}: {backbone} has one patch, expected some to see and some to paint")
    vit.requires_grad_(True)
    unfuse(vit)
    vit.apply(xavier)
    nn.init.xavier_uniform_(vit.model.patch_embed.proj.weight.flatten(1))
    positions = vit.model.pos_embed
    assert positions is not None, "no setting of a name takes the position embedding away"
    with torch.no_grad():
        positions.zero_()
        positions[0, -vit.model.patch_embed.num_patches :] = waves(vit, vit.width)
    positions.requires_grad_(False)
    return vit


def waves(vit: ViT, width: int) -> Tensor:
    """Sines and cosines that say where each patch is: (patches, width)."""
    return build_sincos2d_pos_embed(list(vit.model.patch_embed.grid_size), width, interleave_sin_cos=False)


def xavier(module: nn.Module) -> None:
    """The first weights of a linear layer, as in the official code of MAE."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def unfuse(network: nn.Module) -> None:
    """Compute attention as plain products: for few tokens in bf16 on a CPU, that is twice as fast."""
    for module in network.modules():
        attention: Any = module
        if hasattr(attention, "fused_attn"):
            attention.fused_attn = False
