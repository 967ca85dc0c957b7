"""LoRand: the counts of the paper, and its adapter against the plain equation."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from vits import count, perturbed, small, vit_base

from petlbench import contract, zoo
from petlbench.encoder import Swin
from petlbench.errors import InputError

LoRand: Any = zoo.method("lorand")


@pytest.mark.parametrize(("size", "weights"), [("base", 1_197_312), ("large", 1_792_896)])
def test_trained_weights_on_swin(size: str, weights: int) -> None:
    with torch.device("meta"):
        swin = Swin(timm.create_model(f"swin_{size}_patch4_window7_224"))
    assert count(LoRand().attach(swin)) == weights


def test_trained_weights_on_vit_base() -> None:
    assert count(LoRand().attach(vit_base())) == 12 * (99 * 768 + 256)


def test_an_adapter_is_a_bottleneck_with_a_residual_whose_matrices_share_their_kernels() -> None:
    adapter: Any = perturbed(LoRand().attach(small())).blocks[0].mlp_adapter
    down, up = (
        sum(first[branch] @ adapter.kernels[branch] @ last[branch] for branch in range(2))
        for first, last in ((adapter.down_in, adapter.down_out), (adapter.up_in, adapter.up_out))
    )
    assert (down.shape, up.shape) == ((24, 12), (12, 24))
    inputs = torch.randn(2, 17, 24)
    expected = inputs + nn.functional.gelu(inputs @ down + adapter.down_bias) @ up + adapter.up_bias
    torch.testing.assert_close(adapter(inputs), expected, rtol=0, atol=1e-5)


def test_the_rank_of_its_matrices_is_that_of_all_branches_together() -> None:
    adapter: Any = LoRand(branches=2, rank=3).attach(small()).blocks[0].attention_adapter
    assert torch.linalg.matrix_rank((adapter.down_in @ adapter.kernels @ adapter.down_out).sum(0)) == 6


@pytest.mark.parametrize("make", [small, contract.tiny_swin])
def test_with_zero_upward_weights_the_backbone_speaks(make: Any, images: Tensor) -> None:
    encoder = LoRand().attach(make()).eval()
    assert not torch.allclose(encoder(images), make().eval()(images))
    for name, parameter in encoder.named_parameters():
        if name.endswith(("up_out", "up_bias")):
            nn.init.zeros_(parameter)
    torch.testing.assert_close(encoder(images), make().eval()(images), rtol=0, atol=1e-5)


def test_adapters_stand_in_front_of_the_residual_sums() -> None:
    block: Any = perturbed(LoRand().attach(small())).blocks[1]
    inner, tokens = block.block, torch.randn(2, 17, 24)
    halfway = tokens + block.attention_adapter(inner.attn(inner.norm1(tokens)))
    torch.testing.assert_close(block(tokens), halfway + block.mlp_adapter(inner.mlp(inner.norm2(halfway))))


@pytest.mark.parametrize("name", ["branches", "rank", "reduction"])
def test_a_size_below_one_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"lorand: {name}=0"):
        LoRand(**{name: 0})
