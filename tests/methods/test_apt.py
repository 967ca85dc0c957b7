"""APT: the count that is printed, and the formula of the official code."""

from typing import Any

import pytest
import torch
from torch import Tensor
from vits import count, perturbed, small, vit_base

from petlbench import zoo
from petlbench.errors import InputError
from petlbench.surgery import fold, trained

APT: Any = zoo.method("apt")


def module(**fields: Any) -> Any:
    """The first attention of a small ViT with approximated prompts."""
    return perturbed(APT(tokens=7, **fields).attach(small())).blocks[0].attn


def test_trained_weights_on_vit_base() -> None:
    encoder = APT().attach(vit_base())
    assert count(encoder.blocks[0]) == 159_745  # 200 x 768 + 2 x 768 x 4 + 1
    assert count(encoder) == 1_916_940  # printed as 1.92 M
    assert count(APT(tokens=50).attach(vit_base())) == 534_540  # the committed configuration for ViLT


def test_the_outputs_are_those_of_the_official_formula() -> None:
    attn, inputs = module(), torch.randn(2, 17, 24)
    plain = attn.attention(inputs)
    keys = attn.prompts + attn.prompts @ attn.down.weight.T @ attn.up.weight.T
    for image in range(2):
        for token in range(17):
            weights = torch.stack([(inputs[image, token] @ key).clamp(min=0) for key in keys])
            total = torch.stack([weight * prompt for weight, prompt in zip(weights, attn.prompts, strict=True)]).sum(0)
            expected = (plain[image, token] + weights.max() * total) * attn.scale.exp()
            torch.testing.assert_close(attn(inputs)[image, token], expected, rtol=1e-4, atol=1e-5)


def test_the_largest_weight_passes_no_gradient() -> None:
    """The gradient is that of the sum of prompts times a constant."""
    attn = module()
    with torch.no_grad():
        attn.up.weight.zero_()
        attn.scale.zero_()
    inputs = torch.randn(1, 1, 24)
    change = attn(inputs) - attn.attention(inputs)
    weights = (inputs @ attn.prompts.T).relu()
    change.sum().backward()
    factor = weights.max().item()
    prompts = attn.prompts.detach().clone().requires_grad_()
    (factor * ((inputs @ prompts.T).relu() @ prompts)).sum().backward()
    torch.testing.assert_close(attn.prompts.grad, prompts.grad)


def test_a_fresh_apt_changes_the_backbone_a_little(images: Tensor) -> None:
    torch.manual_seed(0)
    change = APT().attach(small()).eval()(images) - small()(images)
    assert 1e-4 < change.abs().max() < 1.0


def test_starting_weights_have_the_spread_of_the_official_code() -> None:
    attn = APT().attach(small()).blocks[1].attn
    assert attn.prompts.std().item() == pytest.approx(0.02, rel=0.1)
    assert attn.down.weight.std().item() == pytest.approx(1.0, rel=0.2)
    assert not attn.up.weight.any()
    assert attn.scale == 0


def test_no_token_is_added_to_the_sequence(images: Tensor) -> None:
    encoder = APT().attach(small())
    assert [tokens.shape[1] for tokens in encoder.stream(images)] == [17, 17, 17]


@pytest.mark.parametrize("bias", [True, False], ids=["with bias", "without bias"])
def test_folding_is_exact_and_leaves_constants(bias: bool, images: Tensor) -> None:
    encoder = perturbed(APT(tokens=7).attach(small(proj_bias=bias))).eval()
    before = encoder(images)
    assert not torch.allclose(before, small(proj_bias=bias)(images), atol=1e-2)
    fold(encoder)
    torch.testing.assert_close(encoder(images), before, rtol=0, atol=1e-5)
    added = encoder.state_dict().keys() - {
        name.replace(".attn.", ".attn.attention.") for name in small(proj_bias=bias).state_dict()
    }
    assert added == {f"model.blocks.{depth}.attn.{name}" for depth in range(2) for name in ("keys", "values")}
    assert list(trained(encoder)) == []


@pytest.mark.parametrize("fields", [{"tokens": 0}, {"rank": 0}], ids=str)
def test_sizes_below_one_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(InputError, match="must be at least 1"):
        APT(**fields)
