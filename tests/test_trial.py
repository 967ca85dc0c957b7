"""Training by a recipe: the batches, what moves, what is random, what is refused and what is reported."""

from collections.abc import Callable
from dataclasses import replace as with_
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from petlbench import backbone, contract, folder, zoo
from petlbench.errors import InputError
from petlbench.framing import Framing
from petlbench.recipe import Recipe
from petlbench.trial import DivergedError, Normalize, Trial

TINY = Path(__file__).parent / "tiny.py"
PLAIN = Recipe(source="test", epochs=3, batch_size=8, warmup_epochs=0, lr=1e-3)
AUGMENTED = with_(
    PLAIN,
    crop_scale=(0.3, 1.0),
    flip=0.5,
    erasing=0.5,
    mixup=0.8,
    cutmix=1.0,
    label_smoothing=0.1,
    drop_path=0.2,
)
MINI = with_(backbone.describe("mini", "random"), image_size=32)


@pytest.fixture
def make(data: Path) -> Callable[..., Trial]:
    def make(recipe: Recipe = PLAIN, method: str = "bitfit", seed: int = 0, device: str = "cpu") -> Trial:
        suite = zoo.suite(str(TINY))()
        train = folder.Images(folder.read_list(data / "day", "train800val200", 2), Framing(32))
        torch.manual_seed(seed)
        encoder = zoo.method(method)().attach(contract.tiny_vit(drop_path_rate=recipe.drop_path))
        head = suite.head(encoder, suite.task("day"))
        return Trial(encoder, head, suite, recipe, train, MINI, seed=seed, device=device)

    return make


def test_an_epoch_is_a_permutation_without_the_incomplete_batch(make: Callable[..., Trial]) -> None:
    trial = make(with_(PLAIN, batch_size=10))
    batches = list(trial.batches())
    assert [len(labels) for _, labels in batches] == [10, 10, 10]  # of 32
    seen = torch.cat([images for images, _ in batches]).flatten(1)
    assert len(seen.unique(dim=0)) == 30


def test_a_set_smaller_than_a_batch_is_one_batch(make: Callable[..., Trial]) -> None:
    assert [len(labels) for _, labels in make(with_(PLAIN, batch_size=64)).batches()] == [32]


@pytest.mark.parametrize("recipe", [PLAIN, AUGMENTED], ids=["plain", "with every augmentation"])
@pytest.mark.parametrize("method", ["bitfit", "lora", "hst"])
def test_equal_seeds_give_bit_equal_weights_and_others_do_not(
    make: Callable[..., Trial], method: str, recipe: Recipe
) -> None:
    def trained(seed: int) -> Tensor:
        trial = make(recipe, method, seed)
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


@pytest.mark.parametrize("setting", [{"flip": 0.5}, {"erasing": 0.5}, {"crop_scale": (0.5, 1.0)}, {"cutmix": 1.0}])
def test_a_fixed_encoder_is_asked_anew_when_images_change(make: Callable[..., Trial], setting: dict[str, Any]) -> None:
    trial = make(with_(PLAIN, **setting), "linear")
    calls = []
    trial.encoder.register_forward_hook(lambda *_: calls.append(1))
    trial.fit()
    assert len(calls) == 12  # 32 images in four batches, three epochs


def test_images_are_augmented_for_training_and_never_for_scoring(make: Callable[..., Trial], data: Path) -> None:
    trial, plain = make(AUGMENTED), make(PLAIN)
    assert not torch.equal(next(trial.batches())[0], next(plain.batches())[0])
    assert torch.equal(trial.outputs(_test(data))[0], plain.outputs(_test(data))[0])


def test_augmentation_does_not_change_the_order_of_the_images(make: Callable[..., Trial]) -> None:
    flipped, plain = make(with_(PLAIN, flip=1.0)), make(PLAIN)
    for _ in range(2):
        for (ours, _), (theirs, _) in zip(flipped.batches(), plain.batches(), strict=True):
            assert torch.equal(ours, theirs.flip(-1))


def test_a_target_of_mixed_images_is_smoothed_once(make: Callable[..., Trial]) -> None:
    trial = make(with_(PLAIN, cutmix=1.0, label_smoothing=0.1))
    images, targets = next(trial.batches())
    assert targets.shape == (8, 2)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    trial.encoder.eval()
    logits = trial.head(trial.encoder(images))
    smooth = 0.9 * targets + 0.1 / 2  # a tenth of every target goes to the two classes alike
    expected = -(smooth * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(trial.loss((images, targets)), expected)


@pytest.mark.parametrize("method", ["bitfit", "adaptformer", "hst"])
def test_drop_path_acts_in_training_also_in_the_frozen_backbone_and_not_in_evaluation(
    make: Callable[..., Trial], data: Path, method: str
) -> None:
    trial = make(with_(PLAIN, drop_path=0.5), method)
    drops = [module for module in trial.encoder.modules() if isinstance(module, DropPath)]
    dropped: list[bool] = []
    for module in drops:
        module.register_forward_hook(lambda _, given, made: dropped.append(not torch.equal(given[0], made)))
    list(trial.batches())  # puts the networks in training mode
    trial.encoder(torch.randn(8, 3, 32, 32))
    assert sum(dropped) >= 3
    dropped.clear()
    assert torch.equal(trial.outputs(_test(data))[0], trial.outputs(_test(data))[0])
    assert dropped
    assert not any(dropped)


@pytest.mark.parametrize("parts", [2, 3, 8])
@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1, "mixup": 0.8}], ids=["plain", "mixed"])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(
    make: Callable[..., Trial], parts: int, settings: dict[str, Any]
) -> None:
    def gradients(accumulate: int) -> tuple[list[Tensor], float | None]:
        # Plain SGD with a rate of one and no momentum: what a weight loses in one step is its gradient.
        recipe = with_(PLAIN, epochs=1, batch_size=32, optimizer="sgd", lr=1.0, momentum=0.0, weight_decay=0.0)
        trial = make(with_(recipe, accumulate=accumulate, **settings))
        weights = [weight for part in (trial.encoder, trial.head) for weight in part.parameters()]
        before = [weight.detach().clone() for weight in weights]
        trial.fit()
        return [old - new.detach() for old, new in zip(before, weights, strict=True)], trial.curve[0].loss

    (whole, loss), (together, same) = gradients(1), gradients(parts)
    for ours, theirs in zip(together, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert same == pytest.approx(loss, abs=1e-6)
    assert max(each.abs().max().item() for each in whole) > 1e-2


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("hst", {"accumulate": 2}, "--recipe accumulate=2: HierarchicalSideNetwork has BatchNorm"),
        ("bitfit", {"accumulate": 9}, "--recipe accumulate=9: a batch has only 8 images"),
        ("bitfit", {"mixup": 0.8, "batch_size": 7}, "--recipe batch_size=7: mixup and cutmix pair the images"),
        ("linear", {"precision": "fp16"}, "--recipe precision=fp16: needs a GPU (CUDA); on the CPU use bf16 or fp32"),
        ("bitfit", {"warmup_prefix": True, "warmup_epochs": 3}, "--recipe warmup_epochs=3: leaves nothing of 3 epochs"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(
    make: Callable[..., Trial], method: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as raised:
        make(with_(PLAIN, **settings), method).fit()
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 with a gradient scaler needs CUDA")
def test_fp16_scales_its_gradients_and_learns(make: Callable[..., Trial]) -> None:
    recipe = with_(AUGMENTED, mixup=0.0, cutmix=0.0, precision="fp16", lr=1e-2, epochs=8, clip_norm=1.0, accumulate=2)
    trial = make(recipe, device="cuda")
    trial.fit()
    first, last = trial.curve[0].loss, trial.curve[-1].loss
    assert first is not None
    assert last is not None
    assert last < 0.8 * first


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


def test_a_split_holds_out_a_fifth_of_the_training_images_the_same_one_each_time(make: Callable[..., Trial]) -> None:
    trial = make()
    (train, held), (again, _) = trial.split(), trial.split()
    assert (len(train.labels), len(held.labels)) == (26, 6)
    assert torch.equal(train.images, again.images)
    parts = torch.cat([train.images, held.images]).flatten(1)
    assert torch.equal(parts.unique(dim=0), trial.images.flatten(1).unique(dim=0))
    assert train.encoder is held.encoder is trial.encoder


def test_training_on_a_part_trains_the_whole_trial_and_is_scored_on_the_other(make: Callable[..., Trial]) -> None:
    trial = make(with_(PLAIN, epochs=20, lr=0.01))
    train, held = trial.split()
    before = held.score()
    train.fit()
    assert held.score() > before
    assert held.score() == 100.0
    assert len(trial.curve) == 20


def test_the_test_split_is_watched_behind_epochs_over_all_images_only(make: Callable[..., Trial]) -> None:
    trial = make(with_(PLAIN, epochs=3))
    seen: list[int] = []
    trial.watch = lambda: seen.append(len(trial.curve))
    train, _ = trial.split()
    train.fit()
    assert (seen, len(trial.curve)) == ([], 3)
    trial.fit()
    assert seen == [4, 5, 6]


def test_pixels_are_normalised_as_in_pre_training() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    assert Normalize(MINI)(images)[:, 0, 0, 0].tolist() == [-2.0, 2.0]  # (x - 0.5) / 0.25


def test_outputs_come_in_the_order_of_the_list(make: Callable[..., Trial], data: Path) -> None:
    trial = make()
    split = _test(data)
    outputs, labels = trial.outputs(split)
    assert outputs.shape == (16, 2)
    assert labels.tolist() == list(split.listing.labels)
    assert isinstance(trial.head, nn.Linear)
    assert not trial.encoder.training


def _test(data: Path) -> folder.Images:
    return folder.Images(folder.read_list(data / "day", "test", 2), Framing(32))
