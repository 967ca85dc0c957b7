"""LoRA: the facts of the paper, and the numbers of JieShibo/PETL-ViT."""

from typing import Any

import pytest
import torch
from torch import Tensor
from vits import count, perturbed, small, vit_base

from petlbench import zoo
from petlbench.errors import InputError
from petlbench.surgery import fold, trained

LoRA: Any = zoo.method("lora")


def test_logits_and_gradients_equal_those_of_petl_vit(golden: Any) -> None:
    def official(name: str) -> str:
        _, _, depth, _, _, _, part, matrix, _ = name.split(".")  # model.blocks.0.attn.qkv.updates.q.down.weight
        return f"blocks.{depth}.attn.lora_{part}.adapter_{matrix}.weight"

    values = golden("lora_qv")
    values.check(LoRA(rank=4, scale=0.5).attach(values.vit()).eval(), official)


@pytest.mark.parametrize(
    ("fields", "weights"),
    [
        ({}, 294_912),  # 12 blocks x 2 targets x 2 x 768 x 8
        ({"rank": 1}, 36_864),
        ({"rank": 32}, 1_179_648),
        ({"targets": ("q", "k", "v")}, 442_368),
        ({"targets": ("o",)}, 147_456),
        ({"targets": ("fc1", "fc2")}, 737_280),
        ({"targets": ("q", "k", "v", "o", "fc1", "fc2")}, 1_327_104),
    ],
    ids=str,
)
def test_trained_weights_on_vit_base(fields: dict[str, Any], weights: int) -> None:
    assert count(LoRA(**fields).attach(vit_base())) == weights


def test_a_fresh_lora_changes_nothing(golden: Any) -> None:
    values = golden("lora_qv")
    images = values.tensors["input"]
    encoder = LoRA(targets=("q", "k", "v", "o", "fc1", "fc2"), scale=10.0).attach(values.vit()).eval()
    assert torch.equal(encoder(images), values.vit()(images))


@pytest.mark.parametrize("bias", [True, False], ids=["with qkv bias", "without qkv bias"])
@pytest.mark.parametrize("targets", [("q", "v"), ("k",), ("o", "fc1"), ("q", "k", "v", "o", "fc1", "fc2")], ids=str)
def test_folding_is_exact_and_leaves_plain_linear_layers(targets: tuple[str, ...], bias: bool, images: Tensor) -> None:
    encoder = perturbed(LoRA(targets=targets, scale=3.0).attach(small(qkv_bias=bias))).eval()
    before, frozen = encoder(images), small(qkv_bias=bias).state_dict().keys()
    fold(encoder)
    torch.testing.assert_close(encoder(images), before, rtol=0, atol=1e-5)
    assert encoder.state_dict().keys() == frozen
    assert list(trained(encoder)) == []


@pytest.mark.parametrize(("target", "rows"), [("q", slice(0, 24)), ("k", slice(24, 48)), ("v", slice(48, 72))])
def test_a_target_changes_its_third_of_the_fused_weight(target: str, rows: slice) -> None:
    vit = small()
    before = vit.model.blocks[0].attn.qkv.weight.clone()  # type: ignore[operator, union-attr]
    fold(perturbed(LoRA(targets=(target,)).attach(vit)))
    change = vit.model.blocks[0].attn.qkv.weight - before  # type: ignore[operator, union-attr]
    changed = change.abs().sum(dim=1) > 0
    assert changed[rows].all()
    assert changed.sum() == 24


def test_the_change_of_a_weight_has_the_rank_that_was_asked_for() -> None:
    vit = small()
    before = vit.model.blocks[1].mlp.fc1.weight.clone()  # type: ignore[operator, union-attr]
    fold(perturbed(LoRA(targets=("fc1",), rank=3).attach(vit)))
    assert torch.linalg.matrix_rank(vit.model.blocks[1].mlp.fc1.weight - before) == 3  # type: ignore[operator, union-attr]


def test_an_unknown_target_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(InputError, match=r"unknown target of lora 'qkv': .*valid: fc1, fc2, k, o, q, v"):
        LoRA(targets=("qkv",))


def test_a_rank_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="rank=0"):
        LoRA(rank=0)
