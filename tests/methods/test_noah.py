"""NOAH: the three modules of a block, parts of them, and that the search does what it says."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from vits import count, perturbed, pickled, small, vit_base

from petlbench import zoo
from petlbench.errors import InputError
from petlbench.surgery import fold, trained_state
from petlbench.trial import Trial

NOAH: Any = zoo.method("noah")
QUICK: dict[str, Any] = {
    "supernet_epochs": 2,
    "population": 4,
    "parents": 2,
    "crossovers": 1,
    "mutations": 1,
    "generations": 2,
    "sizes": (1, 2, 3),
}


def sizes(prompts: tuple[int, ...], ranks: tuple[int, ...], bottlenecks: tuple[int, ...]) -> dict[str, Any]:
    return {"prompts": prompts, "ranks": ranks, "bottlenecks": bottlenecks}


def space(blocks: int = 12) -> Any:
    """What sub-nets of the default fields are drawn from."""
    return NOAH().space(blocks, random.Random(0))


# The modules


@pytest.mark.parametrize(
    ("fields", "weights"),
    [
        (sizes((10,) * 12, (0,) * 12, (0,) * 12), 92_160),
        (sizes((0,) * 12, (8,) * 12, (0,) * 12), 294_912),  # 12 x 3072 x 8, NOAH's LoRA
        (sizes((0,) * 12, (0,) * 12, (8,) * 12), 156_768),  # 12 x (2 x 768 x 8 + 8 + 768), NOAH's Adapter
        (sizes((1,) + (0,) * 11, (0,) * 11 + (1,), (0,) * 12), 768 + 3_072),
        ({}, 654_456),  # the largest sub-net: 10 of everything
    ],
    ids=["prompts", "LoRA", "Adapter", "irregular", "supernet"],
)
def test_trained_weights_on_vit_base(fields: dict[str, Any], weights: int) -> None:
    encoder = NOAH(**fields).attach(vit_base())
    assert count(encoder) == encoder.count(encoder.subnet) == weights


def test_lora_alone_starts_as_the_backbone_and_folds(images: Tensor) -> None:
    encoder = NOAH(**sizes((0, 0), (8, 4), (0, 0))).attach(small()).eval()
    assert torch.equal(encoder(images), small()(images))
    before = perturbed(encoder)(images)
    torch.testing.assert_close(fold(encoder)(images), before, rtol=0, atol=1e-5)
    assert count(encoder) == 0


def test_prompts_are_those_of_deep_vpt(images: Tensor) -> None:
    encoder = NOAH(**sizes((3, 3), (0, 0), (0, 0))).attach(small()).eval()
    vpt: Any = zoo.method("vpt")(tokens=3).attach(small()).eval()
    for ours, theirs in zip(encoder.blocks, vpt.blocks, strict=True):
        theirs.prompts.data = ours.prompts.tokens.data
    torch.testing.assert_close(encoder(images), vpt(images))


def test_the_adapter_stands_behind_the_mlp_with_a_residual_of_its_own() -> None:
    encoder = NOAH(**sizes((0, 0), (0, 0), (4, 4))).attach(small()).eval()
    block, adapter = encoder.blocks[0].block, encoder.blocks[0].adapter
    tokens = torch.randn(2, 17, 24)
    middle = tokens + block.attn(block.norm1(tokens))
    mlp = block.mlp(block.norm2(middle))
    inner = mlp @ adapter.down.T + adapter.down_bias
    expected = middle + mlp + (inner * (1.702 * inner).sigmoid()) @ adapter.up.T + adapter.up_bias
    torch.testing.assert_close(encoder.blocks[0](tokens), expected)


@pytest.mark.parametrize(
    "subnet", [((1, 3), (2, 0), (0, 2)), ((0, 0), (0, 0), (1, 1)), ((3, 0), (1, 1), (3, 3))], ids=str
)
def test_a_part_of_the_supernet_is_the_sub_net_that_is_cut_from_it(subnet: Any, images: Tensor) -> None:
    encoder = perturbed(NOAH(sizes=(1, 2, 3)).attach(small())).eval()
    whole = encoder(images)
    encoder.use(subnet)
    part, weights = encoder(images), encoder.count(subnet)
    assert not torch.allclose(part, whole, atol=1e-3)
    encoder.cut(subnet)
    assert torch.equal(encoder(images), part)
    assert count(encoder) == weights
    assert encoder.subnet == subnet


# The search space


def test_a_random_sub_net_has_sizes_of_the_space_in_the_first_blocks_and_zeros_behind() -> None:
    source = space()
    drawn = [source.draw() for _ in range(200)]
    depths = {sum(size > 0 for size in kind) for subnet in drawn for kind in subnet}
    assert depths == {3, 6, 9, 12}
    for kind in (kind for subnet in drawn for kind in subnet):
        depth = sum(size > 0 for size in kind)
        assert set(kind[:depth]) <= {1, 5, 10}
        assert set(kind[depth:]) <= {0}


def test_a_mutation_changes_the_depth_and_keeps_what_is_left() -> None:
    source = space()
    parent = source.draw()
    changed = [source.mutate([parent]) for _ in range(300)]
    kinds = [(old, new) for child in changed for old, new in zip(parent, child, strict=True)]
    different = [(old, new) for old, new in kinds if old != new]
    assert 0.03 < len(different) / len(kinds) < 0.1  # 0.2 * 0.4, less where the same depth is drawn again
    for old, new in different:
        common = min(sum(size > 0 for size in old), sum(size > 0 for size in new))
        assert old[:common] == new[:common]


def test_a_crossover_takes_whole_modules_from_its_parents() -> None:
    source = space()
    parents = [source.draw(), source.draw()]
    children = {source.cross(parents) for _ in range(100)}
    assert len(children) == 2**3
    for child in children:
        assert all(kind in pair for kind, *pair in zip(child, *parents, strict=True))


# The search


def test_evolution_finds_better_sub_nets_within_the_limit_than_the_first_generation() -> None:
    supernet = NOAH().attach(vit_base())
    limit, seen = 300_000, []

    def score(subnet: Any) -> float | None:
        if supernet.count(subnet) > limit:
            return None
        seen.append(subnet)
        return float(sum(subnet.ranks))

    best = NOAH().evolve(space(), score)
    assert supernet.count(best) <= limit
    assert sum(best.ranks) == max(sum(subnet.ranks) for subnet in seen) > max(sum(each.ranks) for each in seen[:50])
    assert len(seen) == len(set(seen)) == 15 * 50


def test_every_step_of_the_supernet_trains_another_sub_net_and_evaluation_draws_none(
    trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = NOAH(**QUICK)
    each = trial(method)
    supernet: Any = each.encoder
    drawn, used = [], supernet.use
    monkeypatch.setattr(supernet, "use", lambda subnet: (drawn.append(subnet), used(subnet)))
    monkeypatch.setattr(type(method), "evolve", lambda *_: drawn[0])
    method.fit(each)
    assert len(drawn) == 2 * (26 // 8)  # epochs x steps on four fifths of 32 images
    assert len(set(drawn)) > 1
    assert supernet.draw is None


def test_sub_nets_are_scored_on_the_fifth_that_the_supernet_did_not_see(
    trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on, scored_on = [], []
    fit, score = Trial.fit, Trial.score
    monkeypatch.setattr(Trial, "fit", lambda self, recipe=None: (trained_on.append(self.images), fit(self, recipe))[1])
    monkeypatch.setattr(Trial, "score", lambda self: (scored_on.append(self.images), score(self))[1])
    each = trial(NOAH(**QUICK))
    NOAH(**QUICK).fit(each)
    assert [len(images) for images in trained_on] == [26, 32]
    assert {len(images) for images in scored_on} == {6}
    both = torch.cat([trained_on[0], scored_on[0]]).flatten(1)
    assert torch.equal(both.unique(dim=0), each.images.flatten(1).unique(dim=0))


def test_the_sub_net_is_trained_from_the_initial_weights(
    trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []
    fit = Trial.fit
    monkeypatch.setattr(Trial, "fit", lambda self, recipe=None: (states.append(self.state()), fit(self, recipe))[1])
    each = trial(NOAH(**QUICK))
    NOAH(**QUICK).fit(each)
    assert each.found == {name: list(sizes) for name, sizes in each.encoder.subnet._asdict().items()}  # type: ignore
    first, last = states
    assert all(torch.equal(value, first["head"][name]) for name, value in last["head"].items())
    for name, value in last["encoder"].items():
        assert torch.equal(value, first["encoder"][name][tuple(map(slice, value.shape))]), name


def test_the_limit_is_kept_and_an_impossible_one_is_refused(trial: Callable[..., Trial]) -> None:
    each = trial(NOAH(**QUICK, limit=2_000))
    NOAH(**QUICK, limit=2_000).fit(each)
    assert count(each.encoder) <= 2_000
    with pytest.raises(InputError, match="limit=100: no sub-net has so few weights"):
        NOAH(**QUICK, limit=100).fit(trial(NOAH(**QUICK)))


def test_equal_seeds_give_bit_equal_sub_nets_and_weights(trial: Callable[..., Trial]) -> None:
    ends = []
    for _ in range(2):
        each = trial(NOAH(**QUICK))
        NOAH(**QUICK).fit(each)
        ends.append(each)
    first, second = ends
    assert first.encoder.subnet == second.encoder.subnet  # type: ignore[union-attr]
    for (name, ours), theirs in zip(
        first.encoder.state_dict().items(), second.encoder.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_a_sub_net_that_is_given_is_trained_at_once_and_loads_what_a_search_has_stored(
    trial: Callable[..., Trial], images: Tensor
) -> None:
    searched = trial(NOAH(**QUICK))
    NOAH(**QUICK).fit(searched)
    given = NOAH(**searched.encoder.subnet._asdict())  # type: ignore[union-attr, operator]
    each = trial(given)
    assert count(each.encoder) == count(searched.encoder)
    each.encoder.load_state_dict(trained_state(searched.encoder), strict=False)
    assert torch.equal(each.encoder.eval()(images), searched.encoder.eval()(images))
    given.fit(each)
    assert len(each.curve) == 3


def test_a_copy_of_a_supernet_and_of_a_sub_net_says_the_same(images: Tensor) -> None:
    for fields in ({}, sizes((1, 0), (0, 2), (3, 0))):
        encoder = perturbed(NOAH(**fields).attach(small())).eval()
        assert torch.equal(pickled(encoder)(images), encoder(images))


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"prompts": (1, 1)}, "must be given together"),
        (sizes((1,), (-1,), (1,)), "must be 0 or more"),
        ({"sizes": (0, 5)}, r"sizes=\(0, 5\) must be 1 or more"),
        ({"depths": (0.0,)}, "shares above 0 and up to 1"),
        ({"population": 0}, "population=0 must be at least 1"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        NOAH(**fields)


def test_a_sub_net_for_another_depth_is_refused() -> None:
    with pytest.raises(InputError, match="the sub-net has 3 blocks, the backbone 2"):
        NOAH(**sizes((1,) * 3, (1,) * 3, (1,) * 3)).attach(small())
