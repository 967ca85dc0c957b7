"""The two halves of a timm block, for methods that work between or beside them."""

from __future__ import annotations

from typing import Any

from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from petlbench.errors import InputError


def check(block: nn.Module) -> None:
    """Raise InputError for a block that has no two halves in a row, such as a parallel one."""
    if not isinstance(block, Block | SwinTransformerBlock):
        raise InputError(
            f"this backbone has blocks of type {type(block).__name__}, which this method cannot be built into; "
            "valid: Block, SwinTransformerBlock"
        )


def attention(block: Any, tokens: Tensor) -> Tensor:
    """What the first half of a block adds to its tokens: norm, attention, layer scale and drop-path, no residual.

    Tokens are (B, N, D), or (B, rows, columns, D) in a Swin, and so is what is returned.
    """
    if isinstance(block, SwinTransformerBlock):
        return block.drop_path1(block._attn(block.norm1(tokens)))
    return block.drop_path1(block.ls1(block.attn(block.norm1(tokens))))


def mlp(block: Any, tokens: Tensor) -> Tensor:
    """What the second half of a block adds to its tokens: norm, MLP, layer scale and drop-path, no residual."""
    outputs = block.mlp(block.norm2(tokens))
    return block.drop_path2(outputs if isinstance(block, SwinTransformerBlock) else block.ls2(outputs))
