"""BAPAT: its counts, and what it adds to keys, values and the MLP."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from vits import count, perturbed, small, vit_base

from petlbench import contract, zoo
from petlbench.encoder import Swin
from petlbench.errors import InputError

BAPAT: Any = zoo.method("bapat")


@pytest.mark.parametrize(
    ("fields", "weights"),
    [
        ({"mlp_dim": 0}, 903_552),  # 12 x (3 x 768 x 32 + 32 + 2 x 768)
        ({"mlp_dim": 0, "bias": False}, 884_736),
        ({"mlp_dim": 0, "attention_dim": 128}, 3_558_912),
        ({"bias": False}, 2_064_384),  # V-PETL Bench prints 2.06 million
        ({}, 2_093_184),
    ],
    ids=str,
)
def test_trained_weights_on_vit_base(fields: dict[str, Any], weights: int) -> None:
    assert count(BAPAT(**fields).attach(vit_base())) == weights


def test_trained_weights_on_swin_base() -> None:
    with torch.device("meta"):
        swin = Swin(timm.create_model("swin_base_patch4_window7_224"))
    widths = [128] * 2 + [256] * 2 + [512] * 18 + [1024] * 2
    assert count(BAPAT(mlp_dim=0).attach(swin)) == sum(3 * 32 * width + 32 + 2 * width for width in widths)


def test_queries_stay_and_keys_and_values_get_a_scaled_tanh_bottleneck() -> None:
    plain: Any = small().blocks[1]
    qkv: Any = perturbed(BAPAT(attention_scale=0.5).attach(small())).blocks[1].attn.qkv
    tokens = torch.randn(2, 17, 24)
    difference = qkv(tokens) - plain.attn.qkv(tokens)
    hidden = torch.tanh(tokens @ qkv.down.weight.T + qkv.down.bias)
    expected = 0.5 * (hidden @ qkv.up.weight.T + qkv.up.bias)
    assert not difference[..., :24].any()
    torch.testing.assert_close(difference[..., 24:], expected, rtol=0, atol=1e-5)


def test_the_adapter_reads_what_the_mlp_reads() -> None:
    block: Any = perturbed(BAPAT(mlp_scale=2.0).attach(small())).blocks[1]
    tokens = torch.randn(2, 17, 24)
    halfway = tokens + block.attn(block.norm1(tokens))
    read = block.norm2(halfway)
    adapter = block.mlp.adapter
    added = torch.relu(read @ adapter.down.weight.T + adapter.down.bias) @ adapter.up.weight.T + adapter.up.bias
    torch.testing.assert_close(block(tokens), halfway + block.mlp.mlp(read) + 2.0 * added)


@pytest.mark.parametrize("make", [small, contract.tiny_swin])
def test_the_adapter_starts_at_zero_but_the_attention_does_not(make: Any, images: Tensor) -> None:
    frozen = make().eval()(images)
    assert not torch.allclose(BAPAT().attach(make()).eval()(images), frozen)
    assert torch.equal(BAPAT(attention_scale=0.0).attach(make()).eval()(images), frozen)


def test_patt_has_no_adapter_beside_the_mlp() -> None:
    assert type(BAPAT(mlp_dim=0).attach(small()).blocks[0].mlp) is type(small().blocks[0].mlp)


@pytest.mark.parametrize("fields", [{"attention_dim": 0}, {"mlp_dim": -1}], ids=str)
def test_impossible_widths_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"bapat: {next(iter(fields))}={next(iter(fields.values()))}"):
        BAPAT(**fields)
