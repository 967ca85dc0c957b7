"""LN-Tune: the LayerNorms of the backbone, and nothing else, are trained."""

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from vits import count, small, vit_base

from petlbench import zoo
from petlbench.encoder import ViT

LayerNormTuning: Any = zoo.method("layernorm")


def test_vit_base_has_38_400_weights_in_25_norms() -> None:
    assert count(LayerNormTuning().attach(vit_base())) == 25 * 2 * 768 == 38_400


def test_scales_and_shifts_of_both_norms_of_a_block_and_of_the_last_one_are_trained(golden: Any) -> None:
    encoder = LayerNormTuning().attach(golden("lora_qv").vit())
    names = {name.removeprefix("model.") for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    norms = [f"blocks.{depth}.norm{number}" for depth in range(4) for number in (1, 2)]
    assert names == {f"{norm}.{kind}" for norm in (*norms, "norm") for kind in ("weight", "bias")}


def test_norms_in_front_of_the_blocks_and_of_queries_and_keys_count_too() -> None:
    model = VisionTransformer(img_size=16, patch_size=8, embed_dim=8, depth=1, num_heads=2, pre_norm=True, qk_norm=True)
    # in front, two of the block, the last one; queries and keys of width 4
    assert count(LayerNormTuning().attach(ViT(model))) == 4 * 2 * 8 + 2 * 2 * 4


def test_nothing_is_added_to_the_backbone(images: Tensor) -> None:
    encoder = LayerNormTuning().attach(small())
    assert encoder.state_dict().keys() == small().state_dict().keys()
    assert torch.equal(encoder(images), small()(images))
