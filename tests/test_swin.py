"""The frozen Swin, and the halves of its blocks: they say what timm's model says."""

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from torch import Tensor
from vits import count

from petlbench import backbone, blocks, contract, zoo
from petlbench.encoder import Swin, ViT
from petlbench.errors import InputError


@pytest.fixture
def swin() -> Swin:
    return contract.tiny_swin().eval()


def test_the_vector_is_what_timm_returns_without_a_classifier(swin: Swin, images: Tensor) -> None:
    assert torch.equal(swin(images), swin.model(images))
    assert swin(images).shape == (2, swin.width)


def test_the_pyramid_is_what_the_four_stages_return(swin: Swin, images: Tensor) -> None:
    found = swin.pyramid(images)
    expected = swin.model.forward_intermediates(images, intermediates_only=True)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert [tuple(each.shape) for each in found] == [(2, 16, 16, 16), (2, 32, 8, 8), (2, 64, 4, 4), (2, 128, 2, 2)]
    assert swin.strides == (2, 4, 8, 16)


@pytest.mark.parametrize("make", [contract.tiny_vit, contract.tiny_swin])
def test_a_block_is_its_two_halves(make: Any, images: Tensor) -> None:
    encoder = make(init_values=0.3).eval() if make is contract.tiny_vit else make().eval()
    block = encoder.blocks[1]  # the one with shifted windows
    tokens = torch.randn(2, 17, 48) if make is contract.tiny_vit else torch.randn(2, 16, 16, 16)
    halfway = tokens + blocks.attention(block, tokens)
    torch.testing.assert_close(halfway + blocks.mlp(block, halfway), block(tokens), rtol=0, atol=1e-6)


def test_a_block_without_two_halves_is_refused_by_name() -> None:
    model = VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=4, block_fn=ResPostBlock)
    with pytest.raises(InputError, match=r"blocks of type ResPostBlock.*valid: Block, SwinTransformerBlock"):
        zoo.method("adaptformer")().attach(ViT(model))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mini", "ViT"),
        ("vit_base_patch16_224.augreg_in21k", "ViT"),
        ("deit_tiny_patch16_224", "ViT"),
        ("swin_base_patch4_window7_224.ms_in22k", "Swin"),
    ],
)
def test_the_kind_of_a_backbone_is_known_by_its_name(name: str, kind: str) -> None:
    assert backbone.kind(name) == kind


def test_swin_is_built_by_its_name_at_the_size_that_is_asked_for() -> None:
    with torch.device("meta"):
        encoder = backbone.build("swin_base_patch4_window7_224")
    assert isinstance(encoder, Swin)
    assert sum(weight.numel() for weight in encoder.parameters()) == 86_743_224  # 87.8 M with the 1000 classes
    assert (encoder.width, encoder.channels, encoder.strides) == (1024, (128, 256, 512, 1024), (4, 8, 16, 32))
    larger = backbone.build("swin_tiny_patch4_window7_224", image_size=256)
    assert larger(torch.randn(1, 3, 256, 256)).shape == (1, 768)


def test_weights_of_a_swin_are_read_from_a_file_in_the_original_layout(tmp_path: Any, images: Tensor) -> None:
    torch.manual_seed(1)
    reference = backbone.build("swin_tiny_patch4_window7_224", image_size=64)
    state = {name.replace("head.fc", "head"): value for name, value in reference.model.state_dict().items()}
    torch.save({"model": state}, tmp_path / "swin.pth")
    loaded = backbone.build("swin_tiny_patch4_window7_224", str(tmp_path / "swin.pth"), image_size=64)
    pictures = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded.eval()(pictures), reference.eval()(pictures))
    with pytest.raises(InputError, match="not weights of this backbone, the file lacks"):
        backbone.build("swin_base_patch4_window7_224", str(tmp_path / "swin.pth"), image_size=64)


def test_the_two_ends_of_the_scale_train_all_or_nothing() -> None:
    with torch.device("meta"):
        assert count(zoo.method("linear")().attach(backbone.build("swin_base_patch4_window7_224"))) == 0
        assert count(zoo.method("full")().attach(backbone.build("swin_base_patch4_window7_224"))) == 86_743_224
