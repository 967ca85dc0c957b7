"""FacT-TK: the facts of the paper, and the numbers of the official code."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from vits import count, perturbed, pickled, small, vit_base

from petlbench import zoo
from petlbench.errors import InputError
from petlbench.surgery import fold, trained, trained_state

FacT: Any = zoo.method("fact_tk")
VTAB: Any = zoo.suite("vtab")
OFFICIAL = {
    "model.blocks.0.attn.qkv.down.weight": "FacTu.weight",
    "model.blocks.0.attn.qkv.up.weight": "FacTv.weight",
    "model.blocks.0.attn.qkv.core.slices": "FacTc",
    "model.blocks.0.attn.qkv.core.mixture": "FacTp",
}


def test_logits_and_gradients_equal_those_of_the_official_code(golden: Any) -> None:
    values = golden("fact_tk")
    values.check(FacT(rank=6, scale=0.5).attach(values.vit()).eval(), OFFICIAL.__getitem__)


@pytest.mark.parametrize(("rank", "weights"), [(16, 30_976), (32, 86_528), (64, 369_664)])
def test_trained_weights_on_vit_base(rank: int, weights: int) -> None:
    assert count(FacT(rank=rank).attach(vit_base())) == weights


def test_with_the_ranks_of_the_paper_the_mean_over_vtab_is_68_985_weights() -> None:
    """Printed as 0.069 M."""
    ranks = [FacT().published("vtab", task.name)["rank"] for task in VTAB.tasks]
    weights = {rank: count(FacT(rank=rank).attach(vit_base())) for rank in set(ranks)}
    assert round(sum(weights[rank] for rank in ranks) / 19) == 68_985


@pytest.mark.parametrize(
    ("task", "rank", "scale"),
    [("cifar100", 32, 0.1), ("clevr_dist", 16, 10), ("dtd", 16, 0.01), ("eurosat", 32, 100), ("sun397", 16, 1)],
)
def test_published_ranks_and_scales(task: str, rank: int, scale: float) -> None:
    assert FacT().published("vtab", task) == {"rank": rank, "scale": scale}
    assert FacT().published("mini", "digits") == {}


def test_a_fresh_fact_changes_nothing(images: Tensor) -> None:
    assert torch.equal(FacT(scale=100.0).attach(small()).eval()(images), small()(images))


def test_folding_is_exact_and_leaves_plain_linear_layers(images: Tensor) -> None:
    encoder = perturbed(FacT(rank=8, scale=30.0).attach(small())).eval()
    before = encoder(images)
    assert not torch.allclose(before, small()(images), atol=1e-2)
    fold(encoder)
    torch.testing.assert_close(encoder(images), before, rtol=0, atol=1e-5)
    assert encoder.state_dict().keys() == small().state_dict().keys()
    assert list(trained(encoder)) == []


def test_every_tile_of_the_network_has_a_column_of_its_own() -> None:
    encoder = FacT(rank=4).attach(small())
    tiles = [
        encoder.blocks[depth].get_submodule(layer).core.tiles
        for depth in range(2)
        for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    ]
    bounds = [(span.start, span.stop) for span in tiles]
    assert bounds == [(0, 3), (3, 4), (4, 8), (8, 12), (12, 15), (15, 16), (16, 20), (20, 24)]
    assert encoder.blocks[0].attn.qkv.core.mixture.shape == (4, 24)


def test_one_column_changes_one_tile() -> None:
    """Column 2 of the mixture belongs to v of the first block."""
    vit = small()
    encoder = perturbed(FacT(rank=4).attach(vit))
    core = encoder.blocks[0].attn.qkv.core
    with torch.no_grad():
        core.mixture[:, :2] = core.mixture[:, 3:] = 0
    plain = small()
    fold(encoder)
    for (name, weight), (_, before) in zip(encoder.named_parameters(), plain.named_parameters(), strict=True):
        changed = (weight - before).abs().sum(dim=tuple(range(1, weight.dim()))) > 0
        rows = range(48, 72) if name == "model.blocks.0.attn.qkv.weight" else ()
        assert changed.nonzero().flatten().tolist() == list(rows)


def test_four_tensors_are_stored() -> None:
    assert sorted(trained_state(FacT().attach(small()))) == sorted(OFFICIAL)


@pytest.mark.parametrize("duplicate", [deepcopy, pickled])
def test_a_copy_says_the_same_and_still_shares(duplicate: Any, images: Tensor) -> None:
    encoder = perturbed(FacT().attach(small())).eval()
    copy = duplicate(encoder)
    assert torch.equal(copy(images), encoder(images))
    assert copy.blocks[0].attn.qkv.core.slices is copy.blocks[1].mlp.fc2.core.slices


def test_a_rank_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="rank=0"):
        FacT(rank=0)
