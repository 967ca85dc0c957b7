"""The frozen ViT: it says what timm's model says, and tokens that a method adds never reach a head."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from vits import pickled

from petlbench.encoder import ViT

MODELS: dict[str, dict[str, Any]] = {
    "class token": {},
    "registers": {"reg_tokens": 3, "no_embed_class": True},
    "average": {"global_pool": "avg"},
    "average, no class token": {"global_pool": "avg", "class_token": False},
    "average of all tokens": {"global_pool": "avg", "pool_include_prefix": True, "reg_tokens": 2},
    "attention pooling": {"global_pool": "map", "class_token": False},
    "norm in front": {"pre_norm": True},
    "layer scale": {"init_values": 0.1, "qkv_bias": False},
    "any size": {"dynamic_img_size": True},
}


def timm_model(**options: Any) -> VisionTransformer:
    torch.manual_seed(0)
    options = {"img_size": 32, "num_classes": 0, **options}
    model = VisionTransformer(patch_size=8, embed_dim=24, depth=4, num_heads=2, **options).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)  # class tokens and the like start too near to zero to tell them apart
    return model


@pytest.fixture(params=list(MODELS))
def model(request: pytest.FixtureRequest) -> VisionTransformer:
    return timm_model(**MODELS[request.param])


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class Adding(nn.Module):
    """A block that leaves five more tokens behind the others."""

    def __init__(self, block: nn.Module, value: float) -> None:
        super().__init__()
        self.block = block
        self.value = value

    def forward(self, tokens: Tensor) -> Tensor:
        return nn.functional.pad(self.block(tokens), (0, 0, 0, 5), value=self.value)


def test_the_vector_is_what_timm_returns_without_a_classifier(model: VisionTransformer, images: Tensor) -> None:
    expected = model(images)
    vit = ViT(model)
    assert expected.shape == (2, vit.width)
    torch.testing.assert_close(vit(images), expected)


def test_the_classifier_of_a_timm_model_is_taken_off(images: Tensor) -> None:
    model = timm_model(num_classes=7)
    expected = model.forward_head(model.forward_features(images), pre_logits=True)
    vit = ViT(model)
    torch.testing.assert_close(vit(images), expected)
    assert not any(name.startswith("head") for name, _ in vit.model.named_parameters())


def test_every_weight_is_frozen(model: VisionTransformer) -> None:
    assert not any(parameter.requires_grad for parameter in ViT(model).parameters())


def test_tokens_added_behind_the_last_block_change_nothing(model: VisionTransformer, images: Tensor) -> None:
    vit = ViT(model)
    vector, maps = vit(images), vit.pyramid(images)
    vit.blocks[3] = Adding(vit.blocks[3], value=9.0)
    torch.testing.assert_close(vit(images), vector)
    torch.testing.assert_close(vit.pyramid(images), maps)


def test_tokens_added_by_every_block_are_attended_to_but_never_returned(
    model: VisionTransformer, images: Tensor
) -> None:
    vit = ViT(model)
    vector, maps = vit(images), vit.pyramid(images)
    for depth in range(4):
        vit.blocks[depth] = Adding(vit.blocks[depth], value=0.5)
    lengths = [tokens.shape[1] - vit.prefix for tokens in vit.stream(images)]
    assert lengths == [16, 21, 26, 31, 36]
    assert vit(images).shape == vector.shape
    assert [each.shape for each in vit.pyramid(images)] == [each.shape for each in maps]
    assert not torch.allclose(vit(images), vector)


def test_the_pyramid_holds_the_patches_behind_each_quarter(model: VisionTransformer, images: Tensor) -> None:
    expected = model.forward_intermediates(images, indices=[0, 1, 2, 3], intermediates_only=True)
    torch.testing.assert_close(ViT(model).pyramid(images), expected)


def test_the_pyramid_has_the_declared_channels_and_strides(model: VisionTransformer, images: Tensor) -> None:
    vit = ViT(model)
    assert (vit.channels, vit.strides) == ((24,) * 4, (8,) * 4)
    assert [tuple(each.shape) for each in vit.pyramid(images)] == [(2, 24, 4, 4)] * 4


@pytest.mark.parametrize(("depth", "taps"), [(12, [3, 6, 9, 12]), (6, [1, 3, 4, 6]), (4, [1, 2, 3, 4])])
def test_the_pyramid_taps_evenly_spaced_blocks(depth: int, taps: list[int], images: Tensor) -> None:
    vit = ViT(VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=depth, num_heads=2)).eval()
    stream = list(vit.stream(images))
    assert len(stream) == depth + 1
    torch.testing.assert_close(vit.pyramid(images), [vit.map(stream[tap], images) for tap in taps])


def test_maps_have_rows_and_columns_in_the_order_of_the_image() -> None:
    vit = ViT(timm_model(dynamic_img_size=True))
    tokens = torch.arange(1 + 2 * 3).float().view(1, -1, 1).expand(1, -1, 24)  # a class token, 2 rows, 3 columns
    assert vit.map(tokens, torch.empty(1, 3, 16, 24))[0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("size", [(32, 32), (48, 24), (16, 64)])
def test_images_of_any_size_can_be_encoded(size: tuple[int, int]) -> None:
    model, images = timm_model(dynamic_img_size=True), torch.randn(2, 3, *size)
    expected = model(images)
    vit = ViT(model)
    torch.testing.assert_close(vit(images), expected)
    assert {tuple(each.shape) for each in vit.pyramid(images)} == {(2, 24, size[0] // 8, size[1] // 8)}


@pytest.mark.parametrize("duplicate", [deepcopy, pickled])
def test_a_copy_says_the_same_and_shares_no_weight(duplicate: Any, model: VisionTransformer, images: Tensor) -> None:
    vit = ViT(model)
    copy = duplicate(vit)
    torch.testing.assert_close(copy(images), vit(images))
    before = vit(images)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    assert torch.equal(vit(images), before)
