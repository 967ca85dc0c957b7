"""SSF: the facts of the paper, and the numbers of the official code."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from vits import count, perturbed, small, vit_base

from petlbench import zoo
from petlbench.surgery import fold, trained

SSF: Any = zoo.method("ssf")

OFFICIAL = {  # our layer: where the official code keeps its scale and shift
    "patch_embed.proj": "patch_embed.ssf_{}_1",
    "norm1": "ssf_{}_1",
    "attn.qkv": "attn.ssf_{}_1",
    "attn.proj": "attn.ssf_{}_2",
    "norm2": "ssf_{}_2",
    "mlp.fc1": "mlp.ssf_{}_1",
    "mlp.fc2": "mlp.ssf_{}_2",
    "norm": "ssf_{}_1",
}


def test_logits_and_gradients_equal_those_of_the_official_code(golden: Any) -> None:
    def official(name: str) -> str:
        path, kind = name.removeprefix("model.").rsplit(".", 1)  # model.blocks.0.attn.qkv.scale
        block, layer = ("", path) if not path.startswith("blocks.") else (path[:9], path[9:])
        return block + OFFICIAL[layer].format(kind)

    values = golden("ssf")
    values.check(SSF().attach(values.vit()).eval(), official)


def test_the_official_count_of_the_tiny_network_is_met(golden: Any) -> None:
    official = golden("ssf")
    assert count(SSF().attach(official.vit())) == int(official.facts["trainable_without_head"])


def test_205_824_weights_are_trained_on_vit_base() -> None:
    # two per channel: 12 blocks with norm1, qkv, proj, norm2, fc1 and fc2; patch embedding and last norm
    assert count(SSF().attach(vit_base())) == 2 * (12 * (1 + 3 + 1 + 1 + 4 + 1) * 768 + 2 * 768) == 205_824


def test_scales_start_around_one_and_shifts_around_zero() -> None:
    encoder = SSF().attach(small(depth=8))
    for kind, mean in (("scale", 1.0), ("shift", 0.0)):
        values = torch.cat([weight for name, weight in encoder.named_parameters() if name.endswith(kind)])
        assert values.mean().item() == pytest.approx(mean, abs=0.002)
        assert values.std().item() == pytest.approx(0.02, rel=0.1)


def test_a_fresh_ssf_changes_the_features_unless_it_starts_without_spread(images: Tensor) -> None:
    assert not torch.allclose(SSF().attach(small())(images), small()(images), atol=1e-3)
    assert torch.equal(SSF(spread=0.0).attach(small())(images), small()(images))


@pytest.mark.parametrize(
    "options", [{}, {"qkv_bias": False}, {"pre_norm": True, "qk_norm": True}, {"global_pool": "avg"}], ids=str
)
def test_folding_is_exact_and_leaves_plain_layers(options: dict[str, Any], images: Tensor) -> None:
    encoder = perturbed(SSF().attach(small(**options))).eval()
    for name, weight in encoder.named_parameters():
        if name.endswith("scale"):
            weight.data += 1
    before = encoder(images)
    fold(encoder)
    torch.testing.assert_close(encoder(images), before, rtol=0, atol=1e-5)
    added = encoder.state_dict().keys() ^ small(**options).state_dict().keys()
    assert all(name.endswith(".bias") for name in added)  # a shift without a bias to go into becomes one
    assert list(trained(encoder)) == []


def test_a_convolution_is_scaled_by_channel() -> None:
    vit: Any = perturbed(SSF().attach(small()))
    proj, images = vit.model.patch_embed.proj, torch.randn(2, 3, 32, 32)
    expected = nn.functional.conv2d(images, proj.layer.weight, proj.layer.bias, stride=8)
    expected = expected * proj.scale[:, None, None] + proj.shift[:, None, None]
    torch.testing.assert_close(proj(images), expected)


@pytest.mark.parametrize(
    ("task", "lr", "weight_decay", "drop_path"),
    [
        ("cifar100", 5e-3, 5e-5, 0.0),
        ("caltech101", 1e-3, 5e-2, 0.1),
        ("dtd", 5e-3, 5e-5, 0.0),
        ("flowers102", 5e-3, 5e-5, 0.0),
        ("pets", 5e-3, 5e-5, 0.0),
        ("svhn", 1e-2, 5e-5, 0.0),
        ("sun397", 5e-3, 5e-5, 0.0),
        ("patch_camelyon", 5e-3, 5e-5, 0.0),
        ("eurosat", 3e-3, 5e-2, 0.2),
        ("resisc45", 2e-3, 5e-5, 0.1),
        ("diabetic_retinopathy", 5e-3, 5e-5, 0.2),
        ("clevr_count", 2e-3, 5e-2, 0.1),
        ("clevr_dist", 5e-2, 5e-2, 0.1),
        ("dmlab", 5e-3, 5e-5, 0.1),
        ("kitti_dist", 1e-2, 5e-5, 0.0),
        ("dsprites_loc", 1e-2, 5e-5, 0.0),
        ("dsprites_ori", 5e-3, 5e-5, 0.2),
        ("smallnorb_azi", 2e-2, 5e-5, 0.1),
        ("smallnorb_ele", 5e-3, 5e-2, 0.2),
    ],
)
def test_recipes_are_those_of_the_official_scripts(task: str, lr: float, weight_decay: float, drop_path: float) -> None:
    recipe = SSF().recipe("vtab", task)
    assert (recipe.lr, recipe.weight_decay, recipe.drop_path) == (lr, weight_decay, drop_path)
    assert (recipe.batch_size, recipe.epochs, recipe.total_epochs) == (64, 100, 110)
    assert "dongzelian/SSF" in recipe.source
