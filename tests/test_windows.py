"""Windows: what a token sees, held against a mask over all tokens, for any grid and any tokens beside the patches."""

import math
import pickle
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import Attention, ParallelScalingBlock, VisionTransformer
from torch import Tensor, nn

from petlbench import backbone, spec, zoo
from petlbench.dense.trial import recompute
from petlbench.encoder import ViT
from petlbench.errors import InputError
from petlbench.flops import multiply_adds, training_flops
from petlbench.request import Request, cells
from petlbench.surgery import fold
from petlbench.windows import WindowedAttention, into_windows

REFUSED = ("e2vpt", "ett")
"""Methods with attention of their own."""


def attention(**options: Any) -> Attention:
    torch.manual_seed(0)
    made = Attention(16, num_heads=2, norm_layer=nn.LayerNorm, **options).eval()
    for weight in made.parameters():
        nn.init.normal_(weight, std=0.5)
    return made


def vit(side: int | None, **options: Any) -> ViT:
    """A ViT with patches of 8 pixels, within windows or not, with the same weights."""
    torch.manual_seed(0)
    options = {"img_size": 32, "depth": 4, "dynamic_img_size": True, **options}
    model = VisionTransformer(patch_size=8, embed_dim=48, num_heads=4, **options).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    if side:
        into_windows(model, side)
    return ViT(model).eval()


def sees(grid: tuple[int, int], side: int, prefix: int, added: int) -> Tensor:
    """Which token sees which, (N, N), from the places of the patches alone."""
    places: list[tuple[int, int] | None] = [None] * prefix
    places += [(row // side, column // side) for row in range(grid[0]) for column in range(grid[1])]
    places += [None] * added
    return torch.tensor([[a is None or b is None or a == b for b in places] for a in places])


def naive(layer: Attention, tokens: Tensor, seen: Tensor) -> Tensor:
    """Attention head by head over all tokens, with what is not seen at minus infinity."""
    outputs = []
    for head in range(layer.num_heads):
        q, k, v = (
            (tokens @ weight.T + bias)
            for weight, bias in zip(
                layer.qkv.weight.view(3, 2, 8, 16)[:, head], layer.qkv.bias.view(3, 2, 8)[:, head], strict=True
            )
        )
        logits = layer.q_norm(q) @ layer.k_norm(k).transpose(1, 2) / math.sqrt(8)
        outputs.append(logits.masked_fill(~seen, -torch.inf).softmax(-1) @ v)
    return layer.proj(torch.cat(outputs, dim=-1))


@pytest.mark.parametrize("options", [{"qkv_bias": True}, {"qkv_bias": True, "qk_norm": True}], ids=["plain", "qk norm"])
@pytest.mark.parametrize(("prefix", "added"), [(0, 0), (1, 0), (1, 3), (4, 0)])
@pytest.mark.parametrize(("grid", "side"), [((6, 4), 2), ((5, 7), 3), ((2, 9), 4), ((3, 3), 1), ((4, 4), 3)])
def test_a_patch_sees_its_window_and_all_else_is_seen_by_all(
    grid: tuple[int, int], side: int, prefix: int, added: int, options: dict[str, Any]
) -> None:
    plain = attention(**options)
    tokens = torch.randn(2, prefix + math.prod(grid) + added, 16)
    expected = naive(plain, tokens, sees(grid, side, prefix, added))
    windowed = WindowedAttention(plain, side, prefix)
    windowed.grid = grid
    torch.testing.assert_close(windowed(tokens), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"qk_norm": True}, {"scale_norm": True}, {"gated": True}])
@pytest.mark.parametrize("grid", [(4, 6), (6, 6), (1, 5)])
def test_a_window_that_covers_the_image_is_timms_own_attention(grid: tuple[int, int], options: dict[str, Any]) -> None:
    plain = attention(**options)
    tokens = torch.randn(2, 1 + math.prod(grid) + 2, 16)
    expected = plain(tokens)
    windowed = WindowedAttention(plain, 6, prefix=1)
    windowed.grid = grid
    torch.testing.assert_close(windowed(tokens), expected, atol=1e-6, rtol=1e-6)


def test_gradients_are_those_of_the_mask() -> None:
    plain, seen = attention(qkv_bias=True), sees((5, 4), 2, 1, 2)
    tokens = torch.randn(1, 1 + 20 + 2, 16, requires_grad=True)
    (expected,) = torch.autograd.grad(naive(plain, tokens, seen).square().sum(), tokens)
    windowed = WindowedAttention(plain, 2, prefix=1)
    windowed.grid = (5, 4)
    (found,) = torch.autograd.grad(windowed(tokens).square().sum(), tokens)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (16, 32)])
@pytest.mark.parametrize("options", [{}, {"class_token": False, "global_pool": "avg"}, {"reg_tokens": 3}])
def test_a_vit_whose_window_covers_the_image_says_what_it_said(size: tuple[int, int], options: dict[str, Any]) -> None:
    images = torch.randn(2, 3, *size)
    torch.testing.assert_close(vit(4, **options).pyramid(images), vit(None, **options).pyramid(images))
    torch.testing.assert_close(vit(4, **options)(images), vit(None, **options)(images))


@pytest.mark.parametrize(
    ("depth", "within"),
    [(12, [0, 1, 3, 4, 6, 7, 9, 10]), (6, [1, 4]), (4, []), (24, [d for d in range(24) if d % 6 != 5])],
)
def test_the_last_block_of_each_quarter_sees_the_whole_image(depth: int, within: Sequence[int]) -> None:
    """For 12 and 24 blocks, these are the windows of ViTDet and ViT-Adapter."""
    blocks: Any = vit(2, depth=depth).blocks
    assert [index for index, block in enumerate(blocks) if isinstance(block.attn, WindowedAttention)] == list(within)


def test_weights_and_their_names_are_those_of_the_plain_vit() -> None:
    plain, windowed = vit(None, depth=6).state_dict(), vit(2, depth=6).state_dict()
    torch.testing.assert_close(windowed, plain, rtol=0, atol=0)


def test_what_is_copied_or_pickled_knows_its_own_images() -> None:
    encoder = vit(2, depth=6)
    small, large = torch.randn(1, 3, 32, 32), torch.randn(1, 3, 48, 64)
    expected = encoder(small)
    for other in (deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        encoder(large)
        torch.testing.assert_close(other(small), expected)


def test_blocks_computed_again_in_the_backward_pass_give_the_same_gradient() -> None:
    images, gradients = torch.randn(1, 3, 40, 56), []
    for again in (False, True):
        encoder = vit(2, depth=6).requires_grad_()
        if again:
            recompute(encoder)
        sum(each.square().mean() for each in encoder.pyramid(images)).backward()  # type: ignore[union-attr]
        gradients.append([weight.grad for weight in encoder.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("name", [name for name in zoo.methods() if name not in REFUSED])
def test_every_method_that_a_vit_takes_works_within_windows(name: str) -> None:
    """At a window of the whole image it says what it says without windows; in a smaller one, something else."""
    method = spec.make(zoo.method(name), {}, name)
    torch.manual_seed(0)
    images = torch.randn(2, 3, 48, 24)
    said = []
    for side in (None, 6, 2):
        torch.manual_seed(1)
        encoder = method.attach(vit(side, depth=6)).eval()
        said.append(encoder.pyramid(images)[-1])
        if said[-1].requires_grad:
            said[-1].square().mean().backward()
        torch.testing.assert_close(fold(encoder).pyramid(images)[-1], said[-1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(said[1], said[0], atol=1e-5, rtol=1e-5)
    assert said[2].shape == said[0].shape
    assert not torch.allclose(said[2], said[0], atol=1e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_attention_of_a_methods_own_is_refused_in_the_plan(name: str, tmp_path: Path) -> None:
    asked = Request(methods=spec.parse(name), suite="mini", backbone="mini(window=2)", results=tmp_path)
    with pytest.raises(InputError, match=rf"method {name} .* mini\(window=2\): .* this backbone has WindowedAttention"):
        cells(asked)


def test_the_arithmetic_is_that_of_the_windows() -> None:
    """A grid of 5 x 7 in windows of 3: counted by hand, by fvcore with our rules, and by torch."""
    counted = [vit(side, depth=6) for side in (None, 3)]
    images = torch.zeros(1, 3, 40, 56)
    tokens = 36
    inside = sum(tall * wide * (tall * wide + 1) for tall in (3, 2) for wide in (3, 3, 1))  # patches by what they see
    saved = 2 * 2 * 48 * (tokens * tokens - inside - tokens)  # 2 blocks, 2 products; the class token sees all
    by_fvcore, by_torch = [], []
    for encoder in counted:
        by_fvcore.append(multiply_adds(encoder, images))
        encoder.requires_grad_()
        by_torch.append(training_flops(encoder, images))
    assert by_fvcore[0] - by_fvcore[1] == saved
    assert by_torch[0] - by_torch[1] == 2 * 3 * saved  # two per multiply-add; backward has each product twice


def test_the_name_of_a_backbone_carries_the_window() -> None:
    described = backbone.describe("mini(window=2)")
    assert described.name == "mini(window=2)"
    assert described.sha256 == backbone.describe("mini").sha256
    windowed, plain = backbone.build("mini(window=2)", "pretrained"), backbone.build("mini", "pretrained")
    torch.testing.assert_close(windowed.state_dict(), plain.state_dict(), rtol=0, atol=0)
    images = torch.randn(2, 3, 64, 64)
    assert not torch.allclose(windowed(images), plain(images))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mini(window=0)", "window=0 must be a number of patches, 1 or more"),
        ("mini(window='a')", "window=a must be a number of patches, 1 or more"),
        ("swin_tiny_patch4_window7_224(window=7)", "a Swin has windows of its own, whose setting is window_size"),
    ],
)
def test_what_is_no_window_is_refused(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        backbone.describe(name)


def test_blocks_without_plain_attention_are_refused() -> None:
    with pytest.raises(InputError, match="window=2 needs blocks with timm's plain Attention, these have Parallel"):
        vit(2, block_fn=ParallelScalingBlock)
