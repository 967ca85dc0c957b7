"""Res-Tuning-Bypass: the chain of the official code, and what may be kept for its gradient."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from vits import count, perturbed, small, vit_base

from petlbench import measure, zoo
from petlbench.errors import InputError

Bypass: Any = zoo.method("res_tuning_bypass")


@pytest.mark.parametrize(("length", "weights"), [(10, 387_312), (32, 1_198_848)])
def test_trained_weights_on_vit_base(length: int, weights: int) -> None:
    assert count(Bypass(length=length).attach(vit_base())) == weights


def test_the_chain_is_that_of_the_official_code(images: Tensor) -> None:
    encoder = perturbed(Bypass().attach(small())).eval()
    root, *stems = encoder.vit.stream(images)

    def tuned(tuner: Any, tokens: Tensor) -> Tensor:
        inner = gelu(tokens @ tuner.down.weight.T + tuner.down.bias)
        return tokens + inner @ tuner.up.weight.T + tuner.up.bias

    expected = root
    for stem, lateral, vertical in zip(stems, encoder.lateral, encoder.vertical, strict=True):
        expected = tuned(lateral, stem) + tuned(vertical, expected)
    torch.testing.assert_close(encoder(images), encoder.vit.model.norm(expected)[:, 0], rtol=0, atol=1e-5)


def test_nothing_from_within_a_block_of_the_backbone_is_kept_for_the_backward_pass() -> None:
    """A bypass of blocks that only copy their tokens keeps as many bytes as one of real blocks."""

    class Copies(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return tokens.clone()

    def kept(encoder: Any) -> int:
        return measure.count(encoder, nn.Linear(24, 5), torch.zeros(1, 3, 32, 32)).saved_bytes

    real, copying = Bypass(length=4).attach(small(depth=6)), Bypass(length=4).attach(small(depth=6))
    for depth in range(6):
        copying.vit.blocks[depth] = Copies()
    assert kept(real) == kept(copying)
    assert kept(zoo.method("bitfit")().attach(small(depth=6))) > 2 * kept(real)


def test_no_gradient_enters_a_block_of_the_backbone_even_where_it_could(images: Tensor) -> None:
    encoder = perturbed(Bypass().attach(small()))
    encoder.vit.requires_grad_()
    encoder(images).square().sum().backward()
    inside = [weight for name, weight in encoder.vit.model.named_parameters() if not name.startswith("norm.")]
    assert all(weight.grad is None for weight in inside)
    assert all(weight.grad is not None for name, weight in encoder.named_parameters() if not name.startswith("vit."))


def test_starting_weights_have_the_spread_of_the_official_code() -> None:
    tuner = Bypass(length=100).attach(small()).lateral[0]
    bound = (6 / (24 + 100)) ** 0.5
    for linear in (tuner.down, tuner.up):
        assert linear.weight.abs().max() <= bound
        assert linear.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        assert 0 < linear.bias.abs().max() < 1e-5


def test_a_length_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="length=0"):
        Bypass(length=0)
