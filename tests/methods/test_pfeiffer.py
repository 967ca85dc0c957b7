"""Pfeiffer adapter: its place and its starts, and the numbers of the sequential option of ShoufaChen/AdaptFormer."""

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from torch import Tensor
from vits import count, perturbed, small, vit_base

from petlbench import blocks, zoo
from petlbench.encoder import ViT
from petlbench.errors import InputError

Pfeiffer: Any = zoo.method("pfeiffer")

OFFICIAL = {"norm": "adapter_layer_norm_before", "down": "down_proj", "up": "up_proj"}


def test_logits_and_gradients_equal_those_of_the_sequential_adaptformer(golden: Any) -> None:
    def official(name: str) -> str:
        _, _, depth, _, layer, kind = name.split(".")  # model.blocks.0.mlp.down.weight
        return f"blocks.{depth}.adaptmlp.{OFFICIAL[layer]}.{kind}"

    values = golden("adapter_seq")
    values.check(Pfeiffer(bottleneck=8, activation="relu", norm=True).attach(values.vit()).eval(), official)


@pytest.mark.parametrize(
    ("fields", "weights"),
    [
        ({}, 156_768),  # 12 blocks x (2 x 768 x 8 + 8 + 768)
        ({"bottleneck": 4}, 82_992),
        ({"bottleneck": 64}, 1_189_632),
        ({"norm": True}, 156_768 + 12 * 2 * 768),
    ],
    ids=str,
)
def test_trained_weights_on_vit_base(fields: dict[str, Any], weights: int) -> None:
    assert count(Pfeiffer(**fields).attach(vit_base())) == weights


@pytest.mark.parametrize("options", [{}, {"init_values": 0.1}], ids=["plain", "layer scale"])
def test_a_fresh_adapter_changes_nothing_unless_both_its_matrices_are_random(
    options: dict[str, Any], images: Tensor
) -> None:
    frozen = small(**options)(images)
    assert torch.equal(Pfeiffer().attach(small(**options)).eval()(images), frozen)
    for init in ("normal", "xavier"):
        encoder = Pfeiffer(init=init).attach(small(depth=2, **options)).eval()
        assert not torch.equal(encoder(images), frozen)


@pytest.mark.parametrize(
    ("init", "down", "up"),
    [("zero", 1 / (3 * 192) ** 0.5, 0.0), ("normal", 0.02, 0.02), ("xavier", (2 / 224) ** 0.5, (2 / 224) ** 0.5)],
)
def test_weights_start_with_the_spread_of_their_names(init: str, down: float, up: float) -> None:
    adapter = Pfeiffer(init=init, bottleneck=32).attach(vit_of_width(192)).blocks[1].mlp
    assert adapter.down.weight.std().item() == pytest.approx(down, rel=0.05)
    assert adapter.up.weight.std().item() == pytest.approx(up, rel=0.05)
    assert not adapter.down.bias.any()
    assert not adapter.up.bias.any()


def test_the_adapter_reads_what_the_mlp_adds_behind_layer_scale() -> None:
    block = perturbed(Pfeiffer(scale=3.0).attach(small(init_values=0.1))).eval().blocks[1]
    tokens = torch.randn(2, 17, 24)
    middle = tokens + blocks.attention(block.block, tokens)
    added = blocks.mlp(block.block, middle)
    adapter = block.mlp
    bottleneck = adapter.up(torch.nn.functional.gelu(adapter.down(added)))
    torch.testing.assert_close(block(tokens), middle + added + 3.0 * bottleneck)


def test_where_drop_path_drops_a_branch_the_adapter_reads_zeros() -> None:
    block = perturbed(Pfeiffer(dropout=0.0).attach(small(drop_path_rate=0.5))).blocks[1]
    for drop_path in (block.block.drop_path1, block.block.drop_path2):
        drop_path.drop_prob, drop_path.scale_by_keep = 1.0, False
    tokens = torch.randn(2, 17, 24)
    torch.testing.assert_close(block.train()(tokens), tokens + block.mlp(torch.zeros(24)))


def test_quick_gelu_is_that_of_clip() -> None:
    activation = Pfeiffer(activation="quick_gelu").attach(small()).blocks[0].mlp.activation
    inputs = torch.linspace(-4, 4, 9)
    torch.testing.assert_close(activation(inputs), inputs / (1 + torch.exp(-1.702 * inputs)))


def test_the_published_row_of_vtab_has_the_settings_of_noah() -> None:
    assert Pfeiffer().published("vtab", "svhn") == {"activation": "quick_gelu", "init": "normal"}
    recipe = Pfeiffer().recipe("vtab", "svhn")
    assert (recipe.lr, recipe.weight_decay, recipe.decay_all, recipe.drop_path) == (1e-3, 1e-4, False, 0.1)
    assert (recipe.epochs, recipe.batch_size, recipe.schedule_lag, Pfeiffer.evaluate_every) == (100, 64, 1, 10)


def test_blocks_that_norm_behind_their_branches_are_refused() -> None:
    with pytest.raises(InputError, match=r"of type ResPostBlock, .*valid: Block"):
        Pfeiffer().attach(small(block_fn=ResPostBlock))


def test_a_bottleneck_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="pfeiffer: bottleneck=0"):
        Pfeiffer(bottleneck=0)


def vit_of_width(width: int) -> Any:
    torch.manual_seed(0)
    return ViT(VisionTransformer(img_size=16, patch_size=8, embed_dim=width, depth=2, num_heads=2))
