"""Costs: what can be counted is counted exactly; what needs a clock says how it was measured."""

import math
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from petlbench.encoder import Encoder, ViT
from petlbench.measure import Counts, count, ppt
from petlbench.speed import Speed, speed

CPU = torch.device("cpu")
IMAGE = torch.zeros(1, 3, 8, 8)
PIXELS = 3 * 8 * 8


class Flat(Encoder):
    """The pixels, then any layers: small enough to count by hand."""

    width = 4

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), *layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        raise NotImplementedError


class LowRank(nn.Module):
    """A frozen layer and a trained addition of rank 1 that can be merged into it."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(PIXELS, 4).requires_grad_(False)
        self.down = nn.Linear(PIXELS, 1, bias=False)
        self.up = nn.Linear(1, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(x) + self.up(self.down(x))

    def fold(self) -> nn.Linear:
        with torch.no_grad():
            self.frozen.weight += self.up.weight @ self.down.weight
        return self.frozen


def frozen_linear() -> Flat:
    return Flat(nn.Linear(PIXELS, 4).requires_grad_(False))


def low_rank() -> Flat:
    return Flat(LowRank())


# Counts


def test_parameters_are_split_into_those_of_the_method_and_of_the_head() -> None:
    counts = count(low_rank(), nn.Linear(4, 2), IMAGE)
    assert counts.method_parameters == PIXELS + 4
    assert counts.head_parameters == 4 * 2 + 2
    assert counts.trainable_parameters == PIXELS + 4 + 10
    assert counts.total_parameters == (PIXELS + 1) * 4 + PIXELS + 4 + 10


def test_a_task_is_stored_as_the_file_of_what_was_trained(tmp_path: Path) -> None:
    encoder, head = low_rank(), nn.Linear(4, 2)
    added = {
        f"encoder.layers.1.{name}.weight": encoder.get_parameter(f"layers.1.{name}.weight") for name in ("down", "up")
    }
    save_file({**added, "head.weight": head.weight, "head.bias": head.bias}, tmp_path / "task.safetensors")
    assert count(encoder, head, IMAGE).stored_bytes == (tmp_path / "task.safetensors").stat().st_size


def test_folding_takes_the_additions_of_a_method_out_of_the_flops() -> None:
    counts = count(low_rank(), nn.Linear(4, 2), IMAGE)
    assert counts.flops == PIXELS * 4 + PIXELS + 4 + 4 * 2
    assert counts.flops_folded == PIXELS * 4 + 4 * 2


def test_flops_are_the_same_folded_where_nothing_can_be_folded() -> None:
    counts = count(frozen_linear(), nn.Linear(4, 2), IMAGE)
    assert counts.flops == counts.flops_folded == PIXELS * 4 + 4 * 2


def test_training_flops_hold_forward_and_backward() -> None:
    counts = count(frozen_linear(), nn.Linear(4, 2), IMAGE)
    assert counts.training_flops == 2 * (PIXELS * 4 + 4 * 2) + 2 * (4 * 2)


def test_a_frozen_encoder_keeps_nothing_for_the_backward_pass() -> None:
    assert count(frozen_linear(), nn.Linear(4, 2), IMAGE).saved_bytes == 4 * 4  # what the head sees, in fp32


def test_a_trained_layer_keeps_what_it_sees() -> None:
    encoder = Flat(nn.Linear(PIXELS, 4))
    assert count(encoder, nn.Linear(4, 2), IMAGE).saved_bytes == 4 * PIXELS + 4 * 4


def test_what_two_layers_see_is_kept_once() -> None:
    assert count(low_rank(), nn.Linear(4, 2), IMAGE).saved_bytes == 4 * PIXELS + 4 * 1 + 4 * 4  # down, up, head


def test_a_head_on_the_class_token_keeps_all_tokens() -> None:
    vit = ViT(VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=4))
    assert count(vit, nn.Linear(48, 5), torch.zeros(1, 3, 32, 32)).saved_bytes == 4 * 17 * 48


def test_counting_changes_neither_the_network_nor_the_random_state() -> None:
    encoder, head = Flat(LowRank(), nn.BatchNorm1d(4), nn.Dropout()), nn.Linear(4, 2)
    weights, state = {name: value.clone() for name, value in encoder.state_dict().items()}, torch.get_rng_state()
    count(encoder, head, IMAGE)
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in encoder.state_dict().items())
    assert all(weight.grad is None for weight in (*encoder.parameters(), *head.parameters()))
    assert encoder.training


def test_counts_survive_json() -> None:
    counts = count(low_rank(), nn.Linear(4, 2), IMAGE)
    assert msgspec.json.decode(msgspec.json.encode(counts), type=Counts) == counts


@pytest.mark.parametrize(
    ("accuracy", "parameters", "expected"),
    [
        pytest.param(76.5, 0, 76.5, id="nothing trained costs nothing"),
        pytest.param(80.0, 90_000_000, 80.0 * math.exp(-1), id="ninety million cost a factor of e"),
        pytest.param(72.3, 290_000, 71.408, id="a typical LoRA"),
    ],
)
def test_ppt_discounts_accuracy_by_trained_parameters(accuracy: float, parameters: int, expected: float) -> None:
    assert ppt(accuracy, parameters) == pytest.approx(expected, abs=1e-3)


# Speed


def measured(encoder: Encoder, head: nn.Module, **options: Any) -> Speed:
    sizes: dict[str, Any] = {"image_size": 8, "classes": 2, "batch_size": 3, "device": CPU, "repeats": 5, "warmup": 1}
    return speed(encoder, head, **(sizes | options))


def test_rates_are_those_of_the_median_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, now = cycle([1.0, 2.0, 3.0, 4.0, 100.0]), [0.0]
    started = cycle([True, False])

    def clock() -> float:
        now[0] += 0 if next(started) else next(seconds)
        return now[0]

    monkeypatch.setattr("petlbench.speed.time", SimpleNamespace(perf_counter=clock))
    result = measured(low_rank(), nn.Linear(4, 2))
    assert result.train_images_per_second == result.inference_images_per_second == 3 / 3
    assert result.folded_images_per_second == 3 / 3
    assert result.latency_ms == 3000
    assert result.train_spread == result.latency_spread == (4 - 2) / 3


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_speed_says_under_which_conditions_it_was_measured(precision: Any) -> None:
    result = measured(low_rank(), nn.Linear(4, 2), precision=precision, batch_size=2)
    assert (result.device, result.threads, result.precision) == ("cpu", torch.get_num_threads(), precision)
    assert (result.image_size, result.batch_size, result.repeats, result.warmup) == (8, 2, 5, 1)
    assert result.train_reserved_bytes is result.inference_reserved_bytes is None
    assert result.memory_kind.startswith("process resident")
    assert result.train_memory_bytes > 50_000_000  # torch alone is larger
    assert msgspec.json.decode(msgspec.json.encode(result), type=Speed) == result


def test_inference_counts_as_folded_where_nothing_can_be_folded() -> None:
    result = measured(frozen_linear(), nn.Linear(4, 2))
    assert result.folded_images_per_second == result.inference_images_per_second


def test_measuring_speed_leaves_weights_as_they_were() -> None:
    encoder, head = low_rank(), nn.Linear(4, 2)
    before = {name: value.clone() for name, value in (encoder.state_dict() | head.state_dict()).items()}
    measured(encoder, head)
    after = encoder.state_dict() | head.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(weight.grad is None for weight in (*encoder.parameters(), *head.parameters()))
