"""HST: the values of the official code, the counts of its ledger, and the pyramid on any backbone."""

import copy
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional
from vits import count, pickled

from petlbench import zoo
from petlbench.encoder import ViT
from petlbench.errors import InputError
from petlbench.surgery import trained

HST: Any = zoo.method("hst")
BASE: dict[str, Any] = {"patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12}
LARGE: dict[str, Any] = {"patch_size": 16, "embed_dim": 1024, "depth": 24, "num_heads": 16}


# The official code


@pytest.mark.parametrize("mode", ["hst", "hst_train"])
def test_logits_and_gradients_are_those_of_the_official_code(golden: Any, mode: str) -> None:
    official = golden(mode)
    encoder = attach_to_golden(official)
    encoder.train(official.facts["mode"] == "train")
    official.check(encoder, official_name)


def test_one_training_step_moves_the_batch_norms_as_in_the_official_code(golden: Any) -> None:
    before, after = golden("hst"), golden("hst_train")
    encoder = attach_to_golden(before).train()
    after.check(encoder, official_name)
    for name, expected in after.part("buffer").items():
        torch.testing.assert_close(encoder.get_buffer(BUFFERS[name]), expected, rtol=0, atol=1e-5)


def test_the_pyramid_is_that_of_the_official_code(golden: Any) -> None:
    official = golden("hst")
    encoder = attach_to_golden(official).eval()
    official.check(encoder, official_name)
    maps = encoder.pyramid(official.tensors["input"])
    for stage, ours in enumerate(maps, start=1):
        torch.testing.assert_close(ours, official.tensors[f"pyramid/{stage}"], rtol=0, atol=1e-5)


def test_the_official_count_of_the_tiny_network_is_met(golden: Any) -> None:
    official = golden("hst")
    assert count(attach_to_golden(official)) == int(official.facts["trainable_without_head"]) == 21_152


# The counts of the paper and of its code


@pytest.mark.parametrize(
    ("architecture", "size", "weights"),
    [(BASE, "B", 764_840), (BASE, "L", 10_404_096), (LARGE, "B", 1_360_544), (LARGE, "L", 19_136_320)],
    ids=["ViT-B HSN-B", "ViT-B HSN-L", "ViT-L HSN-B", "ViT-L HSN-L"],
)
def test_trains_exactly_so_many_weights(architecture: dict[str, Any], size: str, weights: int) -> None:
    assert count(attach(architecture, size=size)) == weights


def test_the_ledger_of_parts_on_vit_b_is_that_of_the_official_code() -> None:
    encoder = attach(BASE)
    assert count(encoder.vit) == 36_864  # 24 LayerNorms
    assert count(encoder.meta) == 9_216
    assert [count(entry) for entry in encoder.entries] == [5_120, 13_968, 27_840, 41_688]
    assert [count(bridge) for bridge in encoder.bridges] == [24_608, 36_912, 49_216, 55_368]
    assert sum(count(block.meta_norm) for block in encoder.blocks) == 1_296
    side_blocks = [count(block) - count(block.meta_norm) for block in encoder.blocks]
    assert [sum(side_blocks[first : first + 3]) for first in (0, 3, 6, 9)] == [38_112, 84_816, 149_952, 189_432]
    assert [count(norm) for norm in encoder.norms] == [64, 96, 128, 144]


def test_with_a_head_for_100_classes_772_140_weights_are_trained() -> None:
    encoder = attach(BASE)
    assert count(encoder) + count(nn.Linear(encoder.width, 100)) == 772_140


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [(12, [3, 3, 3, 3]), (24, [6, 6, 6, 6]), (4, [1, 1, 1, 1]), (6, [1, 2, 1, 2]), (5, [1, 1, 1, 2])],
)
def test_the_stages_share_the_blocks_of_any_vit(depth: int, blocks: list[int]) -> None:
    assert [end - start for start, end in attach({**BASE, "depth": depth}).quarters] == blocks


# What is trained, and from where


def test_of_the_backbone_only_the_layer_norms_of_the_blocks_are_trained() -> None:
    encoder = attach(BASE)
    names = {name for name, weight in encoder.vit.model.named_parameters() if weight.requires_grad}
    norms = ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")
    assert names == {f"blocks.{depth}.{norm}" for depth in range(12) for norm in norms}


def test_starting_weights_have_the_spread_of_the_official_code() -> None:
    torch.manual_seed(0)
    encoder = HST(size="L").attach(ViT(VisionTransformer(img_size=32, depth=4)))
    spread = {
        encoder.meta[0]: (6 / (2 * 768)) ** 0.5 / 3**0.5,  # uniform within 0.0625
        encoder.bridges[3].weight: 0.02,
        encoder.blocks[3].attention.k.weight: 0.02,
        encoder.blocks[3].mlp.fc2.weight: 0.02,
        encoder.entries[0][0].weight: (2 / (3 * 3 * 64)) ** 0.5,
        encoder.entries[0][3].weight: (2 / (2 * 2 * 64)) ** 0.5,
        encoder.entries[3][0].weight: (2 / (3 * 3 * 384)) ** 0.5,
    }
    for weight, expected in spread.items():
        assert weight.std().item() == pytest.approx(expected, rel=0.1)
    biases = [weight for name, weight in encoder.named_parameters() if name.endswith("bias") and "vit" not in name]
    assert all(not bias.any() for bias in biases)


def test_norms_have_the_epsilons_of_the_official_code() -> None:
    encoder = attach(BASE)
    block = encoder.blocks[0]
    assert [norm.eps for norm in (block.meta_norm, *(entry[-1] for entry in encoder.entries))] == [1e-5] * 5
    assert [norm.eps for norm in (block.norm1, block.norm2, *encoder.norms, encoder.feature_norm)] == [1e-6] * 7


def test_stochastic_depth_has_the_same_rates_in_both_networks() -> None:
    encoder = attach({**BASE, "drop_path_rate": 0.11})
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in encoder.blocks]
    assert rates == pytest.approx([0.01 * depth for depth in range(12)], abs=1e-6)
    assert rates == [getattr(block.drop_path2, "drop_prob", 0.0) for block in encoder.vit.blocks]


# Equal but faster


@pytest.mark.parametrize("grid", [(56, 56), (28, 28), (14, 14), (7, 7), (9, 5)], ids=str)
def test_resizing_behind_the_bridge_equals_resizing_in_front_of_it(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    features, bridge = torch.randn(2, 48, 14, 14), nn.Linear(48, 8)

    def resize(maps: Tensor) -> Tensor:
        return functional.interpolate(maps, grid, mode="bilinear", align_corners=False)

    in_front = bridge(resize(features).permute(0, 2, 3, 1))
    behind = resize(bridge(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(behind, in_front, rtol=0, atol=1e-5)
    torch.testing.assert_close(behind.mean((1, 2)), in_front.mean((1, 2)), rtol=0, atol=1e-5)  # GlobalT


# Any backbone, any image


@pytest.mark.parametrize(
    ("patch", "image", "maps"),
    [
        (16, (64, 64), [(16, 16), (8, 8), (4, 4), (2, 2)]),
        (16, (96, 64), [(24, 16), (12, 8), (6, 4), (3, 2)]),
        (8, (96, 64), [(24, 16), (12, 8), (6, 4), (3, 2)]),
        (32, (64, 96), [(16, 24), (8, 12), (4, 6), (2, 3)]),
        (14, (98, 70), [(24, 17), (12, 9), (6, 5), (3, 3)]),  # the stem drops a last odd row, the later stages keep it
    ],
    ids=str,
)
def test_each_stage_halves_the_map_of_the_one_before_for_any_image_and_patch(
    patch: int, image: tuple[int, int], maps: list[tuple[int, int]]
) -> None:
    encoder = attach_small(img_size=image, patch_size=patch)
    assert encoder.strides == (4, 8, 16, 32)
    assert encoder.channels == (32, 48, 64, 72)
    shapes = [tuple(each.shape) for each in encoder.pyramid(torch.randn(2, 3, *image))]
    assert shapes == [(2, channels, *size) for channels, size in zip(encoder.channels, maps, strict=True)]


def test_images_of_several_sizes_pass_one_network() -> None:
    encoder = attach_small(dynamic_img_size=True)
    for height, width in [(64, 64), (96, 64), (32, 128)]:
        images = torch.randn(2, 3, height, width)
        assert encoder(images).shape == (2, 72)
        assert [tuple(each.shape[2:]) for each in encoder.pyramid(images)] == [
            (height // stride, width // stride) for stride in (4, 8, 16, 32)
        ]


@pytest.mark.parametrize("options", [{"class_token": False, "global_pool": "avg"}, {"reg_tokens": 4}], ids=str)
def test_backbones_without_a_class_token_or_with_registers_work(options: dict[str, Any]) -> None:
    assert attach_small(**options)(torch.randn(2, 3, 64, 64)).shape == (2, 72)


def test_more_meta_tokens_are_seen_by_the_side_network() -> None:
    encoder = attach_small(meta_tokens=3)
    images = torch.randn(2, 3, 64, 64)
    before = encoder(images)
    with torch.no_grad():
        encoder.meta[-1][:, 2] += 1  # reaches the features through the last side block only
    assert count(encoder.meta) == 6 * 3 * 128
    assert not torch.allclose(encoder(images), before)


def test_meta_tokens_leave_the_sequence_behind_each_block() -> None:
    encoder = attach_small(meta_tokens=3)
    lengths = []
    for block in encoder.vit.blocks:
        block.register_forward_pre_hook(lambda block, inputs: lengths.append(inputs[0].shape[1]))
    encoder(torch.randn(2, 3, 64, 64))
    assert lengths == [1 + 16 + 3] * 6


def test_copies_and_pickles_give_the_same_features() -> None:
    encoder = attach_small()
    images = torch.randn(2, 3, 64, 64)
    expected = encoder(images)
    assert torch.equal(copy.deepcopy(encoder)(images), expected)
    assert torch.equal(pickled(encoder)(images), expected)


def test_every_trained_weight_gets_a_finite_gradient_in_bfloat16() -> None:
    encoder = attach_small().train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = encoder(torch.randn(4, 3, 64, 64)).float().square().mul(torch.randn(72)).sum()
    loss.backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in trained(encoder))


# Settings


@pytest.mark.parametrize(
    ("task", "lr", "weight_decay", "drop_path"),
    [
        ("cifar100", 1e-2, 5e-4, 0.0),
        ("caltech101", 1e-3, 5e-4, 0.1),
        ("dtd", 1e-2, 5e-4, 0.0),
        ("flowers102", 1e-3, 5e-5, 0.0),
        ("pets", 1e-2, 5e-4, 0.0),
        ("svhn", 1e-2, 5e-5, 0.1),
        ("sun397", 1e-2, 5e-5, 0.0),
        ("patch_camelyon", 5e-3, 5e-4, 0.1),
        ("eurosat", 1e-3, 5e-4, 0.1),
        ("resisc45", 5e-3, 5e-4, 0.0),
        ("diabetic_retinopathy", 1e-3, 5e-5, 0.1),
        ("clevr_count", 1e-3, 5e-4, 0.1),
        ("clevr_dist", 5e-3, 5e-4, 0.1),
        ("dmlab", 5e-3, 5e-4, 0.1),
        ("kitti_dist", 5e-3, 5e-2, 0.1),
        ("dsprites_loc", 5e-3, 5e-4, 0.1),
        ("dsprites_ori", 1e-3, 5e-4, 0.1),
        ("smallnorb_azi", 1e-3, 5e-4, 0.1),
        ("smallnorb_ele", 1e-3, 5e-2, 0.2),
    ],
)
def test_recipes_are_those_of_the_official_scripts(task: str, lr: float, weight_decay: float, drop_path: float) -> None:
    recipe = HST().recipe("vtab", task)
    assert (recipe.lr, recipe.weight_decay, recipe.drop_path) == (lr, weight_decay, drop_path)
    assert (recipe.batch_size, recipe.epochs, recipe.total_epochs) == (64, 100, 110)
    assert "AFeng-x/HST" in recipe.source


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": "S"}, "unknown size of hst 'S': valid: B, L"),
        ({"size": (32, 48, 64, 70)}, "do not divide"),
        ({"meta_tokens": 0}, "meta_tokens must be 1 or more"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        HST(**fields)


def test_a_backbone_with_fewer_blocks_than_stages_is_refused() -> None:
    with pytest.raises(InputError, match="4 blocks or more"):
        attach({**BASE, "depth": 3})


# Shorthands


def attach(architecture: dict[str, Any], **fields: Any) -> Any:
    """HST on a backbone without weights, for facts that need none."""
    with torch.device("meta"):
        return HST(**fields).attach(ViT(VisionTransformer(**architecture)))


def attach_small(meta_tokens: int = 1, **options: Any) -> Any:
    torch.manual_seed(0)
    architecture = {"img_size": 64, "patch_size": 16, "embed_dim": 128, "depth": 6, "num_heads": 4, **options}
    return HST(meta_tokens=meta_tokens).attach(ViT(VisionTransformer(**architecture))).eval()


def attach_to_golden(official: Any) -> Any:
    encoder = HST(size=(8, 12, 16, 20), heads=(2, 2, 4, 4)).attach(official.vit())
    for name, value in official.part("buffer").items():
        encoder.get_buffer(BUFFERS[name]).copy_(value)
    return encoder


BUFFERS = {
    "fc_norm.running_mean": "feature_norm.running_mean",
    "fc_norm.running_var": "feature_norm.running_var",
    "m_patch_embed1.conv.1.running_mean": "entries.0.1.running_mean",
    "m_patch_embed1.conv.1.running_var": "entries.0.1.running_var",
}


def official_name(name: str) -> str:
    """The official name of one of our weights, for a network of one block per stage."""
    part, _, rest = name.partition(".")
    if part == "vit":
        return rest.removeprefix("model.")
    if part == "meta":
        return f"m_embeddings.{rest}"
    index, _, inner = rest.partition(".")
    stage = int(index) + 1
    if part == "bridges":
        return f"T_Bridge_{stage}.{inner}"
    if part == "norms":
        return f"m_norm{stage}.{inner}"
    if part == "entries":
        layer, _, weight = inner.partition(".")
        last = "4" if stage == 1 else "1"
        inner = f"norm.{weight}" if layer == last else f"conv.{inner}" if stage == 1 else f"proj.{weight}"
        return f"m_patch_embed{stage}.{inner}"
    if inner.startswith("meta_norm."):
        return f"m_proj_norm{stage}.{inner.removeprefix('meta_norm.')}"
    return f"m_block{stage}.0.{inner.replace('attention', 'attn')}"
