"""VPT: learnable tokens, the prompts, attend and are attended to beside the patches of the image.

The official code puts the prompts between the class token and the patches, here they stand behind the patches;
attention does not depend on the order of its tokens, so the features are the same.

A Swin attends within windows: there, as in the official code, the prompts of a block join every one of its windows and
have no relative position. Deep prompts only: shallow ones travel from block to block, for which the official code
averages them over windows, by mistake over those of several images of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from timm.models.swin_transformer import WindowAttention
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from petlbench.blocks import check
from petlbench.encoder import Encoder, Swin, ViT
from petlbench.errors import InputError
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, Recipe

OFFICIAL = Recipe(
    source="KMnP/vpt (4410440) configs/base-prompt.yaml; rate and decay are searched per task there, here those of "
    "two of its three demos (rate 1.0 per 256 images)",
    epochs=100,
    batch_size=128,
    optimizer="sgd",
    momentum=0.9,
    lr=0.5,
    weight_decay=1e-3,
    decay_all=False,
    warmup_epochs=10,
    warmup_lr=0.0,
    warmup_prefix=True,
    min_lr=0.0,
)
TASKS = (
    *("cifar100", "caltech101", "dtd", "flowers102", "pets", "svhn", "sun397"),
    *("patch_camelyon", "eurosat", "resisc45", "diabetic_retinopathy"),
    *("clevr_count", "clevr_dist", "dmlab", "kitti_dist"),
    *("dsprites_loc", "dsprites_ori", "smallnorb_azi", "smallnorb_ele"),
)
DEEP = (10, 10, 10, 1, 1, 50, 5, 100, 100, 10, 1, 50, 200, 100, 50, 10, 50, 200, 200)
"""Prompts on each of `TASKS`: the only lengths of the grid that give the percentages of tuned weights that the paper
prints; the official demos of dmlab, sun397 and eurosat have the same."""
SHALLOW = (100, 5, 1, 200, 50, 200, 1, 5, 50, 50, 10, 100, 200, 100, 100, 100, 100, 200, 200)
"""The same for shallow prompts, as reprinted in Tables 16 to 18 of "Facing the Elephant in the Room" (ICLR 2024)."""
DEMO = "KMnP/vpt (4410440) demo.ipynb, with"


@dataclass(frozen=True, kw_only=True)
class VPT(Method):
    """Gives every block (deep) its own prompts, or only the first block (shallow)."""

    family = "prompt"
    paper = Paper(
        title="Visual Prompt Tuning",
        authors="Menglin Jia and Luming Tang and Bor-Chun Chen and Claire Cardie and Serge Belongie "
        "and Bharath Hariharan and Ser-Nam Lim",
        year=2022,
        venue="European Conference on Computer Vision",
        arxiv="2203.12119",
        code="KMnP/vpt",
    )
    recipes = {
        "vtab": OFFICIAL,
        "vtab/dmlab": replace(OFFICIAL, source=f"{DEMO} tokens=100", batch_size=64, lr=0.25, weight_decay=1e-3),
        "vtab/eurosat": replace(OFFICIAL, source=f"{DEMO} tokens=100", batch_size=64, lr=0.25, weight_decay=1e-3),
        "vtab/sun397": replace(OFFICIAL, source=f"{DEMO} tokens=5", lr=12.5, weight_decay=1e-4),
        "mini": replace(MINI, lr=3e-2),
    }
    grid = {  # KMnP/vpt tune_vtab.py, with its rates at 128 images
        "optimizer": ("sgd",),
        "lr": (25.0, 12.5, 5.0, 2.5, 1.25, 0.5, 0.25, 0.125, 0.05, 0.025),
        "weight_decay": (1e-2, 1e-3, 1e-4, 0.0),
        "tokens": (1, 5, 10, 50, 100, 200),
    }

    tokens: int = 10
    """Prompts per prompted block."""
    deep: bool = True
    """Prompt every block, and forget what it makes of them, rather than only the first."""
    project_dim: int | None = None
    """Width of the prompts where one linear layer, shared by all blocks, widens them; None for the backbone's width."""
    dropout: float = 0.1
    """Of deep prompts while training; shallow prompts have none, as in the official runs."""

    def __post_init__(self) -> None:
        for name in ("tokens", "project_dim"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"vpt: {name}={value} must be at least 1")

    def attach(self, vit: ViT | Swin) -> Encoder:
        return self.into_windows(vit) if isinstance(vit, Swin) else self.into_sequence(vit)

    def into_sequence(self, vit: ViT) -> Encoder:
        """Put prompts into the token sequence in front of the blocks of a ViT."""
        width = self.project_dim or vit.width
        project: nn.Module = nn.Identity()
        if self.project_dim is not None:
            project = nn.Linear(width, vit.width)
            nn.init.kaiming_normal_(project.weight, mode="fan_out")
        bound = xavier(vit.patch, width)
        for index in range(vit.depth if self.deep else 1):
            prompts = torch.empty(self.tokens, width).uniform_(-bound, bound)
            dropout = nn.Dropout(self.dropout if self.deep else 0.0)
            vit.blocks[index] = Prompted(vit.blocks[index], prompts, project, dropout, forget=self.deep)
        return vit

    def into_windows(self, swin: Swin) -> Encoder:
        """Put prompts into the windows of every block of a Swin."""
        if not self.deep or self.project_dim is not None:
            raise InputError("vpt: in a Swin, prompts are deep and as wide as their block: deep=True, project_dim=None")
        bound = xavier(swin.patch, swin.channels[0])
        block: Any
        for block in swin.blocks:
            check(block)
            prompts = torch.empty(self.tokens, len(block.norm1.weight)).uniform_(-bound, bound)
            block.attn = PromptedWindows(block.attn, block.norm1, prompts, nn.Dropout(self.dropout))
        return swin

    def published(self, suite: str, task: str) -> Mapping[str, Any]:
        lengths = dict(zip(TASKS, DEEP if self.deep else SHALLOW, strict=True))
        return {"tokens": lengths[task]} if suite == "vtab" else {}


def xavier(patch: int, width: int) -> float:
    """Bound of the uniform distribution that Xavier gives the weights of an embedding of patches."""
    return math.sqrt(6 / (3 * patch**2 + width))


class Prompted(nn.Module):
    """A block with prompts behind its tokens: (B, N, D) -> (B, N, D), or (B, N + prompts, D) unless it forgets them."""

    def __init__(self, block: nn.Module, prompts: Tensor, project: nn.Module, dropout: nn.Module, forget: bool) -> None:
        super().__init__()
        self.block = block
        self.prompts = nn.Parameter(prompts)
        self.project = project
        self.dropout = dropout
        self.forget = forget

    def forward(self, tokens: Tensor) -> Tensor:
        prompts = self.project(self.prompts).expand(len(tokens), -1, -1)
        outputs: Tensor = self.block(torch.cat([tokens, self.dropout(prompts)], dim=1))
        return outputs[:, : tokens.shape[1]] if self.forget else outputs


class PromptedWindows(nn.Module):
    """The window attention of a Swin block with the same prompts in every window: (windows, N, D) -> (windows, N, D).

    What the prompts make of the window is forgotten behind the block, so they are keys and values but no queries.
    """

    def __init__(self, attention: WindowAttention, norm: nn.Module, prompts: Tensor, dropout: nn.Module) -> None:
        super().__init__()
        self.attention = attention
        self.norm = norm
        """That of the block, which the patches have already passed."""
        self.prompts = nn.Parameter(prompts)
        self.dropout = dropout

    def forward(self, patches: Tensor, mask: Tensor | None = None) -> Tensor:
        attention, windows = self.attention, len(patches)
        _, *prompts = self.heads(self.norm(self.dropout(self.prompts)).unsqueeze(0))
        q, *own = self.heads(patches)
        k, v = (torch.cat([p, e.expand(windows, -1, -1, -1)], dim=2) for p, e in zip(own, prompts, strict=True))
        bias = attention._get_rel_pos_bias()  # (1, heads, N, N)
        if mask is not None:  # (windows of one image, N, N)
            bias = (bias + mask.unsqueeze(1)).repeat(windows // len(mask), 1, 1, 1)
        bias = pad(bias, (0, len(self.prompts)))
        dropout = attention.attn_drop.p if self.training else 0.0
        outputs = scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        return attention.proj_drop(attention.proj(outputs.transpose(1, 2).flatten(2)))

    def heads(self, tokens: Tensor) -> Tensor:
        """Queries, keys and values (3, windows, heads, tokens, D / heads)."""
        return self.attention.qkv(tokens).unflatten(2, (3, self.attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
