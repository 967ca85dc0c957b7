"""Res-Tuning: whatever is learned stands in parallel to a frozen operation and sees nothing but that operation's input.

                 +-------------------- prompt tuner --------------------+
                 |                                                      |
    tokens ------+--- attention ---+-------+--- MLP ---+------- + ------+-----> tokens
                 |                 |       |           |
                 +- prefix tuner --+       +- adapter -+

A tuner is a bottleneck (adapter), or its tokens attend to a few learned ones, with keys and values apart (prefix)
or with the same for both (prompt). A place can have any of them, or none.

Reconstructed, not reproduced: the official code has Res-Tuning-Bypass only (see res_tuning_bypass.py), and the paper's
own settings were not at hand. Three tuners of length 10 train 470,136 weights of a ViT-B/16, the printed 0.55 % of it,
and with the mean head of VTAB-1K, 38,045, the printed 0.51 M. Which tuner stands where, that the queries are the plain
inputs in as many heads as the ViT has, and that prefix and adapter start at zero are choices of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as with_
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from petlbench import blocks
from petlbench.encoder import Encoder, ViT
from petlbench.errors import InputError, unknown
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, PETL_VIT
from petlbench.surgery import replace

Tuner = Literal["adapter", "prefix", "prompt", "none"]
PAPER = Paper(
    title="Res-Tuning: A Flexible and Efficient Tuning Paradigm via Unbinding Tuner from Backbone",
    authors="Zeyinzi Jiang and Chaojie Mao and Ziyuan Huang and Ao Ma and Yiliang Lv and Yujun Shen and Deli Zhao "
    "and Jingren Zhou",
    year=2023,
    venue="Advances in Neural Information Processing Systems",
    arxiv="2310.19859",
    code="modelscope/ms-swift",
)
VTAB = with_(PETL_VIT, source="JieShibo/PETL-ViT (026e4f1): the method's own settings for VTAB-1K were not at hand")


@dataclass(frozen=True, kw_only=True)
class ResTuning(Method):
    """Adds a tuner beside the attention, the MLP and the whole of every block."""

    family = "mixed"
    paper = PAPER
    recipes = {
        "vtab": VTAB,
        "mini": with_(MINI, lr=1e-2),
    }
    grid = {
        "lr": (1e-3, 3e-3, 1e-2),
        "weight_decay": (1e-4, 1e-3),
        "length": (5, 10, 20),
    }

    length: int = 10
    """Inner width of an adapter, learned tokens of a prefix or prompt."""
    attention: Tuner = "prefix"
    """What stands beside the attention of every block and reads what that reads."""
    mlp: Tuner = "adapter"
    """What stands beside the MLP."""
    block: Tuner = "prompt"
    """What stands beside the block, and reads its tokens."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InputError(f"res_tuning: length={self.length} must be at least 1")
        for place in ("attention", "mlp", "block"):
            if getattr(self, place) not in TUNERS:
                raise unknown("tuner of res_tuning", getattr(self, place), TUNERS)
        if {self.attention, self.mlp, self.block} == {"none"}:
            raise InputError("res_tuning needs a tuner at one place at least: attention, mlp or block")

    def attach(self, vit: ViT) -> Encoder:
        def tune(block: nn.Module) -> TunedBlock:
            kinds = (self.attention, self.mlp, self.block)
            return TunedBlock(block, *(TUNERS[kind](vit.width, self.length, vit.heads) for kind in kinds))

        replace(vit, "blocks.*", tune)
        return vit


class TunedBlock(nn.Module):
    """A transformer block with tuners in parallel, (B, N, D) -> (B, N, D)."""

    def __init__(self, block: nn.Module, attention: nn.Module, mlp: nn.Module, whole: nn.Module) -> None:
        super().__init__()
        blocks.check(block)
        self.block: Any = block
        self.attention = attention
        self.mlp = mlp
        self.whole = whole

    def forward(self, tokens: Tensor) -> Tensor:
        block, inputs = self.block, tokens
        normed = block.norm1(tokens)
        tokens = tokens + block.drop_path1(block.ls1(block.attn(normed)) + self.attention(normed))
        normed = block.norm2(tokens)
        tokens = tokens + block.drop_path2(block.ls2(block.mlp(normed)) + self.mlp(normed))
        return tokens + self.whole(inputs)


class Adapter(nn.Module):
    """Down to a few values, GELU, and up again; zero at the start. (B, N, D) -> (B, N, D)"""

    def __init__(self, width: int, length: int, heads: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, length)
        self.up = nn.Linear(length, width)
        nn.init.xavier_uniform_(self.down.weight)
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.up(functional.gelu(self.down(tokens)))


class Prefix(nn.Module):
    """Tokens attend to learned keys, each with a value of its own, zero at the start. (B, N, D) -> (B, N, D)"""

    def __init__(self, width: int, length: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.keys = nn.Parameter(nn.init.xavier_uniform_(torch.empty(length, width)))
        self.values = nn.Parameter(torch.zeros(length, width))

    def forward(self, tokens: Tensor) -> Tensor:
        return attend(tokens, self.keys, self.values, self.heads)


class Prompt(nn.Module):
    """Tokens attend to learned tokens, which are keys and values in one. (B, N, D) -> (B, N, D)"""

    def __init__(self, width: int, length: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.prompts = nn.Parameter(nn.init.xavier_uniform_(torch.empty(length, width)))

    def forward(self, tokens: Tensor) -> Tensor:
        return attend(tokens, self.prompts, self.prompts, self.heads)


class Nothing(nn.Module):
    """No tuner."""

    def __init__(self, width: int, length: int, heads: int) -> None:
        super().__init__()

    def forward(self, tokens: Tensor) -> float:
        return 0.0


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Attention of queries (B, N, D) to a few keys with their values, both (L, D)."""
    keys, values = (learned.expand(len(queries), -1, -1) for learned in (keys, values))
    q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (queries, keys, values))
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


TUNERS: dict[Tuner, Callable[[int, int, int], nn.Module]] = {
    "adapter": Adapter,
    "prefix": Prefix,
    "prompt": Prompt,
    "none": Nothing,
}
"""What makes a tuner from the width of the backbone, the length and the number of heads."""
