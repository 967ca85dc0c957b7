"""Optimiser and schedule: which weights move how fast, and when; held against timm's own."""

from dataclasses import replace as with_
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch import nn

from petlbench import contract, zoo
from petlbench.encoder import ViT
from petlbench.optimize import Schedule, optimizer_for
from petlbench.recipe import Recipe

STEPS = 15


def sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)


def rates(recipe: Recipe) -> list[float]:
    """Learning rate of every step of a run with 15 steps an epoch."""
    optimizer = sgd()
    schedule, found = Schedule(optimizer, recipe), []
    for epoch in range(recipe.total_epochs):
        for step in range(STEPS):
            schedule.set(epoch, step / STEPS)
            found.append(optimizer.param_groups[0]["lr"])
    return found


def per_epoch(recipe: Recipe) -> list[float]:
    return rates(recipe)[::STEPS]


SETTINGS: list[dict[str, Any]] = [
    {"epochs": 100, "warmup_epochs": 10, "warmup_lr": 1e-6, "min_lr": 1e-5},
    {"epochs": 100, "warmup_epochs": 10, "warmup_lr": 1e-7, "min_lr": 1e-8, "cooldown_epochs": 10},
    {"epochs": 30, "warmup_epochs": 0, "min_lr": 0.0},
    {"epochs": 8, "warmup_epochs": 1, "warmup_lr": 0.0, "min_lr": 1e-5, "cooldown_epochs": 2},
    {"epochs": 50, "warmup_epochs": 5, "warmup_lr": 0.0, "min_lr": 0.0, "warmup_prefix": True},
    {"epochs": 20, "warmup_epochs": 4, "min_lr": 0.1, "warmup_prefix": True, "cooldown_epochs": 3},
]


@pytest.mark.parametrize("per", ["epoch", "step"])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_schedule_is_timms(setting: dict[str, Any], per: str) -> None:
    recipe = Recipe(lr=1.0, schedule_per=per, **setting)  # type: ignore[arg-type]
    unit = STEPS if per == "step" else 1
    optimizer = sgd()
    timms = CosineLRScheduler(
        optimizer,
        t_initial=(recipe.epochs - recipe.warmup_prefix * recipe.warmup_epochs) * unit,
        lr_min=recipe.min_lr,
        warmup_t=recipe.warmup_epochs * unit,
        warmup_lr_init=recipe.warmup_lr,
        warmup_prefix=recipe.warmup_prefix,
        t_in_epochs=per == "epoch",
    )
    expected = []
    for update in range(recipe.total_epochs * STEPS):
        timms.step(update // STEPS)
        timms.step_update(update)
        expected.append(optimizer.param_groups[0]["lr"])
    assert rates(recipe) == pytest.approx(expected, abs=1e-12)


def test_the_schedule_of_hst_is_the_one_its_official_code_prints() -> None:
    # 110 epochs: warm-up from 1e-7 overlays the cosine, which ends at epoch 100; ten more at the smallest rate.
    found = per_epoch(Recipe(lr=1.0, **SETTINGS[1]))
    assert len(found) == 110
    assert found[0] == pytest.approx(1e-7)
    assert found[5] == pytest.approx(0.5, abs=1e-6)
    assert found[10] == pytest.approx(0.97552826, abs=1e-7)
    assert found[50] == pytest.approx(0.5, abs=1e-6)
    assert found[100:] == pytest.approx([1e-8] * 10)


def test_the_schedule_of_vpt_reaches_its_rate_after_the_warm_up_and_ends_near_zero() -> None:
    # Its code: epoch / 10 in the warm-up, then half a cosine over the other 90 of 100 epochs.
    found = per_epoch(Recipe(lr=1.0, epochs=100, warmup_epochs=10, warmup_lr=0.0, min_lr=0.0, warmup_prefix=True))
    assert found[:11] == pytest.approx([epoch / 10 for epoch in range(11)])
    assert found[55] == pytest.approx(0.5)
    assert found[99] == pytest.approx(0.000304586, abs=1e-8)  # (1 + cos(89/90 pi)) / 2


def test_a_schedule_that_lags_repeats_its_start_as_in_petl_vit() -> None:
    plain = Recipe(lr=1e-3, epochs=100, warmup_epochs=10, warmup_lr=1e-6, min_lr=1e-5)
    found = per_epoch(with_(plain, schedule_lag=1))
    assert found[:2] == [1e-6, 1e-6]
    assert found[1:] == per_epoch(plain)[:-1]


@pytest.mark.parametrize("decay_all", [True, False])
def test_weight_decay_spares_what_timm_spares_and_only_if_asked(decay_all: bool) -> None:
    vit, head = contract.tiny_vit().requires_grad_(True), nn.Linear(48, 2)
    groups = optimizer_for(vit, head, Recipe(weight_decay=0.1, decay_all=decay_all)).param_groups
    found = {id(weight): group["weight_decay"] for group in groups for weight in group["params"]}
    timms = param_groups_weight_decay(nn.ModuleList([vit, head]), 0.1)
    spared = {id(weight): group["weight_decay"] for group in timms for weight in group["params"]}
    assert found == (dict.fromkeys(spared, 0.1) if decay_all else spared)
    assert set(found.values()) == ({0.1} if decay_all else {0.0, 0.1})


@pytest.mark.parametrize("decay_all", [True, False])
def test_layer_decay_gives_every_weight_the_rate_that_timm_gives_it(decay_all: bool) -> None:
    model = VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=4, num_heads=4, num_classes=5)
    timms = param_groups_layer_decay(model, 0.05, layer_decay=0.65, weight_decay_exclude_1d=not decay_all)
    expected = {id(w): (group["lr_scale"], group["weight_decay"]) for group in timms for w in group["params"]}
    head, model.head = model.head, nn.Identity()
    vit = ViT(model).requires_grad_(True)
    recipe = Recipe(lr=2.0, weight_decay=0.05, layer_decay=0.65, decay_all=decay_all, warmup_epochs=0)
    optimizer = optimizer_for(vit, head, recipe)
    Schedule(optimizer, recipe).set(0, 0.0)
    groups = optimizer.param_groups
    found = {id(w): (group["lr"] / 2, group["weight_decay"]) for group in groups for w in group["params"]}
    assert found == {weight: pytest.approx(values) for weight, values in expected.items()}
    assert groups[0]["lr"] == 2.0  # the rate that the training curve shows


def test_layer_decay_finds_blocks_inside_of_what_a_method_wraps_around_them() -> None:
    encoder = zoo.method("lora")().attach(contract.tiny_vit())
    optimizer = optimizer_for(encoder, nn.Linear(48, 2), Recipe(layer_decay=0.5))
    assert [group["lr_scale"] for group in optimizer.param_groups] == [1, 0.5, 0.25, 0.125, 0.0625]


@pytest.mark.parametrize("name", ["linear", "bitfit", "lora", "hst", "full"])
def test_without_layer_decay_there_is_one_group_of_all_that_is_trained(name: str) -> None:
    encoder, head = zoo.method(name)().attach(contract.tiny_vit()), nn.Linear(48, 2)
    (group,) = optimizer_for(encoder, head, Recipe()).param_groups
    trained = [w for part in (encoder, head) for w in part.parameters() if w.requires_grad]
    assert {id(weight) for weight in group["params"]} == {id(weight) for weight in trained}
    assert len(group["params"]) == len(trained)
