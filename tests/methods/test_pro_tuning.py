"""Pro-tuning: what its figure shows, on a ViT and on a Swin."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from vits import count, perturbed, small, vit_base

from petlbench import contract, zoo
from petlbench.errors import InputError

ProTuning: Any = zoo.method("pro_tuning")


@pytest.mark.parametrize(
    ("inner", "weights"),
    [(64, 403_200), (16, 4 * (16 * (768 + 1 + 25 + 1 + 768) + 768))],  # 1 x 1, 5 x 5 for each channel, 1 x 1
)
def test_trained_weights_on_vit_base(inner: int, weights: int) -> None:
    assert count(ProTuning(inner=inner).attach(vit_base())) == weights


@pytest.mark.parametrize("options", [{}, {"global_pool": "avg"}, {"reg_tokens": 2}], ids=str)
def test_a_fresh_pro_tuning_changes_nothing(options: dict[str, Any], images: Tensor) -> None:
    assert torch.equal(ProTuning().attach(small(4, **options)).eval()(images), small(4, **options)(images))


def test_a_fresh_pro_tuning_changes_nothing_in_a_swin(images: Tensor) -> None:
    swin = contract.tiny_swin().eval()
    before = swin(images)
    assert torch.equal(ProTuning().attach(swin).eval()(images), before)


@pytest.mark.parametrize(("depth", "ends"), [(4, [1, 2, 3, 4]), (6, [1, 3, 4, 6]), (12, [3, 6, 9, 12])])
def test_prompts_stand_behind_each_quarter_of_the_blocks(depth: int, ends: list[int], images: Tensor) -> None:
    encoder = perturbed(ProTuning().attach(small(depth))).eval()
    tokens = list(encoder.stream(images))
    behind = [
        number
        for number in range(1, depth + 1)
        if not torch.equal(encoder.blocks[number - 1](tokens[number - 1]), tokens[number])
    ]
    assert behind == ends


def test_a_prompt_sees_patches_as_a_map_and_every_other_token_alone(images: Tensor) -> None:
    encoder = perturbed(ProTuning(inner=8).attach(small(4, reg_tokens=2))).eval()
    tokens = torch.randn(2, 3 + 16, 24)
    down, _, spread, _, up = block = encoder.prompts[0]
    prompts = encoder.prompt(block, tokens, images)
    maps = tokens[:, 3:].transpose(1, 2).reshape(2, 24, 4, 4)
    torch.testing.assert_close(prompts[:, 3:].transpose(1, 2).reshape(2, 24, 4, 4), block(maps))
    centre = functional.gelu(down(tokens[:, :3].transpose(1, 2).unsqueeze(3))) * spread.weight[:, :, 2:3, 2:3].view(
        8, 1, 1
    )
    alone = up(functional.gelu(centre + spread.bias.view(8, 1, 1))).squeeze(3).transpose(1, 2)
    torch.testing.assert_close(prompts[:, :3], alone)


def test_a_neighbour_two_patches_away_is_seen_and_one_three_away_is_not() -> None:
    block: Any = perturbed(ProTuning(inner=8).attach(small(4))).prompts[0]
    first = torch.randn(1, 24, 7, 7)
    second = first.clone()
    second[..., 3, 3] += 1
    changed = (block(first) - block(second)).abs().sum(1)[0] > 1e-6
    assert changed.nonzero().tolist() == [[row, column] for row in range(1, 6) for column in range(1, 6)]


def test_the_prompt_behind_the_last_stage_reaches_the_class_token(images: Tensor) -> None:
    encoder = perturbed(ProTuning().attach(small(4)))
    (encoder(images) * torch.randn(24)).sum().backward()  # the plain sum of a normalised vector is a constant
    assert all(weight.grad is not None and weight.grad.any() for weight in encoder.prompts[3].parameters())


def test_a_backbone_of_fewer_blocks_than_stages_is_refused() -> None:
    with pytest.raises(InputError, match="4 blocks or more, this one has 2"):
        ProTuning().attach(small(2))


def test_an_inner_width_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="inner=0"):
        ProTuning(inner=0)
