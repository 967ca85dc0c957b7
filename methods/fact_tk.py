"""FacT-TK: as FacT-TT, but the cores of all linear layers are mixed from one small tensor (Tucker form).

The core of tile t of the network is the sum over m of C[:, :, m] P[m, t]. Tiles are counted as q, k, v, output of the
attention, four of the MLP's first layer and four of its second, block by block. As in the official code, the cores of
the MLP's tiles are laid into each other, number by number, where those of q, k and v lie side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import replace as with_
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as multiply

from petlbench.encoder import ViT
from petlbench.recipe import MINI, PETL_VIT

from .fact_tt import LAYERS, FacTTT, per_task

LAYOUT = {"attn.qkv": (2, 1, 0), "attn.proj": (2, 1, 0), "mlp.fc1": (1, 2, 0), "mlp.fc2": (0, 1, 2)}
"""For each layer, how the axes of its cores (r, r, tiles) are ordered to be read as one matrix."""
VTAB = {  # (rank, scale): tasks, from FacT/configs/tk of the official code
    (32, 10.0): ("caltech101", "clevr_count", "dmlab", "kitti_dist", "patch_camelyon", "resisc45"),
    (32, 0.1): ("cifar100",),
    (16, 10.0): ("clevr_dist", "pets", "smallnorb_ele"),
    (16, 1.0): ("diabetic_retinopathy", "sun397"),
    (32, 100.0): ("dsprites_loc", "eurosat", "smallnorb_azi", "svhn"),
    (32, 1.0): ("dsprites_ori", "flowers102"),
    (16, 0.01): ("dtd",),
}


@dataclass(frozen=True, kw_only=True)
class FacTTK(FacTTT):
    """Makes W + scale * V core U of every linear layer of the blocks, all cores being mixtures of the same slices."""

    recipes = {
        "vtab": with_(PETL_VIT, source="JieShibo/PETL-ViT (026e4f1) FacT/fact_tk.py; rank and scale are set per task"),
        "mini": with_(MINI, lr=3e-3),
    }
    grid = {**FacTTT.grid, "rank": (16, 32, 64)}  # as OSU-MLB/ViT_PEFT_Vision

    rank: int = 32
    """Inner width r, and the number of slices that the cores are mixed from."""

    def cores(self, vit: ViT) -> Callable[[str, nn.Linear], nn.Module]:
        layers: list[Any] = [block.get_submodule(layer) for block in vit.blocks for layer in LAYERS]
        tiles = [layer.weight.numel() // vit.width**2 for layer in layers]
        spans = (slice(end - size, end) for size, end in zip(tiles, accumulate(tiles), strict=True))
        slices = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.rank, self.rank, self.rank)))
        mixture = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.rank, sum(tiles))))

        def core(layer: str, linear: nn.Linear) -> TuckerCore:
            inputs = linear.in_features // vit.width * self.rank
            return TuckerCore(slices, mixture, next(spans), LAYOUT[layer], inputs)

        return core

    def published(self, suite: str, task: str) -> Mapping[str, Any]:
        return per_task(VTAB, suite, task)


class TuckerCore(nn.Module):
    """The cores of the tiles of one linear layer, as one matrix: (..., a r) -> (..., b r)."""

    def __init__(
        self, slices: nn.Parameter, mixture: nn.Parameter, tiles: slice, layout: tuple[int, int, int], inputs: int
    ) -> None:
        super().__init__()
        self.slices = slices
        self.mixture = mixture
        self.tiles = tiles
        self.layout = layout
        self.inputs = inputs

    @property
    def weight(self) -> Tensor:
        """The matrix, (b r, a r)."""
        cores = self.slices @ self.mixture[:, self.tiles]  # (r, r, tiles)
        return cores.permute(self.layout).reshape(-1, self.inputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return multiply(inputs, self.weight)
