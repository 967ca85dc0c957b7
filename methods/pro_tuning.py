"""Pro-tuning: behind each stage of the backbone a small convolutional block adds a prompt to the maps.

Re-implemented from the figure and the abstract, since there is no code: 1 x 1, 5 x 5 and 1 x 1 convolutions behind each
stage. Ours is what neither shows: the 5 x 5 is depthwise, GELU, the inner width, last weights of zero (a fresh one
changes nothing), and a residual behind the last stage as behind the others. In a ViT the stages are quarters of the
blocks, and a class token is a map of 1 x 1, so that the prompt behind the last stage is not lost where only it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as with_
from typing import Any

import torch
from torch import Tensor, nn

from petlbench.encoder import Encoder, Swin, ViT
from petlbench.errors import InputError
from petlbench.method import Method, Paper
from petlbench.recipe import MINI


@dataclass(frozen=True, kw_only=True)
class ProTuning(Method):
    """Makes x + P(x) of the output x of every stage."""

    family = "prompt"
    paper = Paper(
        title="Pro-tuning: Unified Prompt Tuning for Vision Tasks",
        authors="Xing Nie and Bolin Ni and Jianlong Chang and Gaofeng Meng and Chunlei Huo and Zhaoxiang Zhang "
        "and Shiming Xiang and Qi Tian and Chunhong Pan",
        year=2024,
        venue="IEEE Transactions on Circuits and Systems for Video Technology",
        arxiv="2207.14381",
    )
    recipes = {"mini": with_(MINI, lr=1e-2)}
    grid = {"lr": (1e-3, 3e-3, 1e-2), "weight_decay": (1e-4, 1e-2), "inner": (16, 64, 128)}

    inner: int = 64
    """Channels of the 5 x 5 convolution."""

    def __post_init__(self) -> None:
        if self.inner < 1:
            raise InputError(f"pro_tuning: inner={self.inner} must be at least 1")

    def attach(self, vit: ViT | Swin) -> Encoder:
        if isinstance(vit, ViT):
            if vit.depth < 4:
                raise InputError(f"pro_tuning needs a backbone of 4 blocks or more, this one has {vit.depth}")
            return PromptedViT(vit, [PromptBlock(vit.width, self.inner) for _ in range(4)])
        for stage, width in zip(vit.model.layers, vit.channels, strict=True):
            blocks: Any = stage.blocks
            blocks.append(PromptedMap(blocks.pop(-1), PromptBlock(width, self.inner)))
        return vit


class PromptedViT(ViT):
    """A ViT with prompts behind each quarter of its blocks."""

    def __init__(self, vit: ViT, prompts: list[PromptBlock]) -> None:
        super().__init__(vit.model)
        self.prompts = nn.ModuleList(prompts)

    def stream(self, images: Tensor) -> Iterator[Tensor]:
        ends = {(stage + 1) * self.depth // 4: prompt for stage, prompt in enumerate(self.prompts)}
        tokens = self.embed(images)
        yield tokens
        for depth, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if depth in ends:
                tokens = tokens + self.prompt(ends[depth], tokens, images)
            yield tokens

    def prompt(self, block: nn.Module, tokens: Tensor, images: Tensor) -> Tensor:
        """What a block makes of the tokens (B, N, D): of the patches as one map, of every other token as its own."""
        own = tokens[:, : self.prefix].reshape(-1, self.width, 1, 1)
        patches = block(self.map(tokens, images)).flatten(2).transpose(1, 2)
        return torch.cat([block(own).view(len(tokens), -1, self.width), patches], dim=1)


class PromptedMap(nn.Module):
    """A block of a Swin with a prompt on what it returns: (B, rows, columns, D) -> (B, rows, columns, D)."""

    def __init__(self, block: nn.Module, prompt: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.prompt = prompt

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.block(tokens)
        return tokens + self.prompt(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class PromptBlock(nn.Sequential):
    """From a map to what is added to it, zero at the start: (B, D, h, w) -> (B, D, h, w)."""

    def __init__(self, width: int, inner: int) -> None:
        spread = nn.Conv2d(inner, inner, 5, padding=2, groups=inner)
        last = nn.Conv2d(inner, width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        super().__init__(nn.Conv2d(width, inner, 1), nn.GELU(), spread, nn.GELU(), last)
