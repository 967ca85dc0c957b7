"""FacT-TT: the facts of the paper, and the numbers of the official code."""

import dataclasses
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from vits import count, perturbed, pickled, small, vit_base

from petlbench import zoo
from petlbench.errors import InputError
from petlbench.surgery import fold, trained, trained_state

FacT: Any = zoo.method("fact_tt")
VTAB: Any = zoo.suite("vtab")


def fused(values: Any) -> Any:
    """The golden values with one core for q, k and v together, where the official code has three."""
    tensors = dict(values.tensors)
    for kind in ("param", "grad"):
        for depth in range(4):
            parts = [tensors.pop(f"{kind}/blocks.{depth}.attn.{part}_FacTs.weight") for part in "qkv"]
            tensors[f"{kind}/blocks.{depth}.attn.qkv_FacTs.weight"] = torch.cat(parts)
    return dataclasses.replace(values, tensors=tensors)


def test_logits_and_gradients_equal_those_of_the_official_code(golden: Any) -> None:
    def official(name: str) -> str:
        name = name.removeprefix("model.")
        for ours, theirs in {"blocks.0.attn.qkv.down": "FacTu", "blocks.0.attn.qkv.up": "FacTv"}.items():
            name = name.replace(ours, theirs)
        return name.replace(".core", "_FacTs")

    values = fused(golden("fact_tt"))
    values.check(FacT(rank=6, scale=0.5).attach(values.vit()).eval(), official)


@pytest.mark.parametrize(("rank", "weights"), [(4, 8_448), (8, 21_504), (16, 61_440), (32, 196_608)])
def test_trained_weights_on_vit_base(rank: int, weights: int) -> None:
    assert count(FacT(rank=rank).attach(vit_base())) == weights


def test_with_the_ranks_of_the_paper_the_mean_over_vtab_is_39_734_weights() -> None:
    """The paper prints 0.037 M for it; the configurations of its code give this."""
    ranks = [FacT().published("vtab", task.name)["rank"] for task in VTAB.tasks]
    weights = {rank: count(FacT(rank=rank).attach(vit_base())) for rank in set(ranks)}
    assert round(sum(weights[rank] for rank in ranks) / 19) == 39_734


@pytest.mark.parametrize(
    ("task", "rank", "scale"),
    [("caltech101", 16, 10), ("cifar100", 8, 1), ("clevr_dist", 4, 10), ("dtd", 8, 0.01), ("svhn", 16, 100)],
)
def test_published_ranks_and_scales(task: str, rank: int, scale: float) -> None:
    assert FacT().published("vtab", task) == {"rank": rank, "scale": scale}
    assert FacT().published("mini", "digits") == {}


def test_a_fresh_fact_changes_nothing(images: Tensor) -> None:
    assert torch.equal(FacT(scale=100.0).attach(small()).eval()(images), small()(images))


@pytest.mark.parametrize("bias", [True, False], ids=["with qkv bias", "without qkv bias"])
def test_folding_is_exact_and_leaves_plain_linear_layers(bias: bool, images: Tensor) -> None:
    encoder = perturbed(FacT(scale=3.0).attach(small(qkv_bias=bias))).eval()
    before, frozen = encoder(images), small(qkv_bias=bias).state_dict().keys()
    assert not torch.allclose(before, small(qkv_bias=bias)(images), atol=1e-2)
    fold(encoder)
    torch.testing.assert_close(encoder(images), before, rtol=0, atol=1e-5)
    assert encoder.state_dict().keys() == frozen
    assert list(trained(encoder)) == []


@pytest.mark.parametrize(("path", "outputs", "inputs"), [("attn.qkv", 3, 1), ("mlp.fc1", 4, 1), ("mlp.fc2", 1, 4)])
def test_every_tile_changes_within_the_rows_and_columns_that_the_network_shares(
    path: str, outputs: int, inputs: int
) -> None:
    """Each 24 x 24 tile of the change is V times something of rank r times U."""
    vit = small()
    before = vit.blocks[1].get_submodule(path).weight.clone()  # type: ignore[operator]
    encoder = perturbed(FacT(rank=3).attach(vit))
    shared: Any = encoder.blocks[0].get_submodule("attn.qkv")
    down, up = shared.down.weight.clone(), shared.up.weight.clone()
    fold(encoder)
    change = encoder.blocks[1].get_submodule(path).weight - before
    tiles = change.reshape(outputs, 24, inputs, 24).permute(0, 2, 1, 3).reshape(-1, 24, 24)
    assert len(tiles) == outputs * inputs
    assert torch.linalg.matrix_rank(tiles).tolist() == [3] * len(tiles)
    torch.testing.assert_close(up @ torch.linalg.pinv(up) @ tiles @ torch.linalg.pinv(down) @ down, tiles)


def test_what_the_network_shares_is_stored_once() -> None:
    names = trained_state(FacT().attach(small())).keys()
    assert [name for name in names if "core" not in name] == [
        "model.blocks.0.attn.qkv.down.weight",
        "model.blocks.0.attn.qkv.up.weight",
    ]


@pytest.mark.parametrize("duplicate", [deepcopy, pickled])
def test_a_copy_says_the_same_and_still_shares(duplicate: Any, images: Tensor) -> None:
    encoder = perturbed(FacT().attach(small())).eval()
    copy = duplicate(encoder)
    assert torch.equal(copy(images), encoder(images))
    assert copy.blocks[0].attn.qkv.up is copy.blocks[1].mlp.fc2.up


def test_a_backbone_whose_layers_are_no_whole_number_of_tiles_is_refused() -> None:
    with pytest.raises(InputError, match=r"mlp.fc1 of this backbone does not consist of 24 x 24 tiles"):
        FacT().attach(small(mlp_ratio=2.5))


def test_a_rank_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="rank=0"):
        FacT(rank=0)
