"""RepAdapter: the facts of the paper, and the numbers of the official code."""

from typing import Any

import pytest
import torch
from torch import Tensor
from vits import count, perturbed, small, vit_base

from petlbench import zoo
from petlbench.errors import InputError
from petlbench.surgery import fold, trained

RepAdapter: Any = zoo.method("repadapter")
VTAB: Any = zoo.suite("vtab")
OFFICIAL = {"down.weight": "A.weight", "down.bias": "A.bias", "up": "B.weight", "up_bias": "B.bias"}


def test_logits_and_gradients_equal_those_of_the_official_code(golden: Any) -> None:
    def official(name: str) -> str:
        _, _, depth, half, _, _, weight = name.split(".", 6)  # model.blocks.0.attn.qkv.adapter.down.weight
        return f"blocks.{depth}.adapter_{half}.conv_{OFFICIAL[weight]}"

    values = golden("repadapter")
    values.check(RepAdapter(scale=0.5).attach(values.vit()).eval(), official)


@pytest.mark.parametrize(
    ("fields", "weights"),
    [
        ({}, 239_808),  # the paper prints 0.22 M: without biases, which its code has, it is 221,184
        ({"bottleneck": 16}, 461_184),
        ({"bottleneck": 32}, 903_936),
        ({"mlp": False}, 119_904),
        ({"groups": 1}, 313_536),
    ],
    ids=str,
)
def test_trained_weights_on_vit_base(fields: dict[str, Any], weights: int) -> None:
    assert count(RepAdapter(**fields).attach(vit_base())) == weights


@pytest.mark.parametrize(
    ("task", "scale"),
    [("caltech101", 5), ("cifar100", 0.1), ("clevr_count", 0.5), ("dtd", 1), ("smallnorb_azi", 10), ("svhn", 10)],
)
def test_published_scales(task: str, scale: float) -> None:
    assert RepAdapter().published("vtab", task) == {"scale": scale}
    assert RepAdapter(mlp=False).published("vtab", task) == {}


def test_every_task_of_vtab_has_its_published_scale() -> None:
    assert all(RepAdapter().published("vtab", task.name) for task in VTAB.tasks)
    assert RepAdapter().published("mini", "digits") == {}


def test_a_fresh_repadapter_changes_nothing(images: Tensor) -> None:
    assert torch.equal(RepAdapter(scale=10.0).attach(small()).eval()(images), small()(images))


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("mlp", [True, False], ids=["repblock", "repattn"])
def test_folding_is_exact_and_leaves_plain_linear_layers(mlp: bool, groups: int, images: Tensor) -> None:
    encoder = perturbed(RepAdapter(scale=3.0, groups=groups, mlp=mlp).attach(small())).eval()
    before = encoder(images)
    assert not torch.allclose(before, small()(images), atol=1e-2)
    fold(encoder)
    torch.testing.assert_close(encoder(images), before, rtol=0, atol=1e-5)
    assert encoder.state_dict().keys() == small().state_dict().keys()
    assert list(trained(encoder)) == []


def test_folding_gives_a_bias_to_a_layer_without_one(images: Tensor) -> None:
    encoder = perturbed(RepAdapter(scale=3.0).attach(small(qkv_bias=False))).eval()
    before = encoder(images)
    fold(encoder)
    torch.testing.assert_close(encoder(images), before, rtol=0, atol=1e-5)
    assert encoder.blocks[0].attn.qkv.bias.shape == (72,)


def test_each_half_of_the_inner_values_reaches_half_of_the_outputs() -> None:
    adapter = perturbed(RepAdapter(bottleneck=4).attach(small())).blocks[0].attn.qkv.adapter.eval()
    with torch.no_grad():
        adapter.down.weight[2:] = 0
        adapter.down.bias[2:] = 0
        adapter.up_bias.zero_()
    outputs = adapter(torch.randn(5, 24))
    assert outputs[:, :12].all()
    assert not outputs[:, 12:].any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bottleneck": 0}, "bottleneck=0 must be at least 1"),
        ({"groups": 3}, "groups=3 do not divide bottleneck=8"),
        ({"groups": 0}, "groups=0 do not divide"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RepAdapter(**fields)


def test_groups_that_do_not_divide_the_width_of_the_backbone_are_refused() -> None:
    with pytest.raises(InputError, match="groups=5 do not divide the backbone's 24"):
        RepAdapter(bottleneck=5, groups=5).attach(small())
