"""The neck of a detector: four maps of any encoder at the strides that every detector reads."""

import pytest
import torch
from vits import small, vit_base

import petlbench
from petlbench.dense.pyramid import STRIDES, FeaturePyramid, Rescale
from petlbench.errors import InputError


def weights(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("patch", [4, 8, 16, 32, 64])
def test_maps_of_one_stride_become_maps_of_four(patch):
    maps = [torch.randn(2, 6, 128 // patch, 192 // patch) for _ in range(4)]
    sizes = [tuple(each.shape) for each in Rescale((6,) * 4, (patch,) * 4)(maps)]
    assert sizes == [(2, 6, 128 // stride, 192 // stride) for stride in STRIDES]


def test_maps_that_have_the_wanted_strides_pass_unchanged_and_cost_no_weight():
    maps = [torch.randn(1, width, 64 // stride, 64 // stride) for width, stride in enumerate(STRIDES, start=1)]
    rescale = Rescale((1, 2, 3, 4), STRIDES)
    assert all(after is before for after, before in zip(rescale(maps), maps, strict=True))
    assert weights(rescale) == 0


def test_the_resolution_modules_of_vit_base_have_three_transposed_convolutions_and_one_norm():
    vit = vit_base()
    assert weights(Rescale(vit.channels, vit.strides)) == 3 * (768 * 768 * 4 + 768) + 2 * 768


def test_a_patch_size_that_no_doubling_reaches_is_an_error_that_names_it():
    with pytest.raises(InputError, match="stride 14"):
        Rescale((8,) * 4, (14,) * 4)


@pytest.mark.parametrize("method", ["linear", "hst"])
def test_every_encoder_becomes_five_levels_of_equal_width(method):
    encoder = petlbench.load(method)().attach(small(depth=4, dynamic_img_size=True))
    neck = FeaturePyramid(encoder.channels, encoder.strides, width=16)
    levels = neck(encoder.pyramid(torch.randn(2, 3, 64, 64)))
    assert [tuple(level.shape) for level in levels] == [(2, 16, side, side) for side in (16, 8, 4, 2, 1)]


def test_every_weight_of_the_neck_gets_a_gradient():
    neck = FeaturePyramid((8,) * 4, (16,) * 4, width=4)
    levels = neck([torch.randn(1, 8, 4, 4) for _ in range(4)])
    torch.stack([level.square().sum() for level in levels]).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in neck.parameters())
