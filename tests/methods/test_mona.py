"""Mona: the counts of the official code, its refinement against the plain equation, and the grid in a ViT."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from vits import count, perturbed, small, vit_base

from petlbench import contract, zoo
from petlbench.encoder import Swin
from petlbench.errors import InputError
from petlbench.surgery import trained

Mona: Any = zoo.method("mona")


@pytest.fixture
def refinement() -> Any:
    """One Mona with weights that are not those of the start, for 24 channels."""
    return perturbed(Mona(bottleneck=8).attach(small())).eval().blocks[0].after_mlp


@pytest.mark.parametrize(("size", "weights"), [("base", 3_667_456), ("large", 5_267_712)])
def test_trained_weights_on_swin(size: str, weights: int) -> None:
    with torch.device("meta"):
        swin = Swin(timm.create_model(f"swin_{size}_patch4_window7_224"))
    assert count(Mona().attach(swin)) == weights


def test_trained_weights_on_vit_base() -> None:
    assert count(Mona().attach(vit_base())) == 12 * 2 * (133 * 768 + 9728)


def test_a_refinement_is_that_of_the_official_code(refinement: Any) -> None:
    tokens = torch.randn(2, 3, 5, 24)
    scaled = refinement.norm(tokens) * refinement.norm_scale + tokens * refinement.token_scale
    inner = refinement.down(scaled).permute(0, 3, 1, 2)
    three, five, seven = (
        conv2d(inner, each.weight, each.bias, padding=padding, groups=8)
        for each, padding in zip(refinement.convolutions, (1, 2, 3), strict=True)
    )
    inner = (three + five + seven) / 3 + inner
    inner = conv2d(inner, refinement.mix.weight[:, :, None, None], refinement.mix.bias) + inner
    expected = tokens + refinement.up(nn.functional.gelu(inner.permute(0, 2, 3, 1)))
    torch.testing.assert_close(refinement(tokens, None), expected, rtol=0, atol=1e-5)


def test_it_starts_with_a_norm_of_almost_no_weight_and_is_not_the_identity(images: Tensor) -> None:
    encoder = Mona().attach(small()).eval()
    fresh = encoder.blocks[0].after_attention
    assert fresh.norm_scale.eq(1e-6).all()
    assert fresh.token_scale.eq(1).all()
    assert not torch.allclose(encoder(images), small()(images))


@pytest.mark.parametrize("make", [small, contract.tiny_swin])
def test_with_zero_upward_weights_the_backbone_speaks(make: Any, images: Tensor) -> None:
    encoder = Mona().attach(make()).eval()
    for module in encoder.modules():
        if hasattr(module, "token_scale"):
            nn.init.zeros_(module.up.weight)
    torch.testing.assert_close(encoder(images), make().eval()(images), rtol=0, atol=1e-5)


def test_the_norms_of_the_backbone_stay_frozen() -> None:
    encoder = Mona().attach(small())
    assert {id(weight) for weight in trained(encoder)} == {
        id(weight)
        for block in encoder.blocks
        for part in (block.after_attention, block.after_mlp)
        for weight in part.parameters()
    }


def test_patches_of_a_vit_are_convolved_as_a_map_is(refinement: Any) -> None:
    tokens = torch.randn(2, 2 + 15, 24)
    found = refinement(tokens, (3, 5))
    as_map = refinement(tokens[:, 2:].unflatten(1, (3, 5)), None).flatten(1, 2)
    torch.testing.assert_close(found[:, 2:], as_map)


def test_the_class_token_gets_all_but_the_convolutions(refinement: Any) -> None:
    tokens = torch.randn(2, 1 + 15, 24)
    found = refinement(tokens, (3, 5))[:, 0]
    for convolution in refinement.convolutions:
        nn.init.zeros_(convolution.weight)
        nn.init.zeros_(convolution.bias)
    torch.testing.assert_close(refinement(tokens, (3, 5))[:, 0], found)


def test_a_vit_may_see_an_image_that_is_not_square() -> None:
    encoder = Mona().attach(small(dynamic_img_size=True)).eval()
    grids = []
    encoder.blocks[0].register_forward_pre_hook(lambda block, inputs: grids.append(inputs[1]))
    assert encoder(torch.randn(1, 3, 64, 24)).shape == (1, 24)
    assert grids == [(8, 3)]


def test_a_bottleneck_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="bottleneck=0"):
        Mona(bottleneck=0)
