"""Partial fine-tuning: the last blocks and the last norm, and nothing else, are trained."""

from typing import Any

import pytest
import torch
from torch import Tensor
from vits import count, small, vit_base

from petlbench import backbone, zoo
from petlbench.errors import InputError

PartialFineTuning: Any = zoo.method("partial")


@pytest.mark.parametrize(("blocks", "weights"), [(1, 7_089_408), (2, 14_177_280), (4, 28_353_024)])
def test_trained_weights_on_vit_base_are_those_of_partial_k(blocks: int, weights: int) -> None:
    assert count(PartialFineTuning(blocks=blocks).attach(vit_base())) == weights


@pytest.mark.parametrize(("blocks", "first"), [(1, 3), (2, 2), (4, 0)])
def test_blocks_are_counted_from_the_last(blocks: int, first: int, golden: Any) -> None:
    encoder = PartialFineTuning(blocks=blocks).attach(golden("lora_qv").vit())
    parts = {
        name.removeprefix("model.").rsplit(".", 2)[0] if "blocks" not in name else int(name.split(".")[2])
        for name, parameter in encoder.named_parameters()
        if parameter.requires_grad
    }
    assert parts == {*range(first, 4), "norm"}


@pytest.mark.parametrize(("blocks", "merging"), [(1, 0), (2, 0), (4, 1), (20, 1), (21, 2), (24, 3)])
def test_in_a_swin_the_patch_mergings_between_trained_blocks_are_trained_too(blocks: int, merging: int) -> None:
    with torch.device("meta"):
        encoder: Any = PartialFineTuning(blocks=blocks).attach(backbone.build("swin_base_patch4_window7_224"))
    last = [(1024, 32)] * 2 + [(512, 16)] * 18 + [(256, 8)] * 2 + [(128, 4)] * 2
    weights = sum(12 * width**2 + 13 * width + 169 * heads for width, heads in last[:blocks]) + 2 * 1024
    weights += sum(8 * width + 8 * width**2 for width in (512, 256, 128)[:merging])
    assert count(encoder) == weights


def test_a_norm_behind_the_pooling_is_trained_in_place_of_that_in_front_of_it() -> None:
    encoder = PartialFineTuning().attach(small(global_pool="avg"))
    names = [name for name, weight in encoder.named_parameters() if weight.requires_grad and "blocks" not in name]
    assert names == ["model.fc_norm.weight", "model.fc_norm.bias"]


def test_the_frozen_blocks_keep_nothing_for_backward(images: Tensor) -> None:
    tokens = list(PartialFineTuning().attach(small(depth=3)).stream(images))
    assert [each.requires_grad for each in tokens] == [False, False, False, True]


def test_nothing_is_added_to_the_backbone(images: Tensor) -> None:
    encoder = PartialFineTuning().attach(small())
    assert encoder.state_dict().keys() == small().state_dict().keys()
    assert torch.equal(encoder(images), small()(images))


def test_less_than_one_block_is_refused() -> None:
    with pytest.raises(InputError, match="blocks=0 must be at least 1"):
        PartialFineTuning(blocks=0)


def test_more_blocks_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match="blocks=3, but this backbone has 2"):
        PartialFineTuning(blocks=3).attach(small())
