"""AdaptFormer: the facts of the paper, and the numbers of the official code."""

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import ResPostBlock
from torch import Tensor
from vits import count, perturbed, small, vit_base

from petlbench import zoo
from petlbench.errors import InputError

AdaptFormer: Any = zoo.method("adaptformer")


def test_logits_and_gradients_equal_those_of_the_official_code(golden: Any) -> None:
    def official(name: str) -> str:
        _, _, depth, _, layer, kind = name.split(".")  # model.blocks.0.adapter.down.weight
        return f"blocks.{depth}.adaptmlp.{layer}_proj.{kind}"

    values = golden("adaptformer")
    values.check(AdaptFormer(bottleneck=8).attach(values.vit()).eval(), official)


@pytest.mark.parametrize(
    ("bottleneck", "weights"), [(1, 27_660), (4, 82_992), (8, 156_768), (16, 304_320), (32, 599_424), (64, 1_189_632)]
)
def test_trained_weights_on_vit_base(bottleneck: int, weights: int) -> None:
    assert count(AdaptFormer(bottleneck=bottleneck).attach(vit_base())) == weights


def test_the_paper_has_64_inner_dimensions_and_a_scale_of_a_tenth() -> None:
    assert (AdaptFormer().bottleneck, AdaptFormer().scale, AdaptFormer().dropout) == (64, 0.1, 0.1)


@pytest.mark.parametrize("options", [{}, {"init_values": 0.1}], ids=["plain", "layer scale"])
def test_a_fresh_adaptformer_changes_nothing(options: dict[str, Any], images: Tensor) -> None:
    assert torch.equal(AdaptFormer().attach(small(**options)).eval()(images), small(**options)(images))


def test_drop_path_and_layer_scale_do_not_cover_the_adapter() -> None:
    """Where both branches of a block are dropped, all that it adds is scale * adapter."""
    block: Any = perturbed(
        AdaptFormer(scale=2.0, dropout=0.0).attach(small(drop_path_rate=0.5, init_values=0.1))
    ).blocks[1]
    for drop_path in (block.block.drop_path1, block.block.drop_path2):
        drop_path.drop_prob, drop_path.scale_by_keep = 1.0, False
    tokens = torch.randn(2, 17, 24)
    torch.testing.assert_close(block.train()(tokens), tokens + 2.0 * block.adapter(tokens))


def test_blocks_that_norm_behind_their_branches_are_refused() -> None:
    with pytest.raises(InputError, match=r"of type ResPostBlock, .*valid: Block"):
        AdaptFormer().attach(small(block_fn=ResPostBlock))


def test_a_bottleneck_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="bottleneck=0"):
        AdaptFormer(bottleneck=0)
