"""HEAT: what its abstract says of heads, and that what is switched off stays off."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from vits import count, perturbed, small, vit_base

from petlbench import contract, zoo
from petlbench.errors import InputError
from petlbench.recipe import Recipe
from petlbench.surgery import fold, trained, trained_state
from petlbench.trial import Trial

HEAT: Any = zoo.method("heat")
LoRA: Any = zoo.method("lora")
ROWS = ".up.heads."


def frozen(encoder: Any) -> list[str]:
    """Names of the rows of B that are not trained."""
    return [name for name, weight in encoder.named_parameters() if ROWS in name and not weight.requires_grad]


def test_before_any_head_is_switched_off_it_is_lora(images: Tensor) -> None:
    torch.manual_seed(1)
    heat = HEAT(dropout=0.0).attach(small())
    torch.manual_seed(1)
    lora = LoRA(dropout=0.0).attach(small())
    torch.manual_seed(2)
    up = [torch.randn(24, 8) for _ in range(4)]
    for (ours, theirs), weight in zip(updates(heat, lora), up, strict=True):
        theirs.up.weight.data = weight
        for rows, part in zip(ours.up.heads, weight.chunk(2), strict=True):
            rows.data = part
    assert count(heat) == count(lora)
    torch.testing.assert_close(heat(images), lora(images))


def updates(*encoders: Any) -> list[tuple[Any, ...]]:
    """The low-rank updates of several encoders side by side."""
    found = [[module for module in each.modules() if type(module).__name__ == "LowRank"] for each in encoders]
    return list(zip(*found, strict=True))


@pytest.mark.parametrize("ranking", ["global", "layer"])
@pytest.mark.parametrize(
    ("share", "weights"),
    [(0.0, 294_912), (1 / 3, 245_760), (0.5, 221_184)],  # 24 x (768 x 8 + 64 x 8 heads kept)
)
def test_trained_weights_on_vit_base(share: float, weights: int, ranking: str) -> None:
    method = HEAT(switched_off=share, ranking=ranking)
    encoder = method.attach(vit_base())
    method.switch_off(encoder, list(torch.rand(12, 12)))
    assert count(encoder) == weights


def test_a_fresh_heat_changes_nothing(images: Tensor) -> None:
    assert torch.equal(HEAT(scale=10.0).attach(small()).eval()(images), small()(images))


def test_heads_are_ranked_over_all_blocks_or_within_each() -> None:
    scores = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])]
    for ranking, expected in (("global", {"0.0", "0.1"}), ("layer", {"0.0", "1.0"})):
        method = HEAT(switched_off=0.5, ranking=ranking, targets=("q",))
        encoder = method.attach(small())
        method.switch_off(encoder, scores)
        off = {f"{name.split('.')[2]}.{name.rpartition('.')[2]}" for name in frozen(encoder)}  # block.head
        assert off == expected


def test_a_swin_has_more_heads_in_later_stages() -> None:
    method = HEAT(switched_off=0.5, ranking="layer", targets=("q",))
    encoder = method.attach(contract.tiny_swin())
    method.switch_off(encoder, [torch.rand(block.attn.num_heads) for block in encoder.blocks])
    assert len(frozen(encoder)) == 0 + 0 + 1 + 1 + 2 + 2 + 4 + 4  # of 1, 2, 4 and 8 heads in two blocks each


def test_a_head_is_switched_off_in_all_targets() -> None:
    method = HEAT(switched_off=0.5, ranking="layer", targets=("q", "k", "v"))
    encoder = method.attach(small())
    method.switch_off(encoder, [torch.tensor([1.0, 2.0]), torch.tensor([4.0, 3.0])])
    blocks = "model.blocks.{}.attn.qkv.updates.{}.up.heads.{}"
    assert frozen(encoder) == [blocks.format(*each) for each in ((0, "q", 0), (0, "k", 0), (0, "v", 0))] + [
        blocks.format(*each) for each in ((1, "q", 1), (1, "k", 1), (1, "v", 1))
    ]


def test_the_score_of_a_head_is_the_sum_of_weight_times_gradient(trial: Callable[..., Trial]) -> None:
    method = HEAT(dropout=0.0)
    first, second = trial(method), trial(method)
    for each in (first, second):
        torch.manual_seed(5)
        perturbed(each.encoder)
    scores = method.importance(first)
    expected = torch.zeros(4, 4)
    for batch in second.batches():
        second.encoder.zero_grad()
        second.loss(batch).backward()
        for name, weight in second.encoder.named_parameters():
            if ROWS in name:
                block, head = int(name.split(".")[2]), int(name.rpartition(".")[2])
                assert weight.grad is not None
                expected[block, head] += (weight * weight.grad).sum().abs().item()
    torch.testing.assert_close(torch.stack(list(scores)), expected)


def test_fitting_switches_the_least_important_heads_off_and_they_stay_as_the_backbone_has_them(
    trial: Callable[..., Trial],
) -> None:
    method = HEAT(switched_off=0.5)
    each = trial(method)
    method.fit(each)
    off = frozen(each.encoder)
    assert len(off) == 4 * 4 // 2 * 2  # half of the heads of four blocks, in q and v
    assert 2 * sum(on is False for block in each.found["heads"] for on in block) == len(off)
    for name, weight in each.encoder.named_parameters():
        if ROWS in name:
            assert weight.any().item() == weight.requires_grad
    before, after = contract.tiny_vit().state_dict(), fold(each.encoder).state_dict()
    for name in off:  # model.blocks.0.attn.qkv.updates.q.up.heads.1
        _, _, block, _, _, _, target, *_, head = name.split(".")
        row = 12 * int(head) + {"q": 0, "v": 96}[target]
        matrix = f"model.blocks.{block}.attn.qkv.weight"
        assert torch.equal(after[matrix][row : row + 12], before[matrix][row : row + 12])


def test_the_training_begins_anew_after_the_warm_up(
    trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    fit = Trial.fit

    def watched(self: Trial, recipe: Recipe | None = None) -> None:
        seen.append((self.state(), (recipe or self.recipe).epochs))
        fit(self, recipe)

    monkeypatch.setattr(Trial, "fit", watched)
    method = HEAT(warmup=0.5)
    each = trial(method)
    method.fit(each)
    (first, warmup), (second, epochs) = seen
    assert (warmup, epochs) == (2, 3)
    for part in ("encoder", "head"):
        assert all(torch.equal(value, second[part][name]) for name, value in first[part].items())


def test_equal_seeds_give_bit_equal_networks(trial: Callable[..., Trial]) -> None:
    states = []
    for _ in range(2):
        each = trial(HEAT())
        HEAT().fit(each)
        states.append(each.state()["encoder"])
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_only_heads_that_are_on_are_stored_and_a_fresh_network_loads_them(
    trial: Callable[..., Trial], images: Tensor
) -> None:
    each = trial(HEAT())
    HEAT().fit(each)
    stored = trained_state(each.encoder)
    assert not set(stored) & set(frozen(each.encoder))
    fresh = trial(HEAT()).encoder.eval()
    fresh.load_state_dict(stored, strict=False)
    assert torch.equal(fresh(images), each.encoder.eval()(images))


def test_folding_is_exact_and_leaves_plain_linear_layers(images: Tensor) -> None:
    encoder = perturbed(HEAT(scale=3.0, targets=("q", "k", "v")).attach(small())).eval()
    before = encoder(images)
    fold(encoder)
    torch.testing.assert_close(encoder(images), before, rtol=0, atol=1e-5)
    assert encoder.state_dict().keys() == small().state_dict().keys()
    assert list(trained(encoder)) == []


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"targets": ("q", "fc1")}, "target 'fc1' has no heads, valid: q, k, v"),
        ({"switched_off": 1.0}, "switched_off=1.0 must be a share"),
        ({"ranking": "random"}, "unknown ranking of heat 'random': valid: global, layer"),
        ({"rank": 0}, "rank=0"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        HEAT(**fields)
