"""Convpass: the facts of the paper, and the numbers of the official code."""

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import ResPostBlock
from torch import Tensor, nn
from vits import count, perturbed, small, vit_base

from petlbench import zoo
from petlbench.errors import InputError

Convpass: Any = zoo.method("convpass")
VTAB: Any = zoo.suite("vtab")


def test_logits_and_gradients_equal_those_of_the_official_code(golden: Any) -> None:
    def official(name: str) -> str:
        _, _, depth, half, layer, kind = name.split(".")  # model.blocks.0.attention.down.weight
        return f"blocks.{depth}.adapter_{half.replace('attention', 'attn')}.adapter_{layer}.{kind}"

    values = golden("convpass")
    values.check(Convpass(scale=0.5).attach(values.vit()).eval(), official)


@pytest.mark.parametrize(
    ("fields", "weights"), [({}, 327_552), ({"bottleneck": 16}, 664_320), ({"mlp": False}, 163_776)], ids=str
)
def test_trained_weights_on_vit_base(fields: dict[str, Any], weights: int) -> None:
    assert count(Convpass(**fields).attach(vit_base())) == weights


@pytest.mark.parametrize(
    ("task", "scale", "identity"),
    [
        ("caltech101", 1, True),
        ("cifar100", 0.1, True),
        ("clevr_dist", 0.1, False),
        ("dmlab", 10, True),
        ("dtd", 0.01, False),
        ("kitti_dist", 10, False),
        ("pets", 1, False),
        ("svhn", 100, False),
    ],
)
def test_published_scales_and_starts(task: str, scale: float, identity: bool) -> None:
    assert Convpass().published("vtab", task) == {"scale": scale, "identity": identity}
    assert Convpass(mlp=False).published("vtab", task) == {}


def test_every_task_of_vtab_has_its_published_setting() -> None:
    assert all(Convpass().published("vtab", task.name) for task in VTAB.tasks)
    assert Convpass().published("mini", "digits") == {}


@pytest.mark.parametrize("identity", [True, False])
@pytest.mark.parametrize("options", [{}, {"init_values": 0.1}], ids=["plain", "layer scale"])
def test_a_fresh_convpass_changes_nothing(options: dict[str, Any], identity: bool, images: Tensor) -> None:
    encoder = Convpass(scale=100.0, identity=identity).attach(small(**options)).eval()
    assert torch.equal(encoder(images), small(**options)(images))


def test_the_convolution_starts_as_the_identity_or_at_random() -> None:
    patterns = torch.randn(2, 5, 4, 4)
    conv = Convpass(bottleneck=5).attach(small()).blocks[0].attention.conv
    torch.testing.assert_close(conv(patterns), patterns)
    conv = Convpass(bottleneck=5, identity=False).attach(small()).blocks[0].attention.conv
    bound = (6 / (2 * 5 * 9)) ** 0.5
    assert conv.weight.abs().max() <= bound
    assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.2)
    assert not conv.bias.any()


def test_tokens_that_are_no_patches_pass_as_images_of_one_position() -> None:
    bypass = perturbed(Convpass().attach(small())).blocks[0].attention.eval()
    tokens = torch.randn(2, 3 + 6, 24)  # three such tokens and 2 x 3 patches
    inner = bypass.down(tokens)
    inner = inner * torch.sigmoid(1.702 * inner)
    seen = [bypass.conv(inner[:, index].reshape(2, 8, 1, 1)).reshape(2, 8) for index in range(3)]
    seen = torch.stack(seen, dim=1)
    torch.testing.assert_close(bypass(tokens, (2, 3))[:, :3], bypass.up(seen * torch.sigmoid(1.702 * seen)))


def test_a_patch_hears_from_its_eight_neighbours_and_from_no_other_token() -> None:
    bypass = perturbed(Convpass().attach(small())).blocks[0].attention.eval()
    tokens = torch.randn(1, 1 + 20, 24, requires_grad=True)  # a class token, 4 rows of 5 patches
    bypass(tokens, (4, 5))[0, 1 + 7].sum().backward()  # the patch in row 1, column 2
    assert tokens.grad is not None
    heard = tokens.grad[0].abs().sum(1) > 0
    rows = [[0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    assert heard.tolist() == [False, *torch.tensor(rows).bool().flatten().tolist()]


@pytest.mark.parametrize("options", [{}, {"class_token": False, "global_pool": "avg"}, {"reg_tokens": 4}], ids=str)
def test_any_number_of_other_tokens_and_any_grid_work(options: dict[str, Any]) -> None:
    encoder = perturbed(Convpass().attach(small(dynamic_img_size=True, **options)))
    for height, width in [(32, 32), (16, 56), (40, 24)]:
        images = torch.randn(2, 3, height, width)
        assert encoder(images).shape == (2, 24)
        assert [tuple(each.shape) for each in encoder.pyramid(images)] == [(2, 24, height // 8, width // 8)] * 4


def test_drop_path_covers_a_bypass_with_a_draw_of_its_own_and_layer_scale_does_not() -> None:
    encoder: Any = perturbed(
        Convpass(scale=2.0, dropout=0.0, mlp=False).attach(small(drop_path_rate=0.5, init_values=0.1))
    )
    block = encoder.blocks[1].train()
    draws: list[float] = []

    class Draw(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            draws.append(len(draws))  # first the attention is dropped, then the bypass is kept
            return inputs * draws[-1]

    block.block.drop_path1 = Draw()
    block.block.drop_path2 = nn.Identity()
    tokens = torch.randn(2, 17, 24)
    after = block(tokens, (4, 4))
    first = tokens + 2.0 * block.attention(block.block.norm1(tokens), (4, 4))
    torch.testing.assert_close(after, first + block.block.ls2(block.block.mlp(block.block.norm2(first))))
    assert draws == [0, 1]


def test_blocks_that_norm_behind_their_branches_are_refused() -> None:
    with pytest.raises(InputError, match=r"ResPostBlock.*valid: Block"):
        Convpass().attach(small(block_fn=ResPostBlock))


def test_a_bottleneck_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="bottleneck=0"):
        Convpass(bottleneck=0)
