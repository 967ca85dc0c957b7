"""E2VPT: the facts of the paper, the numbers of the official code, and that its pruning does what it says."""

import dataclasses
import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from vits import count, pickled, small, vit_base

from petlbench import zoo
from petlbench.errors import InputError
from petlbench.recipe import Recipe
from petlbench.surgery import trained_state
from petlbench.trial import Trial

E2VPT: Any = zoo.method("e2vpt")
PLAIN: dict[str, Any] = {"prune_tokens": (), "prune_segments": ()}
MASKS = ("blocks.0.project.0.tokens", "blocks.0.project.0.segments")


# The official code


def test_logits_and_gradients_equal_those_of_the_official_code(golden: Any) -> None:
    def official(name: str) -> str:
        _, _, depth, kind, *rest = name.split(".")  # model.blocks.0.prompts, .project.0.tokens or .block.attn.keys
        if kind == "prompts":
            return f"{depth}.prompts"
        if kind == "project":
            return f"transformer.prompt_soft_tokens_{'mask' if rest[-1] == 'tokens' else 'pieces_mask'}_cls_token"
        return f"transformer.encoder.layer.{depth}.attn.deep_QKV_embeddings"

    values = golden("e2vpt")
    tensors = dict(values.tensors)
    for kind in ("param", "grad"):  # the official code stacks the prompts behind block 0
        first = tensors.pop(f"{kind}/transformer.prompt_embeddings")
        deep = tensors.pop(f"{kind}/transformer.deep_prompt_embeddings")
        tensors |= {f"{kind}/{depth}.prompts": prompts for depth, prompts in enumerate([*first, *deep])}
    values = dataclasses.replace(values, tensors=tensors)
    values.check(E2VPT(tokens=6, kv_tokens=3).attach(values.vit()).eval(), official)


@pytest.mark.parametrize(
    ("fields", "weights"),
    [
        (PLAIN, 138_240),  # 12 blocks x (10 prompts + 5 shared keys and values) x 768
        (PLAIN | {"share_kv": False}, 184_320),
        (PLAIN | {"tokens": 5}, 92_160),
        ({}, 138_240 + 10 + 160),  # with one mask for prompts and one for their segments, while both are trained
    ],
    ids=str,
)
def test_trained_weights_on_vit_base(fields: dict[str, Any], weights: int) -> None:
    assert count(E2VPT(**fields).attach(vit_base())) == weights


def test_the_official_lists_are_72_candidates() -> None:
    assert len(E2VPT().candidates()) == 72
    assert E2VPT().candidates()[0] == (1, 1)
    assert E2VPT().candidates()[-1] == (9, 12)


def test_prefixes_start_uniform_within_the_bound_of_kaiming() -> None:
    encoder = E2VPT(kv_tokens=50, share_kv=False, segments=8, prune_segments=(4,)).attach(small())
    attention = encoder.blocks[0].block.attn
    bound = math.sqrt(6 / (12 * 50))  # 12 channels per head
    for weight in (attention.keys, attention.values):
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


# Key-value prompts and masks


def test_prefixes_are_more_keys_and_values_for_every_query(images: Tensor) -> None:
    vit = small()
    attention: Any = E2VPT(kv_tokens=3, share_kv=False, segments=8, **PLAIN).attach(vit).blocks[1].block.attn.eval()  # type: ignore[attr-defined]
    tokens = torch.randn(2, 17, 24)
    q, k, v = attention.attn.qkv(tokens).reshape(2, 17, 3, 2, 12).permute(2, 0, 3, 1, 4)
    k, v = (
        torch.cat([own, more.expand(2, -1, -1, -1)], 2) for own, more in ((k, attention.keys), (v, attention.values))
    )
    weights = functional.softmax(q @ k.transpose(2, 3) / math.sqrt(12), dim=3)
    expected = attention.attn.proj((weights @ v).transpose(1, 2).reshape(2, 17, 24))
    torch.testing.assert_close(attention(tokens), expected, rtol=0, atol=1e-5)


def test_a_masked_segment_is_every_so_manyth_channel_of_a_prompt() -> None:
    masks: Any = E2VPT(tokens=2, segments=8, prune_segments=(4,)).attach(small()).blocks[0].project[0]
    segments = torch.ones(2, 8, dtype=torch.bool)
    segments[1, 3] = False
    masks.fix(torch.tensor([True, True]), segments)
    left = masks(torch.ones(2, 24))
    assert left[0].all()
    assert (left[1] == 0).nonzero().flatten().tolist() == [3, 11, 19]


def test_a_pruned_prompt_is_a_zero_that_still_takes_part_in_attention(images: Tensor) -> None:
    encoder = E2VPT(tokens=2, segments=8, prune_segments=(4,), dropout=0.0).attach(small()).eval()
    encoder.blocks[0].project[0].fix(torch.tensor([True, False]), torch.ones(2, 8, dtype=torch.bool))
    pruned = encoder(images)
    for block in encoder.blocks:
        block.prompts.data[1] = 0
    encoder.blocks[0].project[0].fix(torch.tensor([True, True]), torch.ones(2, 8, dtype=torch.bool))
    torch.testing.assert_close(encoder(images), pruned)
    for block in encoder.blocks:
        block.prompts.data = block.prompts.data[:1]
    encoder.blocks[0].project[0].fix(torch.tensor([True]), torch.ones(1, 8, dtype=torch.bool))
    assert not torch.allclose(encoder(images), pruned, atol=1e-5)


def test_all_blocks_share_the_masks_and_copies_still_do() -> None:
    encoder = E2VPT(segments=8, prune_segments=(4,)).attach(small())
    for each in (encoder, deepcopy(encoder), pickled(encoder)):
        assert each.blocks[0].project[0] is each.blocks[1].project[0]


# Importance, pruning and rewinding


FIELDS: dict[str, Any] = {
    "tokens": 4,
    "kv_tokens": 2,
    "dropout": 0.0,
    "prune_tokens": (0.25, 0.5),
    "prune_segments": (4, 12),
}


def test_fitting_leaves_binary_masks_of_one_of_the_candidates_that_are_trained_no_longer(
    trial: Callable[..., Trial],
) -> None:
    method = E2VPT(**FIELDS)
    each = trial(method)
    method.fit(each)
    tokens, segments = (each.encoder.model.get_buffer(name) for name in MASKS)
    assert tokens.dtype == segments.dtype == torch.bool
    assert 4 - tokens.sum().item() in (1, 2)
    assert each.found == {"tokens": tokens.int().tolist(), "segments": segments.int().tolist()}
    pruned = {16 - number for number in segments.sum(1).tolist()}
    assert pruned in ({4}, {12})  # the same number in each prompt
    assert count(each.encoder) == 4 * (4 + 2) * 48


def test_the_lowest_mean_gradients_are_pruned(trial: Callable[..., Trial]) -> None:
    method = E2VPT(**FIELDS | {"prune_tokens": (0.5,), "prune_segments": (4,)})
    each = trial(method)
    initial = each.state()
    tokens, segments = method.choose(each, initial)

    again = trial(method)  # the same by hand: train on four fifths, then the mean gradient of both masks
    train, _ = again.split()
    train.fit()
    masks: Any = again.encoder.blocks[0].project[0]  # type: ignore[union-attr]
    masks.zero_grad()
    for batch in train.batches():
        train.loss(batch).backward()
    assert tokens.tolist() == [rank >= 2 for rank in masks.tokens.grad.argsort().argsort().tolist()]
    assert torch.equal(segments, masks.segments.grad.argsort(1).argsort(1) >= 4)


def test_the_absolute_importance_of_the_paper_ranks_by_size(trial: Callable[..., Trial]) -> None:
    signed, absolute = (E2VPT(**FIELDS, importance=each) for each in ("signed", "absolute"))
    assert any((scores < 0).any() for scores in signed.scores(trial(signed)))
    assert all((scores >= 0).all() for scores in absolute.scores(trial(absolute)))


def test_every_training_begins_with_the_initial_weights_and_has_all_images_only_in_the_end(
    trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    fit = Trial.fit

    def watched(self: Trial, recipe: Recipe | None = None) -> None:
        weights = {name: value for name, value in self.state()["encoder"].items() if "project.0" not in name}
        seen.append((weights, len(self.labels)))
        fit(self, recipe)

    monkeypatch.setattr(Trial, "fit", watched)
    method = E2VPT(**FIELDS)
    each = trial(method)
    initial = each.state()["encoder"]
    method.fit(each)
    assert [images for _, images in seen] == [26] * 5 + [32]  # one with all prompts, four candidates, and the last
    for weights, _ in seen:
        assert all(torch.equal(value, initial[name]) for name, value in weights.items())


def test_the_best_candidate_is_taken_and_of_equal_ones_that_which_prunes_most(
    trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = E2VPT(**FIELDS)
    for scores, (tokens, segments) in (
        ([50.0, 75.0, 50.0, 50.0], (3, 4)),
        ([75.0, 50.0, 75.0, 50.0], (2, 12)),
        ([50.0, 50.0, 50.0, 50.0], (2, 4)),
    ):
        monkeypatch.setattr(Trial, "score", lambda _, left=scores: left.pop(0))
        each = trial(method)
        kept_tokens, kept_segments = method.choose(each, each.state())
        assert (kept_tokens.sum().item(), kept_segments[0].sum().item()) == (tokens, segments)


def test_equal_seeds_give_bit_equal_networks(trial: Callable[..., Trial]) -> None:
    method = E2VPT(**FIELDS | {"dropout": 0.5})
    states = []
    for _ in range(2):
        each = trial(method)
        method.fit(each)
        states.append(each.state()["encoder"])
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_without_candidates_there_are_no_masks_and_one_training(trial: Callable[..., Trial]) -> None:
    method = E2VPT(**FIELDS | PLAIN)
    each = trial(method)
    method.fit(each)
    assert len(each.curve) == 3
    assert not any("project" in name for name in each.encoder.state_dict())


def test_a_pruned_network_is_stored_and_loaded_into_a_fresh_one(trial: Callable[..., Trial], images: Tensor) -> None:
    method = E2VPT(**FIELDS)
    each = trial(method)
    method.fit(each)
    fresh = trial(method, seed=1).encoder.eval()
    fresh.load_state_dict(trained_state(each.encoder), strict=False)
    torch.testing.assert_close(fresh(images), each.encoder.eval()(images))


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"kv_tokens": 0}, "kv_tokens=0 must be at least 1"),
        ({"prune_tokens": (1.0,)}, "shares from 0 to below 1"),
        ({"prune_segments": (16,)}, "from 0 to below 16"),
        ({"importance": "random"}, "unknown importance of e2vpt 'random': valid: absolute, signed"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        E2VPT(**fields)


def test_segments_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(InputError, match="segments=16 must divide the width 24"):
        E2VPT().attach(small())
