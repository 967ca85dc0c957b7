"""DiffFit: biases, norms and gains are trained; the gains stand where OSU-MLB/ViT_PEFT_Vision has them."""

from typing import Any

import pytest
import torch
from torch import Tensor
from vits import count, perturbed, small, vit_base

from petlbench import zoo
from petlbench.surgery import fold

DiffFit: Any = zoo.method("difffit")


def test_trained_weights_on_vit_base() -> None:
    biases, norms, gains = 102_912, 25 * 768, 12 * 2 * 768
    assert count(DiffFit().attach(vit_base())) == biases + norms + gains == 140_544


def test_biases_norms_and_gains_are_trained_and_nothing_else(golden: Any) -> None:
    encoder = DiffFit().attach(golden("lora_qv").vit())
    kinds = {
        name.rsplit(".", 1)[1] if "norm" not in name else "norm"
        for name, parameter in encoder.named_parameters()
        if parameter.requires_grad
    }
    frozen = {name.rsplit(".", 1)[1] for name, parameter in encoder.named_parameters() if not parameter.requires_grad}
    assert kinds == {"bias", "norm", "gain"}
    assert frozen == {"weight", "cls_token", "pos_embed"}


def test_a_fresh_difffit_changes_nothing(images: Tensor) -> None:
    assert torch.equal(DiffFit().attach(small())(images), small()(images))


@pytest.mark.parametrize("options", [{}, {"init_values": 0.1}], ids=["plain", "layer scale"])
def test_gains_multiply_what_each_half_of_a_block_adds(options: dict[str, Any]) -> None:
    encoder = perturbed(DiffFit().attach(small(**options)))
    block: Any = encoder.blocks[1]
    tokens = torch.randn(2, 17, 24)
    outputs = block(tokens)
    gains = []
    for part, layer in ((block.attn, "proj"), (block.mlp, "fc2")):
        gained = getattr(part, layer)
        gains.append(gained.gain)
        setattr(part, layer, gained.linear)
    middle = tokens + gains[0] * block.ls1(block.attn(block.norm1(tokens)))
    expected = middle + gains[1] * block.ls2(block.mlp(block.norm2(middle)))
    torch.testing.assert_close(outputs, expected)


def test_folding_is_exact_and_leaves_the_names_of_the_backbone(images: Tensor) -> None:
    encoder = perturbed(DiffFit().attach(small())).eval()
    before = encoder(images)
    fold(encoder)
    torch.testing.assert_close(encoder(images), before, rtol=0, atol=1e-5)
    assert encoder.state_dict().keys() == small().state_dict().keys()
