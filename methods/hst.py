"""HST: a small pyramid network runs beside the frozen ViT and reads, block by block, what the ViT makes of the image.

              ViT                    T-Bridge of stage j                  side network

    class, patches, meta i                                             x  (h x w x d)
              |                                                        |
         ViT block i ----- meta -----> W_j, LayerNorm ---+----->  x + cross-attention
              |                                          |             |
              |                                        mean            |
              |                                          |             |
              +--------- patches ----> W_j, resize ------+----->  x + patches
              |                                                        |
       meta i is dropped                                          x + MLP
              |                                                        |
    class, patches, meta i+1                                           x  (h x w x d)

Each block of the ViT has its own meta tokens (Meta-Register in the paper) and its own side block; the side blocks of
a stage share one linear map W_j. Cross-attention reads the meta tokens and the mean of the patches (GlobalT), nothing
else. The four stages have strides 4, 8, 16 and 32, so a ViT, which has one resolution, gains the feature pyramid of a
detector. The LayerNorms of the ViT's blocks are trained too, hence gradients pass through all of the ViT.

Where paper and official code differ, this is the code: LayerNorms behind the bridge (meta tokens only), behind the
convolutions and behind each stage; cross-attention normalises its queries only; BatchNorm without weights in front of
the classifier; stochastic depth in the ViT too; 10.40 M weights in HSN-L on ViT-B, not 13.21 M. Equal but faster here:
W_j comes before the resizing, the meta tokens stand behind the patches. Different on purpose: every block of a ViT-L
has a side block, as in the paper, where the released model leaves out the last 12; BatchNorm sees the whole batch,
there one half of it on each of two GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from timm.layers import LayerNorm2d, Mlp
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from petlbench.encoder import Encoder, ViT
from petlbench.errors import InputError, unknown
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, Recipe

Four = tuple[int, int, int, int]
"""One number per stage, finest stage first."""
SIZES: dict[str, Four] = {"B": (32, 48, 64, 72), "L": (64, 128, 256, 384)}
"""Widths of the paper's side networks: HSN-B for classification, HSN-L for detection and segmentation."""
OFFICIAL = Recipe(
    source="AFeng-x/HST (ee89571) train_scripts/vit/vtab/*/train_s4.sh; there in fp16",
    epochs=100,
    cooldown_epochs=10,  # not in the scripts: timm adds them
    batch_size=64,
    warmup_lr=1e-7,
    min_lr=1e-8,
    decay_all=False,
)
VTAB = {  # (learning rate, weight decay, stochastic depth): tasks
    (1e-2, 5e-4, 0.0): ("cifar100", "dtd", "pets"),
    (1e-2, 5e-5, 0.0): ("sun397",),
    (1e-2, 5e-5, 0.1): ("svhn",),
    (5e-3, 5e-4, 0.0): ("resisc45",),
    (5e-3, 5e-4, 0.1): ("patch_camelyon", "clevr_dist", "dmlab", "dsprites_loc"),
    (5e-3, 5e-2, 0.1): ("kitti_dist",),
    (1e-3, 5e-4, 0.1): ("caltech101", "eurosat", "clevr_count", "dsprites_ori", "smallnorb_azi"),
    (1e-3, 5e-5, 0.0): ("flowers102",),
    (1e-3, 5e-5, 0.1): ("diabetic_retinopathy",),
    (1e-3, 5e-2, 0.2): ("smallnorb_ele",),
}


@dataclass(frozen=True, kw_only=True)
class HST(Method):
    """Trains a hierarchical side network, the meta tokens that feed it, and the LayerNorms of the ViT's blocks."""

    family = "side"
    paper = Paper(
        title="Hierarchical Side-Tuning for Vision Transformers",
        authors="Weifeng Lin and Ziheng Wu and Wentao Yang and Mingxin Huang and Jun Huang and Lianwen Jin",
        year=2023,
        arxiv="2310.05393",
        code="AFeng-x/HST",
    )
    recipes = {
        f"vtab/{task}": replace(OFFICIAL, lr=lr, weight_decay=weight_decay, drop_path=drop_path)
        for (lr, weight_decay, drop_path), tasks in VTAB.items()
        for task in tasks
    } | {"mini": replace(MINI, lr=3e-3, weight_decay=5e-4, decay_all=False)}
    grid = {  # the values that occur in the official VTAB-1K scripts
        "lr": (1e-3, 5e-3, 1e-2),
        "weight_decay": (5e-5, 5e-4, 5e-2),
        "drop_path": (0.0, 0.1, 0.2),
    }

    size: Literal["B", "L"] | Four = "B"
    """Side network of the paper, HSN-B or HSN-L, or the widths of the four stages."""
    heads: Four = (2, 4, 8, 12)
    """Heads of cross-attention in each stage; they divide its width."""
    meta_tokens: int = 1
    """Learned tokens that join the class and patch tokens in each block of the ViT."""

    def __post_init__(self) -> None:
        if isinstance(self.size, str) and self.size not in SIZES:
            raise unknown("size of hst", self.size, SIZES)
        if any(heads < 1 or width % heads for width, heads in zip(self.widths, self.heads, strict=True)):
            raise InputError(f"hst: heads {self.heads} do not divide the widths {self.widths} of the stages")
        if self.meta_tokens < 1:
            raise InputError(f"hst: meta_tokens must be 1 or more, not {self.meta_tokens}")

    @property
    def widths(self) -> Four:
        """Width of each stage of the side network."""
        return SIZES[self.size] if isinstance(self.size, str) else self.size

    def attach(self, vit: ViT) -> Encoder:
        if vit.depth < 4:
            raise InputError(f"hst needs a backbone of 4 blocks or more, one for each stage; this one has {vit.depth}")
        for block in vit.blocks:
            block.norm1.requires_grad_()
            block.norm2.requires_grad_()
        return HierarchicalSideNetwork(vit, self.widths, self.heads, self.meta_tokens)


class HierarchicalSideNetwork(Encoder):
    """The ViT and the side network, run in step: a block of the ViT, then the side block that reads it.

    A stage reads a quarter of the blocks: 3, 3, 3, 3 of 12. Quarters are rounded as in `ViT.pyramid` where the depth is
    no multiple of four (1, 2, 1, 2 of 6), so that the first stage, whose maps are the largest, never gets more.
    """

    def __init__(self, vit: ViT, widths: Four, heads: Four, meta_tokens: int) -> None:
        super().__init__()
        self.vit = vit
        self.width, self.channels, self.strides = widths[-1], widths, (4, 8, 16, 32)
        self.quarters = list(pairwise(stage * vit.depth // 4 for stage in range(5)))
        stages = [stage for stage, (start, end) in enumerate(self.quarters) for _ in range(start, end)]
        self.meta = nn.ParameterList(torch.empty(1, meta_tokens, vit.width) for _ in stages)
        self.entries = nn.ModuleList([stem(widths[0]), *(halving(*step) for step in pairwise(widths))])
        self.bridges = nn.ModuleList(nn.Linear(vit.width, width) for width in widths)
        self.blocks = nn.ModuleList(
            SideBlock(widths[stage], heads[stage], block.get_submodule("drop_path1"))
            for stage, block in zip(stages, vit.blocks, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for width in widths)
        self.feature_norm = nn.BatchNorm1d(self.width, eps=1e-6, affine=False)
        for tokens in self.meta:
            nn.init.xavier_uniform_(tokens)
        for modules in (self.entries, self.bridges, self.blocks):
            modules.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_norm(self.pyramid(images)[-1].mean((2, 3)))

    def pyramid(self, images: Tensor) -> list[Tensor]:
        vit, maps = self.vit, []
        tokens = vit.embed(images)  # (B, class + patches, width of the ViT)
        own = tokens.shape[1]
        steps = list(zip(vit.blocks, self.meta, self.blocks, strict=True))
        x = images.contiguous(memory_format=torch.channels_last)  # maps then lie in memory as tokens do: no copies
        stages = zip(self.quarters, self.entries, self.bridges, self.norms, strict=True)
        for (start, end), entry, bridge, norm in stages:
            x = entry(x).permute(0, 2, 3, 1)  # (B, h, w, d)
            for block, meta, side_block in steps[start:end]:
                tokens = block(torch.cat([tokens[:, :own], meta.expand(len(images), -1, -1)], dim=1))
                bridged = bridge(tokens)  # (B, class + patches + meta, d)
                patches = vit.map(bridged, images)  # (B, d, rows, columns)
                patches = interpolate(patches, x.shape[1:3], mode="bilinear", align_corners=False)  # (B, d, h, w)
                x = side_block(x, bridged[:, own:], patches.permute(0, 2, 3, 1))
            x = norm(x).permute(0, 3, 1, 2)  # (B, d, h, w)
            maps.append(x)
        return maps


class SideBlock(nn.Module):
    """Tells each position about the whole image (cross-attention), then about its own patch (a plain sum)."""

    def __init__(self, width: int, heads: int, drop_path: nn.Module) -> None:
        super().__init__()
        self.meta_norm = nn.LayerNorm(width)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)
        self.drop_path = drop_path
        """That of the ViT block which is read, so both networks have the same rate; every call draws anew."""

    def forward(self, x: Tensor, meta: Tensor, patches: Tensor) -> Tensor:
        """From positions x (B, h, w, d), meta tokens (B, M, d) and patches (B, h, w, d) to new positions."""
        context = torch.cat([self.meta_norm(meta), patches.mean((1, 2)).unsqueeze(1)], dim=1)  # (B, M + 1, d)
        x = x + self.drop_path(self.attention(self.norm1(x), context))
        x = x + patches
        return x + self.drop_path(self.mlp(self.norm2(x)))


class CrossAttention(nn.Module):
    """Every position attends to the few tokens of the context; positions do not attend to each other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """From positions (B, h, w, d) and context (B, M + 1, d) to new positions."""
        q, k, v = self.q(x).flatten(1, 2), self.k(context), self.v(context)
        q, k, v = (tokens.unflatten(2, (self.heads, -1)).transpose(1, 2) for tokens in (q, k, v))
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))


def stem(width: int) -> nn.Module:
    """From the image to the first stage, at stride 4."""
    first = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
    second = nn.Conv2d(width, width, 2, stride=2)
    return nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(), second, LayerNorm2d(width, eps=1e-5))


def halving(before: int, after: int) -> nn.Module:
    """From one stage to the next, at twice the stride."""
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), LayerNorm2d(after, eps=1e-5))


def initialise(module: nn.Module) -> None:
    """Starting weights as in the official code; norms keep ones and zeros."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
