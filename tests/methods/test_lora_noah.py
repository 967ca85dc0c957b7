"""NOAH's LoRA: one pair of matrices for q, k and v, the values of the peft library, which does the same."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from vits import count, perturbed, small, vit_base

from petlbench import zoo
from petlbench.errors import InputError
from petlbench.surgery import fold

LoRANOAH: Any = zoo.method("lora_noah")


def test_logits_and_gradients_equal_those_of_the_peft_library(golden: Any) -> None:
    def official(name: str) -> str:
        _, _, depth, *_, matrix, _ = name.split(".")  # model.blocks.0.attn.qkv.updates.qkv.down.weight
        return f"blocks.{depth}.attn.qkv.lora_{'A' if matrix == 'down' else 'B'}.default.weight"

    values = golden("lora_peft")
    tensors = {
        name.replace("base_model.model.", "").replace("head.modules_to_save.default", "head"): value
        for name, value in values.tensors.items()
    }
    values = dataclasses.replace(values, tensors=tensors)
    values.check(LoRANOAH(rank=4, scale=2.0).attach(values.vit()).eval(), official)  # alpha / rank = 8 / 4


@pytest.mark.parametrize(("rank", "weights"), [(1, 36_864), (8, 294_912)])  # 12 x 3072 x rank
def test_it_trains_as_many_weights_on_vit_base_as_lora_of_q_and_v(rank: int, weights: int) -> None:
    assert count(LoRANOAH(rank=rank).attach(vit_base())) == weights
    assert count(zoo.method("lora")(rank=rank).attach(vit_base())) == weights  # type: ignore[call-arg]


def test_a_fresh_one_changes_nothing_and_folding_is_exact(images: Tensor) -> None:
    encoder = LoRANOAH(scale=3.0).attach(small()).eval()
    assert torch.equal(encoder(images), small()(images))
    before = perturbed(encoder)(images)
    torch.testing.assert_close(fold(encoder)(images), before, rtol=0, atol=1e-5)
    assert encoder.state_dict().keys() == small().state_dict().keys()


def test_the_change_of_q_k_and_v_has_the_rank_together() -> None:
    vit: Any = small()
    before = vit.blocks[0].attn.qkv.weight.clone()
    fold(perturbed(LoRANOAH(rank=3).attach(vit)))
    assert torch.linalg.matrix_rank(vit.blocks[0].attn.qkv.weight - before) == 3


def test_other_targets_are_refused() -> None:
    with pytest.raises(InputError, match=r"targets=\('q',\) must stay"):
        LoRANOAH(targets=("q",))
