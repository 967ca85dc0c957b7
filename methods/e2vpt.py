"""E2VPT: besides VPT's prompts every attention has prompts among its keys and values, and useless prompts are pruned.

Segment j of a prompt is every channel d with d mod `segments` = j; pruned prompts are zeroed rather than removed, so
that they still count, cost and draw attention; key and value share their prompts; and the importance is a signed mean:
all as in the official code. Different on purpose: a candidate is rewound to the weights the first training began with,
where the official code draws new ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import replace as with_
from typing import TYPE_CHECKING, Any, Literal

import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from petlbench.encoder import Encoder, ViT
from petlbench.errors import InputError, unknown
from petlbench.method import Paper
from petlbench.recipe import MINI
from petlbench.surgery import replace

from .vpt import OFFICIAL, TASKS, VPT, Prompted

if TYPE_CHECKING:
    from petlbench.trial import Trial

LENGTHS = {"caltech101": (32, 5), "flowers102": (1, 1), "patch_camelyon": (10, 10)}
LENGTHS |= dict.fromkeys(("cifar100", "dsprites_loc", "dsprites_ori"), (5, 5))
"""Prompts and key-value prompts in the released commands; (10, 5) for the other tasks."""


@dataclass(frozen=True, kw_only=True)
class E2VPT(VPT):
    """Trains with all prompts, then tries what to prune on a fifth of the training images, then trains what is left.

    The defaults try 72 combinations, each a whole training on four fifths of the images. Shorter lists are cheaper:
    `e2vpt(prune_tokens=(0.2, 0.5), prune_segments=(4, 8))` trains six times in all. Empty lists prune nothing.
    """

    family = "prompt"
    paper = Paper(
        title="E2VPT: An Effective and Efficient Approach for Visual Prompt Tuning",
        authors="Cheng Han and Qifan Wang and Yiming Cui and Zhiwen Cao and Wenguan Wang and Siyuan Qi "
        "and Dongfang Liu",
        year=2023,
        venue="IEEE/CVF International Conference on Computer Vision",
        arxiv="2307.13770",
        code="ChengHan111/E2VPT",
    )
    recipes = {
        "vtab": with_(
            OFFICIAL,
            source="ChengHan111/E2VPT (7a66e75) configs and commands; rate and decay are searched per task there, "
            "here those of two of VPT's three demos",
            batch_size=64,
            lr=0.25,
        ),
        "mini": with_(MINI, lr=1e-2),
    }

    kv_tokens: int = 5
    """Prompts per block among the keys and values of its attention."""
    share_kv: bool = True
    """Whether the same prompts are keys and values."""
    segments: int = 16
    """Parts that each prompt is cut into."""
    prune_tokens: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    """Shares of the prompts whose pruning is tried."""
    prune_segments: tuple[int, ...] = (1, 3, 4, 6, 8, 9, 11, 12)
    """Numbers of segments whose pruning is tried, in every prompt."""
    importance: Literal["signed", "absolute"] = "signed"
    """Mean over batches of a mask's gradient, as the official code has it, or of its absolute value, as the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kv_tokens < 1:
            raise InputError(f"e2vpt: kv_tokens={self.kv_tokens} must be at least 1")
        if not all(0 <= share < 1 for share in self.prune_tokens):
            raise InputError(f"e2vpt: prune_tokens={self.prune_tokens} must be shares from 0 to below 1")
        if not all(0 <= number < self.segments for number in self.prune_segments):
            raise InputError(f"e2vpt: prune_segments={self.prune_segments} must be from 0 to below {self.segments}")
        if self.importance not in ("signed", "absolute"):
            raise unknown("importance of e2vpt", self.importance, ("signed", "absolute"))

    def attach(self, vit: ViT) -> Encoder:  # type: ignore[override]  # on plain ViTs only, unlike VPT
        width = self.project_dim or vit.width
        if width % self.segments:
            raise InputError(f"e2vpt: segments={self.segments} must divide the width {width} of the prompts")
        replace(vit, "blocks.*.attn", lambda attn: PrefixAttention(attn, self.kv_tokens, self.share_kv))
        super().attach(vit)
        if self.candidates():
            masks = Masks(self.tokens, self.segments)
            for block in vit.blocks:
                if isinstance(block, Prompted):
                    block.project = nn.Sequential(masks, block.project)
        return vit

    def fit(self, trial: Trial) -> None:
        if self.candidates():
            initial = trial.state()
            tokens, segments = self.choose(trial, initial)
            trial.restore(initial)
            masks_of(trial).fix(tokens, segments)
            trial.found = {"tokens": tokens.int().tolist(), "segments": segments.int().tolist()}
        trial.fit()

    def choose(self, trial: Trial, initial: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The two masks of the best candidate on the held-out fifth; of equal ones that which prunes most."""
        train, held_out = trial.split()
        train.fit()
        token_scores, segment_scores = self.scores(train)
        tried = []
        for tokens, segments in self.candidates():
            kept = keep(token_scores, tokens), keep(segment_scores, segments)
            train.restore(initial)
            masks_of(train).fix(*kept)
            train.fit()
            tried.append((held_out.score(), kept))
        return max(reversed(tried), key=lambda each: each[0])[1]

    def scores(self, trial: Trial) -> tuple[Tensor, Tensor]:
        """How important each prompt (tokens) and each of its segments (tokens, segments) is: one pass of the images."""
        weights = list(masks_of(trial).parameters())
        total = [torch.zeros_like(weight) for weight in weights]
        for batch in trial.batches():
            for sum_, gradient in zip(total, torch.autograd.grad(trial.loss(batch), weights), strict=True):
                sum_ += gradient.abs() if self.importance == "absolute" else gradient
        return total[0], total[1]

    def candidates(self) -> list[tuple[int, int]]:
        """Numbers of prompts, and of segments in each, to prune: fewest first."""
        tokens = {int(share * self.tokens) for share in self.prune_tokens}
        return list(itertools.product(sorted(tokens), sorted(set(self.prune_segments))))

    def published(self, suite: str, task: str) -> Mapping[str, Any]:
        tokens, kv_tokens = LENGTHS.get(task, (10, 5))
        return {"tokens": tokens, "kv_tokens": kv_tokens} if suite == "vtab" and task in TASKS else {}


class PrefixAttention(nn.Module):
    """Attention in which learned keys and values stand in front of those of the tokens: (B, N, D) -> (B, N, D)."""

    def __init__(self, attn: Any, length: int, shared: bool) -> None:
        super().__init__()
        refuse_other_attention(attn)
        self.attn = attn
        self.keys = nn.Parameter(torch.empty(attn.num_heads, length, attn.qkv.out_features // (3 * attn.num_heads)))
        self.values = None if shared else nn.Parameter(torch.empty_like(self.keys))
        for weight in self.parameters(recurse=False):
            nn.init.kaiming_uniform_(weight)

    def forward(self, tokens: Tensor, **_: Any) -> Tensor:  # timm hands over a mask, which a ViT does not have
        values = self.keys if self.values is None else self.values
        return attend(self.attn, tokens, self.keys, values)


def attend(attn: Any, tokens: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """timm's attention of tokens (B, N, D) with more keys and values, (heads, P, D / heads) each, for all images."""
    q, k, v = attn.qkv(tokens).unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, size)
    q, k = attn.q_norm(q), attn.k_norm(k)
    k, v = (
        torch.cat([more.to(own.dtype).expand(len(own), -1, -1, -1), own], 2) for more, own in ((keys, k), (values, v))
    )
    dropout = attn.attn_drop.p if attn.training else 0.0
    outputs = scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2).flatten(2)
    return attn.proj_drop(attn.proj(outputs))


def refuse_other_attention(attn: nn.Module) -> None:
    """Raise InputError for attention that `attend` does not compute."""
    if type(attn) is not Attention or getattr(attn, "gate", None) is not None:
        raise InputError(f"prefixes need timm's plain Attention; this backbone has {type(attn).__name__}")


class Masks(nn.Module):
    """What is left of each prompt, for the prompts of all blocks: (P, D) -> (P, D). Trained until it is fixed."""

    def __init__(self, tokens: int, segments: int) -> None:
        super().__init__()
        self.tokens: Tensor = nn.Parameter(torch.ones(tokens))
        self.segments: Tensor = nn.Parameter(torch.ones(tokens, segments))

    def forward(self, prompts: Tensor) -> Tensor:
        interleaved = self.segments.repeat(1, prompts.shape[1] // self.segments.shape[1])
        return prompts * self.tokens.unsqueeze(1) * interleaved

    def fix(self, tokens: Tensor, segments: Tensor) -> None:
        """Train the masks no longer; what is False is gone."""
        for name, mask in (("tokens", tokens), ("segments", segments)):
            delattr(self, name)
            self.register_buffer(name, mask.clone())  # restoring a state writes into it


def masks_of(trial: Trial) -> Masks:
    """The masks, which all blocks share."""
    found: Iterator[Masks] = (module for module in trial.encoder.modules() if isinstance(module, Masks))
    return next(found)


def keep(scores: Tensor, number: int) -> Tensor:
    """True for all but the `number` lowest scores of each row; one of a row is always kept."""
    lowest = scores.sort(stable=True).indices[..., : min(number, scores.shape[-1] - 1)]
    return torch.ones_like(scores, dtype=torch.bool).scatter(-1, lowest, False)
