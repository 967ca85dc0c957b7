"""LST: a thin copy of the ViT climbs beside it, reads what each block returns, and is all that a gradient passes.

        ViT, without gradients                side network, width D / reduction

              embeddings ----------- Down_0 ----------> x
                  |                                     |
               block 1 ------------- Down_1 ---> g x + (1 - g) Down_1(.)
                  |                                     |
                  |                                side block 1
                  |                                     |
                 ...                                   ...
                  |                                     |
               last norm ------> g Up(norm(x)) + (1 - g) .

Every gate g = sigmoid(a / 0.1) is one learned number, half open at the start. Of the ViT only the outputs of its blocks
are kept for the backward pass, as inputs of the maps Down_i; nothing from within a block is.

The official code has T5 and CLIP-T5 only. This is its ladder on a ViT, with every block read and with the last gate:
the count of weights that is printed for ViT-B/16 has just these parts. Different from the official code: a side block
starts as every n-th row and column of the block it stands beside, n being the reduction, where the code prunes by
Fisher information. Ours alone is the pyramid: the side network behind a quarter, half, ... of the blocks, brought up
the same way and mixed with what the ViT has there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as with_
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from petlbench import blocks
from petlbench.encoder import Encoder, ViT
from petlbench.errors import InputError
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, PETL_VIT

TEMPERATURE = 0.1
"""Of the gates."""


@dataclass(frozen=True, kw_only=True)
class LST(Method):
    """Trains a ladder: a side network of the ViT's depth, the maps into and out of it, and the gates between them."""

    family = "side"
    paper = Paper(
        title="LST: Ladder Side-Tuning for Parameter and Memory Efficient Transfer Learning",
        authors="Yi-Lin Sung and Jaemin Cho and Mohit Bansal",
        year=2022,
        venue="Advances in Neural Information Processing Systems",
        arxiv="2206.06522",
        code="ylsung/Ladder-Side-Tuning",
    )
    printed = {"": 2.38}
    recipes = {
        "vtab": with_(
            PETL_VIT,
            source="rate of ylsung/Ladder-Side-Tuning (1798e82) on GLUE, the rest as JieShibo/PETL-ViT (026e4f1): "
            "no settings for a ViT are published",
            lr=3e-3,
        ),
        "mini": with_(MINI, lr=1e-2),
    }
    grid = {
        "lr": (3e-4, 1e-3, 3e-3),
        "weight_decay": (1e-4, 1e-3),
        "reduction": (4, 8, 16),
    }

    reduction: int = 8
    """How many times narrower the side network is."""

    def __post_init__(self) -> None:
        if self.reduction < 1:
            raise InputError(f"lst: reduction={self.reduction} must be at least 1")

    def attach(self, vit: ViT) -> Encoder:
        if vit.width % self.reduction:
            raise InputError(f"lst: reduction={self.reduction} does not divide the width {vit.width} of the backbone")
        return Ladder(vit, vit.width // self.reduction)


class Ladder(Encoder):
    """The ViT, without gradients, and the side network that reads it block by block."""

    def __init__(self, vit: ViT, width: int) -> None:
        super().__init__()
        self.vit = vit
        self.width, self.channels, self.strides = vit.width, vit.channels, vit.strides
        self.downs = nn.ModuleList(nn.Linear(vit.width, width) for _ in range(vit.depth + 1))
        self.blocks = nn.ModuleList(narrow(block, vit.heads, width) for block in vit.blocks)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up = nn.Linear(width, vit.width)
        self.gates = nn.Parameter(torch.zeros(vit.depth + 1))

    def forward(self, images: Tensor) -> Tensor:
        tokens = x = None
        for tokens, x in self.climb(images):  # noqa: B007  only the last ones are used, none are kept
            pass
        assert tokens is not None
        assert x is not None
        with torch.no_grad():
            tokens = self.vit.model.norm(tokens)
        return self.vit.model.forward_head(self.mix(x, tokens), pre_logits=True)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        depth = self.vit.depth
        taps = [(stage + 1) * depth // 4 for stage in range(4)]
        rungs = enumerate(self.climb(images), start=1)
        kept = {rung: self.vit.map(self.mix(x, tokens), images) for rung, (tokens, x) in rungs if rung in taps}
        return [kept[tap] for tap in taps]

    def climb(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, behind each block, the tokens of the ViT (B, N, D) and those of the side network (B, N, width)."""
        with torch.no_grad():
            tokens = self.vit.embed(images)
        x = self.downs[0](tokens)
        for block, down, gate, side_block in zip(
            self.vit.blocks, self.downs[1:], self.gate[:-1], self.blocks, strict=True
        ):
            with torch.no_grad():
                tokens = block(tokens)
            x = side_block(gate * x + (1 - gate) * down(tokens))
            yield tokens, x

    def mix(self, x: Tensor, tokens: Tensor) -> Tensor:
        """The last rung: the side network, brought to the width of the ViT, and what the ViT says itself."""
        gate = self.gate[-1]
        return gate * self.up(self.norm(x)) + (1 - gate) * tokens

    @property
    def gate(self) -> Tensor:
        """How open each gate is for the side network, 0 to 1."""
        return (self.gates / TEMPERATURE).sigmoid()


def narrow(block: nn.Module, heads: int, width: int) -> Block:
    """A block of a smaller width, which starts as every n-th row and column of the weights of a block."""
    blocks.check(block)
    own = dict(block.named_parameters())
    norm: Any = partial(nn.LayerNorm, eps=1e-6)
    hidden, before = own["mlp.fc1.weight"].shape
    with own["mlp.fc1.weight"].device:
        small = Block(
            width,
            math.gcd(heads, width),  # at most those of the ViT
            mlp_ratio=hidden / before,
            qkv_bias="attn.qkv.bias" in own,
            drop_path=getattr(block.drop_path1, "drop_prob", 0.0),
            norm_layer=norm,
        )
    with torch.no_grad():
        for name, weight in small.named_parameters():
            steps = [(wide // size, size) for wide, size in zip(own[name].shape, weight.shape, strict=True)]
            weight.copy_(own[name][tuple(slice(0, step * size, step) for step, size in steps)])
    return small
