"""Res-Tuning: tuners in parallel to what they tune, in any combination."""

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import ResPostBlock
from torch import Tensor
from vits import count, perturbed, small, vit_base

from petlbench import zoo
from petlbench.errors import InputError
from petlbench.surgery import trained

ResTuning: Any = zoo.method("res_tuning")
NONE = {"attention": "none", "mlp": "none", "block": "none"}


@pytest.mark.parametrize(
    ("fields", "weights"),
    [
        ({}, 470_136),  # 0.55 % of a ViT-B/16
        (NONE | {"attention": "prefix"}, 12 * 2 * 10 * 768),
        (NONE | {"mlp": "adapter"}, 193_656),  # 12 x (2 x 768 x 10 + 10 + 768)
        (NONE | {"block": "prompt"}, 12 * 10 * 768),
        ({"length": 8, "attention": "adapter", "block": "adapter"}, 470_304),
    ],
    ids=str,
)
def test_trained_weights_on_vit_base(fields: dict[str, Any], weights: int) -> None:
    assert count(ResTuning(**fields).attach(vit_base())) == weights


def test_with_the_mean_head_of_vtab_half_a_million_weights_are_trained() -> None:
    """0.51 M, as printed."""
    tasks = zoo.suite("vtab").tasks
    head = sum(769 * task.classes for task in tasks) / len(tasks)
    assert round((count(ResTuning().attach(vit_base())) + head) / 1e6, 2) == 0.51


@pytest.mark.parametrize("place", ["attention", "mlp", "block"])
@pytest.mark.parametrize("tuner", ["adapter", "prefix", "prompt"])
def test_any_tuner_works_at_any_place(place: str, tuner: str, images: Tensor) -> None:
    encoder = perturbed(ResTuning(**(NONE | {place: tuner})).attach(small())).eval()
    assert not torch.allclose(encoder(images), small()(images), atol=1e-3)
    encoder(images).square().sum().backward()
    assert all(weight.grad is not None for weight in trained(encoder))


def test_prefixes_and_adapters_change_nothing_at_the_start_and_prompts_do(images: Tensor) -> None:
    assert torch.equal(ResTuning(block="none").attach(small()).eval()(images), small()(images))
    assert not torch.equal(ResTuning().attach(small()).eval()(images), small()(images))


def test_a_tuner_sees_only_the_input_of_what_it_stands_beside() -> None:
    tuned = perturbed(ResTuning().attach(small(init_values=0.1))).blocks[0].eval()
    block, tokens = tuned.block, torch.randn(2, 17, 24)
    normed = block.norm1(tokens)
    middle = tokens + block.ls1(block.attn(normed)) + tuned.attention(normed)
    normed = block.norm2(middle)
    after = middle + block.ls2(block.mlp(normed)) + tuned.mlp(normed) + tuned.whole(tokens)
    torch.testing.assert_close(tuned(tokens), after)


def test_a_prefix_is_attention_to_learned_tokens_head_by_head() -> None:
    prefix = perturbed(ResTuning(length=5).attach(small())).blocks[0].attention
    tokens = torch.randn(2, 17, 24)
    parts = []
    for head in (slice(0, 12), slice(12, 24)):
        weights = (tokens[..., head] @ prefix.keys[:, head].T / 12**0.5).softmax(-1)
        parts.append(weights @ prefix.values[:, head])
    torch.testing.assert_close(prefix(tokens), torch.cat(parts, dim=-1))


def test_blocks_that_norm_behind_their_branches_are_refused() -> None:
    with pytest.raises(InputError, match=r"ResPostBlock.*valid: Block"):
        ResTuning().attach(small(block_fn=ResPostBlock))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"length": 0}, "length=0"),
        ({"mlp": "lora"}, "unknown tuner of res_tuning 'lora'"),
        (NONE, "needs a tuner"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ResTuning(**fields)
