"""Houlsby adapters: two per block, each that of `pfeiffer`."""

from typing import Any

import pytest
import torch
from torch import Tensor
from vits import count, perturbed, small, vit_base

from petlbench import blocks, zoo
from petlbench.errors import InputError

Houlsby: Any = zoo.method("houlsby")


@pytest.mark.parametrize(("bottleneck", "weights"), [(4, 165_984), (8, 313_536), (32, 1_198_848)])
def test_trained_weights_on_vit_base(bottleneck: int, weights: int) -> None:
    assert count(Houlsby(bottleneck=bottleneck).attach(vit_base())) == weights


@pytest.mark.parametrize("options", [{}, {"init_values": 0.1}], ids=["plain", "layer scale"])
def test_fresh_adapters_change_nothing(options: dict[str, Any], images: Tensor) -> None:
    assert torch.equal(Houlsby().attach(small(**options)).eval()(images), small(**options)(images))


def test_each_half_of_a_block_has_an_adapter_of_its_own() -> None:
    block = perturbed(Houlsby(norm=True).attach(small(init_values=0.1))).eval().blocks[1]
    tokens = torch.randn(2, 17, 24)
    middle = tokens + block.attention(blocks.attention(block.block, tokens))
    torch.testing.assert_close(block(tokens), middle + block.mlp(blocks.mlp(block.block, middle)))
    assert block.attention is not block.mlp
    assert count(block.attention) == count(block.mlp) == 2 * 24 * 8 + 8 + 24 + 2 * 24


def test_the_published_row_of_vtab_starts_at_random() -> None:
    assert Houlsby().published("vtab", "svhn") == {"init": "xavier"}
    assert Houlsby().published("mini", "digits") == {}
    assert "OSU-MLB" in Houlsby().recipe("vtab", "svhn").source


def test_a_bottleneck_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="houlsby: bottleneck=0"):
        Houlsby(bottleneck=0)
