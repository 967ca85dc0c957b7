"""FLOPs: exact by hand on a tiny ViT, the textbook figure on ViT-B/16, and no operator goes uncounted."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from petlbench.encoder import ViT
from petlbench.flops import UncountedOperator, multiply_adds, training_flops

IMAGE = torch.zeros(1, 3, 8, 8)

# A VisionTransformer for images of 32 x 32 in patches of 8 x 8, with 4 blocks of width 48 and a head of 5 classes.
TOKENS = 1 + 4 * 4
PATCHES = 16 * (3 * 8 * 8) * 48
BLOCK = (
    TOKENS * 48 * (3 * 48)  # queries, keys and values
    + 2 * TOKENS * TOKENS * 48  # queries by keys, weights by values
    + TOKENS * 48 * 48  # projection
    + 2 * TOKENS * 48 * (4 * 48)  # MLP
)
NORM = 5 * TOKENS * 48
HEAD = 48 * 5


class Formula(nn.Module):
    """A function of images as a network."""

    def __init__(self, formula: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, images: Tensor) -> Tensor:
        return self.formula(images)


class Product(torch.autograd.Function):
    """A function with a backward pass of its own, into which a trace cannot look."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return x @ torch.ones(8, 5)


class Separate(torch.autograd.Function):
    """The same in torch's newer form, with the context apart."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x @ torch.ones(8, 5)

    @staticmethod
    def setup_context(context: Any, inputs: Any, output: Any) -> None:
        context.save_for_backward(*inputs)


@pytest.fixture
def tiny() -> nn.Sequential:
    model = VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=4, num_heads=4)
    return nn.Sequential(ViT(model), nn.Linear(48, 5)).eval()


def fuse(network: nn.Module, fused: bool) -> None:
    """Compute attention by one fused operator, or by two products and a softmax."""
    for module in network.modules():
        if isinstance(module, Attention):
            setattr(module, "fused_attn", fused)  # noqa: B010  timm calls it final


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_a_tiny_vit_counts_what_the_arithmetic_says(tiny: nn.Sequential, fused: bool) -> None:
    fuse(tiny, fused)
    expected = PATCHES + 4 * BLOCK + (4 * 2 + 1) * NORM + HEAD
    assert multiply_adds(tiny, torch.zeros(1, 3, 32, 32)) == expected


def test_training_a_head_costs_two_flops_per_multiply_add_and_the_gradient_of_the_head(tiny: nn.Sequential) -> None:
    assert training_flops(tiny, torch.zeros(1, 3, 32, 32)) == 2 * (PATCHES + 4 * BLOCK + HEAD) + 2 * HEAD


def test_full_training_costs_two_more_products_for_each_of_the_forward_pass(tiny: nn.Sequential) -> None:
    forward = PATCHES + 4 * BLOCK + HEAD
    to_the_image = PATCHES  # nobody asks for the gradient of the pixels
    assert training_flops(tiny.requires_grad_(True), torch.zeros(1, 3, 32, 32)) == 2 * (3 * forward - to_the_image)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_vit_base_at_224_takes_17_58_billion_multiply_adds(fused: bool) -> None:
    vit = ViT(VisionTransformer()).eval()  # timm's defaults are those of ViT-B/16
    fuse(vit, fused)
    image = torch.zeros(1, 3, 224, 224)
    counted = multiply_adds(vit, image)
    assert counted == 17_581_972_224
    fuse(vit, False)  # torch 2.6 does not count the CPU's fused attention
    with FlopCounterMode(display=False) as torchs, torch.no_grad():
        vit(image)
    assert counted - torchs.get_total_flops() // 2 == 25 * 5 * 197 * 768  # torch does not count the 25 norms


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        pytest.param(lambda x: x[0] @ torch.ones(8, 5), 3 * 8 * 8 * 5, id="batch by matrix"),
        pytest.param(lambda x: torch.ones(5, 8) @ x[0], 3 * 5 * 8 * 8, id="matrix by batch"),
        pytest.param(lambda x: x[0] @ torch.ones(8), 3 * 8 * 8, id="batch by vector"),
        pytest.param(lambda x: x[0, 0] @ torch.ones(8), 8 * 8, id="matrix by vector"),
        pytest.param(lambda x: torch.mv(x[0, 0], torch.ones(8)), 8 * 8, id="mv"),
        pytest.param(lambda x: torch.dot(x[0, 0, 0], torch.ones(8)), 8, id="dot"),
        pytest.param(lambda x: torch.mm(x[0, 0], torch.ones(8, 5)), 8 * 8 * 5, id="mm"),
        pytest.param(lambda x: torch.addmm(torch.ones(5), x[0, 0], torch.ones(8, 5)), 8 * 8 * 5, id="addmm"),
        pytest.param(lambda x: torch.bmm(x[0], x[0]), 3 * 8 * 8 * 8, id="bmm"),
        pytest.param(lambda x: torch.baddbmm(x[0], x[0], x[0]), 3 * 8 * 8 * 8, id="baddbmm"),
        pytest.param(lambda x: torch.einsum("bchw,cd->bdhw", x, torch.ones(3, 5)), 3 * 8 * 8 * 5, id="einsum"),
        pytest.param(lambda x: torch.einsum("...w, wd", x, torch.ones(8, 5)), 3 * 8 * 8 * 5, id="einsum ellipsis"),
        pytest.param(lambda x: torch.einsum("bchw->bwhc", x), 0, id="einsum of one"),
        pytest.param(
            lambda x: torch.einsum("cij,jr,rk->cik", x[0], torch.ones(8, 2), torch.ones(2, 9)),
            3 * 8 * 8 * 2 + 3 * 8 * 2 * 9,
            id="einsum of three",
        ),
        pytest.param(
            lambda x: F.scaled_dot_product_attention(x, torch.ones(1, 3, 6, 8), torch.ones(1, 3, 6, 4)),
            3 * 8 * 6 * (8 + 4),
            id="cross attention",
        ),
        pytest.param(lambda x: F.conv2d(x, torch.ones(5, 3, 3, 3), padding=1), 5 * 3 * 3 * 3 * 64, id="conv"),
        pytest.param(lambda x: F.conv2d(x, torch.ones(3, 1, 3, 3), groups=3), 3 * 3 * 3 * 36, id="depthwise conv"),
        pytest.param(lambda x: F.conv_transpose2d(x, torch.ones(3, 5, 2, 2), stride=2), 64 * 3 * 5 * 4, id="deconv"),
        pytest.param(lambda x: Product.apply(x), 3 * 8 * 8 * 5, id="function"),
        pytest.param(lambda x: Separate.apply(x), 3 * 8 * 8 * 5, id="function with the context apart"),
        pytest.param(
            lambda x: torch.linalg.solve(torch.eye(8) + 0 * x, x[..., :5]), 3 * 8**3 / 3 + 3 * 8 * 8 * 5, id="solve"
        ),
        pytest.param(lambda x: torch.fft.fft(x).real, 2 * 192 * 3, id="Fourier, of rows"),
        pytest.param(lambda x: torch.fft.ifft2(x).real, 2 * 192 * 6, id="Fourier, of planes"),
        pytest.param(lambda x: F.layer_norm(x, (8,), torch.ones(8), torch.ones(8)), 5 * 192, id="layer norm"),
        pytest.param(lambda x: F.rms_norm(x, (8,), torch.ones(8)), 5 * 192, id="rms norm"),
        pytest.param(lambda x: F.batch_norm(x, torch.zeros(3), torch.ones(3)), 192, id="batch norm"),
        pytest.param(lambda x: F.adaptive_avg_pool2d(x, 1), 192, id="adaptive pooling"),
        pytest.param(lambda x: F.avg_pool2d(x, 2), 192, id="pooling"),
        pytest.param(lambda x: F.interpolate(x, size=(16, 16), mode="bilinear"), 4 * 768, id="bilinear"),
        pytest.param(lambda x: F.interpolate(x, size=(16, 16), mode="bicubic"), 16 * 768, id="bicubic"),
        pytest.param(
            lambda x: F.interpolate(x, size=(16, 16), mode="bilinear", antialias=True), 4 * 768, id="antialiased, up"
        ),
        pytest.param(
            lambda x: F.interpolate(x, size=(4, 4), mode="bicubic", antialias=True), 16 * 48 * 4, id="antialiased, down"
        ),
    ],
)
def test_each_operator_counts_its_own_arithmetic(formula: Callable[[Tensor], Tensor], expected: int) -> None:
    assert multiply_adds(Formula(formula), IMAGE) == expected


@pytest.mark.parametrize(
    "formula",
    [
        pytest.param(lambda x: F.gelu(x * 2 + 1).softmax(-1), id="elementwise"),
        pytest.param(lambda x: F.dropout(torch.cat([x, x]).expand(2, 3, 8, 8)[:, [0, 2]]), id="copies"),
        pytest.param(lambda x: F.normalize(x.mean((2, 3)), dim=-1), id="sums"),
        pytest.param(lambda x: x.clone().add_(1).mul_(2), id="in place"),
    ],
)
def test_cheap_operators_are_free(formula: Callable[[Tensor], Tensor]) -> None:
    assert multiply_adds(Formula(formula), IMAGE) == 0


@pytest.mark.parametrize(
    ("formula", "name"),
    [
        pytest.param(lambda x: torch.linalg.qr(x)[0], "aten::linalg_qr", id="operator"),
    ],
)
def test_an_operator_without_a_rule_is_an_error_that_names_it(formula: Callable[[Tensor], Tensor], name: str) -> None:
    with pytest.raises(UncountedOperator, match=name):
        multiply_adds(Formula(formula), IMAGE)


def test_functions_are_themselves_again_afterwards() -> None:
    before = vars(torch.autograd.Function)["apply"]
    multiply_adds(Formula(lambda x: Product.apply(x)), IMAGE)
    assert vars(torch.autograd.Function)["apply"] is before
