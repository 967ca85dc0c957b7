"""Partial fine-tuning: the last blocks and the last norm, and nothing else, are trained."""

from typing import Any

import pytest
import torch
from torch import Tensor
from vits import count, small, vit_base

from petlbench import zoo
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
