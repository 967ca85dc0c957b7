"""Training by a recipe: the schedule, the batches, what moves and what is reported."""

from collections.abc import Callable
from dataclasses import replace as with_
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from petlbench import backbone, contract, folder, zoo
from petlbench.recipe import Recipe
from petlbench.trial import DivergedError, Normalize, Trial

TINY = Path(__file__).parent / "tiny.py"
PLAIN = Recipe(source="test", epochs=3, batch_size=8, warmup_epochs=0, lr=1e-3)
MINI = with_(backbone.describe("mini", "random"), image_size=32)


@pytest.fixture
def make(data: Path) -> Callable[..., Trial]:
    def make(recipe: Recipe = PLAIN, method: str = "bitfit", seed: int = 0) -> Trial:
        suite = zoo.suite(str(TINY))()
        train = folder.Images(folder.read_list(data / "day", "train800val200", 2), 32)
        torch.manual_seed(seed)
        encoder = zoo.method(method)().attach(contract.tiny_vit())
        head = suite.head(encoder, suite.task("day"))
        return Trial(encoder, head, suite, recipe, train, MINI, seed=seed)

    return make


def rates(trial: Trial) -> list[float]:
    trial.fit()
    return [epoch.lr for epoch in trial.curve]


def test_the_schedule_of_hst_is_the_one_its_official_code_prints(make: Callable[..., Trial]) -> None:
    # 110 epochs: warm-up from 1e-7 overlays the cosine, which ends at epoch 100; ten more at the smallest rate.
    recipe = Recipe(
        source="test",
        epochs=100,
        cooldown_epochs=10,
        batch_size=32,
        lr=1.0,
        warmup_epochs=10,
        warmup_lr=1e-7,
        min_lr=1e-8,
    )
    found = rates(make(recipe, "linear"))
    assert len(found) == 110
    assert found[0] == pytest.approx(1e-7)
    assert found[5] == pytest.approx(0.5, abs=1e-6)
    assert found[10] == pytest.approx(0.97552826, abs=1e-7)
    assert found[50] == pytest.approx(0.5, abs=1e-6)
    assert found[100:] == pytest.approx([1e-8] * 10)


def test_an_epoch_is_a_permutation_without_the_incomplete_batch(make: Callable[..., Trial]) -> None:
    trial = make(with_(PLAIN, batch_size=10))
    batches = list(trial.batches())
    assert [len(labels) for _, labels in batches] == [10, 10, 10]  # of 32
    seen = torch.cat([images for images, _ in batches]).flatten(1)
    assert len(seen.unique(dim=0)) == 30


def test_a_set_smaller_than_a_batch_is_one_batch(make: Callable[..., Trial]) -> None:
    assert [len(labels) for _, labels in make(with_(PLAIN, batch_size=64)).batches()] == [32]


def test_equal_seeds_give_bit_equal_weights_and_others_do_not(make: Callable[..., Trial]) -> None:
    def trained(seed: int) -> Tensor:
        trial = make(seed=seed)
        trial.fit()
        return torch.cat([value.flatten() for value in trial.encoder.state_dict().values()])

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))


def test_a_fixed_encoder_is_asked_once_and_the_head_learns_the_same(make: Callable[..., Trial]) -> None:
    once, often = make(method="linear"), make(method="linear")
    calls = []
    once.encoder.register_forward_hook(lambda *_: calls.append(1))
    often._encoder_is_fixed = lambda: False  # type: ignore[method-assign]
    once.fit()
    often.fit()
    assert len(calls) == 1  # 32 images, three epochs
    for ours, theirs in zip(once.head.parameters(), often.head.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_drop_path_makes_even_a_frozen_encoder_random(make: Callable[..., Trial]) -> None:
    trial = make(method="linear")
    assert trial._encoder_is_fixed()
    vit = contract.tiny_vit(drop_path_rate=0.1)
    assert not Trial(vit, trial.head, trial.suite, PLAIN, _train(trial), MINI)._encoder_is_fixed()


def _train(trial: Trial) -> folder.Images:
    class Given(folder.Images):
        def __init__(self) -> None:
            pass

        def all(self) -> tuple[Tensor, Tensor]:
            return trial.images, trial.labels

    return Given()


def test_weight_decay_spares_vectors_only_if_asked(make: Callable[..., Trial]) -> None:
    for decay_all, expected in ((True, {0.1}), (False, {0.0, 0.1})):
        trial = make(with_(PLAIN, weight_decay=0.1, decay_all=decay_all), "full")
        from petlbench.trial import _optimizer

        groups = _optimizer(trial.encoder, trial.head, trial.recipe).param_groups
        assert {group["weight_decay"] for group in groups} == expected
        one_dimensional = {group["weight_decay"] for group in groups for p in group["params"] if p.ndim == 1}
        assert one_dimensional == ({0.1} if decay_all else {0.0})


def test_a_loss_that_is_not_finite_ends_the_run_and_says_where(make: Callable[..., Trial]) -> None:
    trial = make(with_(PLAIN, optimizer="sgd", lr=1e30, epochs=5))
    with pytest.raises(DivergedError, match=r"not finite any more \(epoch \d, step \d\)"):
        trial.fit()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_it_learns_what_can_be_learnt(make: Callable[..., Trial], precision: str, optimizer: str) -> None:
    trial = make(with_(PLAIN, precision=precision, optimizer=optimizer, lr=1e-2, epochs=6, clip_norm=1.0))
    trial.fit()
    first, last = trial.curve[0].loss, trial.curve[-1].loss
    assert first is not None
    assert last is not None
    assert last < 0.5 * first


def test_progress_is_reported_after_every_epoch(make: Callable[..., Trial]) -> None:
    trial = make()
    told: list[tuple[int, int]] = []
    trial._report = lambda *, epoch, epochs, loss: told.append((epoch, epochs))
    trial.fit()
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_state_can_be_restored(make: Callable[..., Trial]) -> None:
    trial = make()
    start = trial.state()
    images, labels = next(trial.batches())
    before = trial.loss((images, labels)).item()
    trial.fit()
    assert trial.loss((images, labels)).item() != before
    trial.restore(start)
    assert trial.loss((images, labels)).item() == before


def test_pixels_are_normalised_as_in_pre_training() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    assert Normalize(MINI)(images)[:, 0, 0, 0].tolist() == [-2.0, 2.0]  # (x - 0.5) / 0.25


def test_outputs_come_in_the_order_of_the_list(make: Callable[..., Trial], data: Path) -> None:
    trial = make()
    split = folder.Images(folder.read_list(data / "day", "test", 2), 32)
    outputs, labels = trial.outputs(split)
    assert outputs.shape == (16, 2)
    assert labels.tolist() == list(split.listing.labels)
    assert isinstance(trial.head, nn.Linear)
    assert not trial.encoder.training
