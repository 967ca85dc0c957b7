"""BitFit: the biases of the backbone, and nothing else, are trained."""

from typing import Any

from timm.models.vision_transformer import VisionTransformer
from vits import count, vit_base

from petlbench import zoo
from petlbench.encoder import ViT

BitFit: Any = zoo.method("bitfit")


def test_vit_base_has_102_912_biases() -> None:
    assert count(BitFit().attach(vit_base())) == 102_912


def test_the_biases_of_patch_embedding_and_norms_are_among_them(golden: Any) -> None:
    encoder = BitFit().attach(golden("lora_qv").vit())
    names = {name.removeprefix("model.") for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    block = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    expected = {f"blocks.{depth}.{layer}.bias" for depth in range(4) for layer in block}
    assert names == expected | {"patch_embed.proj.bias", "norm.bias"}


def test_a_backbone_without_qkv_biases_keeps_the_others() -> None:
    model = VisionTransformer(img_size=16, patch_size=8, embed_dim=8, depth=1, num_heads=2, qkv_bias=False)
    # patch embedding, two norms, attention output, hidden layer, MLP output, final norm
    assert count(BitFit().attach(ViT(model))) == 8 + 2 * 8 + 8 + 32 + 8 + 8
