"""eTT: the counts of the official code on its ViT-S, and that folding leaves plain prefixes."""

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from vits import count, perturbed, pickled, small, vit_base

from petlbench import zoo
from petlbench.encoder import ViT
from petlbench.errors import InputError
from petlbench.surgery import fold, trained, trained_state

ETT: Any = zoo.method("ett")


@pytest.mark.parametrize("prefixes", [5, 50])
def test_trained_weights_on_the_vit_s_of_the_paper(prefixes: int) -> None:
    with torch.device("meta"):
        encoder = ETT(prefixes=prefixes).attach(ViT(VisionTransformer(embed_dim=384, num_heads=6)))
    assert count(encoder) == 384 * prefixes + 1_852_608 + 9_216  # prefixes, MLP, offsets


def test_trained_weights_on_vit_base() -> None:
    # 10 prefixes, 768 -> 384, 12 blocks of 384 -> 2 x 768, and 24 offsets
    assert count(ETT().attach(vit_base())) == 7_680 + 295_296 + 12 * 591_360 + 18_432


def test_offsets_start_at_zero_and_shift_both_halves_of_a_block() -> None:
    block: Any = ETT().attach(small()).blocks[0]
    tokens = torch.randn(2, 17, 24)
    attention, mlp = block.attn(tokens), block.mlp(tokens)
    for linear, shift in ((block.attn.attn.proj, 0.5), (block.mlp.fc2, -0.25)):
        assert not linear.offset.any()
        linear.offset.data.fill_(shift)
    torch.testing.assert_close(block.attn(tokens), attention + 0.5)
    torch.testing.assert_close(block.mlp(tokens), mlp - 0.25)


def test_all_blocks_read_the_same_prefixes_through_a_last_layer_of_their_own(images: Tensor) -> None:
    encoder = ETT().attach(small())
    first, second = (block.attn for block in encoder.blocks)
    assert first.trunk is second.trunk
    assert not torch.equal(first.prefixes(), second.prefixes())
    names = [name for name in trained_state(encoder) if "trunk" in name]
    assert names == [f"model.blocks.0.attn.trunk.{name}" for name in ("prefixes", "down.weight", "down.bias")]
    assert pickled(encoder).blocks[0].attn.trunk is not None


@pytest.mark.parametrize("options", [{}, {"proj_bias": False}, {"qk_norm": True}, {"init_values": 0.1}], ids=str)
def test_folding_is_exact_and_leaves_two_prefixes_per_block(options: dict[str, Any], images: Tensor) -> None:
    encoder = perturbed(ETT(prefixes=3).attach(small(**options))).eval()
    before = encoder(images)
    fold(encoder)
    torch.testing.assert_close(encoder(images), before, rtol=0, atol=1e-5)
    assert list(trained(encoder)) == []
    for block in encoder.blocks:
        assert block.attn.keys.shape == block.attn.values.shape == (2, 3, 12)
    weights = sum(weight.numel() for weight in encoder.parameters())
    plain = sum(weight.numel() for weight in small(**options | {"proj_bias": True}).parameters())
    assert weights - plain == (2 * 2 * 3 - (2 * 4 if not options.get("proj_bias", True) else 0)) * 24


def test_folding_takes_the_mlp_out_of_every_forward_pass(images: Tensor) -> None:
    encoder = fold(ETT().attach(small()))
    assert not any("trunk" in name or "up" in name.split(".") for name, _ in encoder.named_modules())


def test_another_kind_of_attention_is_refused() -> None:
    vit = small()
    vit.blocks[1].attn = nn.Identity()
    with pytest.raises(InputError, match="prefixes need timm's plain Attention"):
        ETT().attach(vit)


@pytest.mark.parametrize("fields", [{"prefixes": 0}, {"hidden": 0}], ids=str)
def test_sizes_below_one_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(InputError, match="must be at least 1"):
        ETT(**fields)
