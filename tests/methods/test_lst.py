"""LST: the count that is printed, what a gradient may touch, and what may be kept for it."""

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from vits import count, perturbed, small

from petlbench import measure, zoo
from petlbench.encoder import ViT
from petlbench.errors import InputError

LST: Any = zoo.method("lst")


@pytest.mark.parametrize(("reduction", "weights"), [(8, 2_376_493), (16, 856_861), (4, 7_406_413)])
def test_trained_weights_on_vit_base(reduction: int, weights: int) -> None:
    """At 8 it is 2.38 M, as printed."""
    with torch.device("meta"):
        assert count(LST(reduction=reduction).attach(ViT(VisionTransformer()))) == weights


def test_nothing_from_within_a_block_of_the_backbone_is_kept_for_the_backward_pass() -> None:
    """A ladder beside blocks that only copy their tokens keeps as many bytes as one beside real blocks."""

    class Copies(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return tokens.clone()

    def kept(encoder: Any) -> int:
        return measure.count(encoder, nn.Linear(24, 5), torch.zeros(1, 3, 32, 32)).saved_bytes

    real, copying = LST().attach(small(depth=6)), LST().attach(small(depth=6))
    for depth in range(6):
        copying.vit.blocks[depth] = Copies()
    assert kept(real) == kept(copying)
    assert kept(real) > 7 * 4 * 17 * 24  # the inputs of the seven maps Down
    assert kept(zoo.method("bitfit")().attach(small(depth=6))) > 2 * kept(real)


def test_no_gradient_enters_the_backbone_even_where_it_could(images: Tensor) -> None:
    encoder = perturbed(LST().attach(small()))
    encoder.vit.requires_grad_()
    encoder(images).square().sum().backward()
    assert all(weight.grad is None for weight in encoder.vit.parameters())
    side = [weight for name, weight in encoder.named_parameters() if not name.startswith("vit.")]
    assert all(weight.grad is not None and weight.grad.any() for weight in side)


def test_every_gate_starts_half_open() -> None:
    assert LST().attach(small()).gate.tolist() == [0.5] * 3


def test_with_its_last_gate_closed_the_ladder_says_what_the_backbone_says(images: Tensor) -> None:
    encoder = perturbed(LST().attach(small())).eval()
    encoder.gates.data[-1] = -100.0
    torch.testing.assert_close(encoder(images), small()(images))
    encoder.gates.data[-1] = 0.0
    assert not torch.allclose(encoder(images), small()(images), atol=1e-2)


@pytest.mark.parametrize("options", [{}, {"global_pool": "avg"}, {"reg_tokens": 4}], ids=str)
def test_it_pools_as_the_backbone_does(options: dict[str, Any], images: Tensor) -> None:
    encoder = perturbed(LST().attach(small(**options))).eval()
    encoder.gates.data[-1] = -100.0
    torch.testing.assert_close(encoder(images), small(**options)(images))


def test_a_rung_mixes_what_came_up_with_what_the_backbone_says(images: Tensor) -> None:
    encoder = perturbed(LST().attach(small())).eval()
    stream = list(encoder.vit.stream(images))
    gates = (encoder.gates / 0.1).sigmoid()
    x = encoder.downs[0](stream[0])
    for depth, (tokens, found) in enumerate(encoder.climb(images)):
        assert torch.equal(tokens, stream[depth + 1])
        x = encoder.blocks[depth](gates[depth] * x + (1 - gates[depth]) * encoder.downs[depth + 1](tokens))
        torch.testing.assert_close(found, x)


def test_a_side_block_starts_as_every_eighth_row_and_column_of_its_block() -> None:
    torch.manual_seed(0)
    vit = ViT(VisionTransformer(img_size=32, patch_size=8, embed_dim=96, depth=4, num_heads=6))
    encoder: Any = LST().attach(vit)
    for block, side in zip(vit.blocks, encoder.blocks, strict=True):
        assert side.attn.num_heads == 6
        for name, weight in side.named_parameters():
            wide = block.get_parameter(name)
            assert torch.equal(weight, wide[::8, ::8] if wide.dim() == 2 else wide[::8])


def test_a_width_that_the_heads_do_not_divide_gets_fewer_heads() -> None:
    assert LST(reduction=4).attach(small()).blocks[0].attn.num_heads == 2  # width 6
    assert LST(reduction=8).attach(small()).blocks[0].attn.num_heads == 1  # width 3


def test_stochastic_depth_has_the_same_rates_in_both_networks() -> None:
    encoder = LST().attach(small(depth=3, drop_path_rate=0.2))
    rates = [getattr(block.drop_path2, "drop_prob", 0.0) for block in encoder.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2])


def test_a_reduction_that_does_not_divide_the_width_is_refused() -> None:
    with pytest.raises(InputError, match="reduction=5 does not divide the width 24"):
        LST(reduction=5).attach(small())


def test_a_reduction_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="reduction=0"):
        LST(reduction=0)
