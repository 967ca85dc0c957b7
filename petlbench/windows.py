"""Attention within windows: the patches of a window see each other, every other token sees and is seen by all.

    whole image             windows of 3          A plain ViT at detection sizes has thousands of tokens, and attention
    + - - - - - - - +       + - - - + - - - +     costs their square. ViTDet (Li et al. 2022) and ViT-Adapter (Chen et
    | o o o o o o o |       | o o o | o o o |     al. 2023) let most blocks attend within windows of 14 x 14 patches;
    | o o o o o o o |       | o o o | o o o |     the last block of each quarter of the depth sees the whole image. Its
    | o o o o o o o |       | o o o | o o o |     tokens are the ones that become a map.
    | o o o o o o o |       + - - - + - - - +
    + - - - - - - - +       | o o o | o o o |
                            + - - - + - - - +

Where the windows do not divide the grid, those of the last row and column are smaller. ViTDet and ViT-Adapter pad the
grid with zeros that the patches attend to; here there is no padding that could be attended to, paid for or seen.
Neither of the two has a class token in its blocks. Here it stays, as do the tokens that methods add: they are keys and
values in every window, and their own queries see the whole image. With a window as large as the image, all is as
without windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from petlbench.errors import InputError


def into_windows(model: VisionTransformer, side: int) -> None:
    """Let all blocks but the last of each quarter attend within windows of `side` x `side` patches.

    Raises InputError for blocks without timm's plain Attention.
    """
    depth, prefix = len(model.blocks), model.num_prefix_tokens
    whole = {(quarter + 1) * depth // 4 - 1 for quarter in range(4)}
    block: Any
    for index, block in enumerate(model.blocks):
        attention = getattr(block, "attn", None)
        if type(attention) is not Attention:
            found = type(attention or block).__name__
            raise InputError(f"--backbone: window={side} needs blocks with timm's plain Attention, these have {found}")
        if index not in whole:
            block.attn = WindowedAttention(attention, side, prefix)


class WindowedAttention(Attention):
    """timm's attention with its layers under their own names, within windows: (B, N, D) -> (B, N, D)."""

    def __init__(self, attention: Attention, side: int, prefix: int) -> None:
        nn.Module.__init__(self)
        vars(self).update(vars(attention))  # takes its layers over, rather than make new ones
        self.side = side
        self.prefix = prefix
        """Tokens in front of the patches."""
        self.grid: tuple[int, int] | None = None
        """Rows and columns of the patches at hand; `petlbench.encoder.ViT` says so when it embeds images."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        assert attn_mask is None, "a ViT has no masks"
        assert not is_causal
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        outputs = self.attend(self.q_norm(q), self.k_norm(k), v).transpose(1, 2).flatten(2)
        outputs = self.norm(outputs)
        if self.gate is not None:
            outputs = outputs * self.gate(x).sigmoid()
        return self.proj_drop(self.proj(outputs))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries, keys and values (B, heads, N, size) to the mixed values, in the same order and shape."""
        assert self.grid is not None, "the images of these tokens have not been embedded by a ViT"
        (rows, columns), front = self.grid, self.prefix
        if max(rows, columns) <= self.side:
            return self.mix(q, k, v)
        end = front + rows * columns
        patches = [each[:, :, front:end].unflatten(2, (rows, columns)) for each in (q, k, v)]
        own_q, own_k, own_v = (torch.cat([each[:, :, :front], each[:, :, end:]], dim=2) for each in (q, k, v))
        bands = []
        for tall in parts(rows, self.side):
            cells = []
            for wide in parts(columns, self.side):
                inner_q, *inner = (cut(each[:, :, tall[0], wide[0]], tall[1], wide[1]) for each in patches)
                windows = len(inner_q) // len(q)
                inner_k, inner_v = (
                    torch.cat([each, others.repeat_interleave(windows, dim=0)], dim=2)
                    for each, others in zip(inner, (own_k, own_v), strict=True)
                )
                mixed = self.mix(inner_q, inner_k, inner_v)  # (B * windows, heads, height * width, size)
                cells.append(joined(mixed, len(q), wide[0], tall[1], wide[1]))
            bands.append(torch.cat(cells, dim=3))
        outputs = torch.cat(bands, dim=2).flatten(2, 3)
        if own_q.shape[2] == 0:
            return outputs
        others = self.mix(own_q, k, v)
        return torch.cat([others[:, :, :front], outputs, others[:, :, front:]], dim=2)

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return scaled_dot_product_attention(q, k, v, dropout_p=self.attn_drop.p if self.training else 0.0)


def parts(length: int, side: int) -> Iterator[tuple[slice, int]]:
    """A row of patches as the part that windows of `side` fill, and the rest; each with the length of its windows."""
    filled = length // side * side
    if filled:
        yield slice(0, filled), side
    if filled < length:
        yield slice(filled, length), length - filled


def cut(patches: Tensor, height: int, width: int) -> Tensor:
    """From a grid (B, heads, rows, columns, size) to its windows (B * windows, heads, height * width, size)."""
    batch, heads, rows, columns, size = patches.shape
    windows = patches.reshape(batch, heads, rows // height, height, columns // width, width, size)
    return windows.permute(0, 2, 4, 1, 3, 5, 6).reshape(-1, heads, height * width, size)


def joined(windows: Tensor, batch: int, columns: slice, height: int, width: int) -> Tensor:
    """The reverse of `cut`, for windows that cover these columns."""
    _, heads, _, size = windows.shape
    across = (columns.stop - columns.start) // width
    grid = windows.reshape(batch, -1, across, heads, height, width, size)
    return grid.permute(0, 3, 1, 4, 2, 5, 6).flatten(4, 5).flatten(2, 3)
