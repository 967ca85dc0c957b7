"""Methods on a Swin: what they train there, that they begin where they should, and that every stage is adapted."""

from typing import Any

import pytest
import torch
from torch import Tensor
from vits import count

from petlbench import backbone, contract, zoo
from petlbench.surgery import fold, trained

BLOCKS = [(128, 4)] * 2 + [(256, 8)] * 2 + [(512, 16)] * 18 + [(1024, 32)] * 2
"""Width and heads of each block of a Swin-B."""
WIDTHS = sum(width for width, _ in BLOCKS)
TABLES = sum(169 * heads for _, heads in BLOCKS)  # relative position biases of 7 x 7 windows
MERGED = 4 * (128 + 256 + 512)  # what the patch mergings normalise
NORMS = 2 * WIDTHS + 128 + MERGED + 1024
"""Channels of all LayerNorms."""
BIASES = 9 * WIDTHS + TABLES + 128 + NORMS
COUNTS = {  # method: weights trained on a Swin-B
    "layernorm": 2 * NORMS,
    "bitfit": BIASES,
    "difffit": BIASES + NORMS + 2 * WIDTHS,
    "ssf": 2 * (9 * WIDTHS + 128 + NORMS),  # the reduction of a patch merging has neither
    "lora": 2 * 2 * 8 * WIDTHS,
    "adaptformer": (2 * 64 + 1) * WIDTHS + 64 * 24,
    "pfeiffer": (2 * 8 + 1) * WIDTHS + 8 * 24,
    "houlsby": 2 * ((2 * 8 + 1) * WIDTHS + 8 * 24),
    "repadapter": 2 * (13 * WIDTHS + 8 * 24),
    "apt": (200 + 2 * 4) * WIDTHS + 24,
    "vpt": 10 * WIDTHS,
}
UNCHANGED = sorted({"linear", "full", "partial", *COUNTS} - {"ssf", "vpt", "apt"})
"""Methods that say at the start what the frozen backbone says."""


@pytest.mark.parametrize("name", COUNTS)
def test_trained_weights_on_swin_base(name: str) -> None:
    with torch.device("meta"):
        assert count(zoo.method(name)().attach(backbone.build("swin_base_patch4_window7_224"))) == COUNTS[name]


@pytest.mark.parametrize("name", UNCHANGED)
def test_a_fresh_method_changes_nothing(name: str, images: Tensor) -> None:
    encoder = zoo.method(name)().attach(contract.tiny_swin()).eval()
    assert torch.equal(encoder(images), contract.tiny_swin().eval()(images))


@pytest.mark.parametrize("name", ["full", *COUNTS])
def test_every_block_of_every_stage_gets_a_gradient(name: str, images: Tensor) -> None:
    encoder: Any = zoo.method(name)().attach(contract.tiny_swin()).eval()
    (encoder(images) * torch.randn(encoder.width)).sum().backward()
    for block in encoder.blocks:
        assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in trained(block))


@pytest.mark.parametrize("name", ["difffit", "lora", "ssf"])
def test_what_folds_leaves_the_modules_of_a_plain_swin(name: str) -> None:
    folded = fold(zoo.method(name)().attach(contract.tiny_swin()))
    added = folded.state_dict().keys() - contract.tiny_swin().state_dict().keys()
    assert not added
