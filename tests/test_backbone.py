"""Backbones by name and weights from files: every layout that the field passes around, and every way to be wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from petlbench import backbone
from petlbench.encoder import ViT
from petlbench.errors import InputError

NAME = "test_vit"  # of timm: 160 x 160 pixels, patch 16, width 64, 6 blocks
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def reference() -> timm.models.VisionTransformer:
    torch.manual_seed(0)
    model = timm.create_model(NAME, num_classes=7).eval()
    for value in model.parameters():  # no zero and no one that a mistake could hide behind
        torch.nn.init.normal_(value, std=0.1)
    return model


def plain(state: State, file: Path) -> Path:
    save_file(state, file.with_suffix(".safetensors"))
    return file.with_suffix(".safetensors")


def half(state: State, file: Path) -> Path:
    return plain({key: value.half().contiguous() for key, value in state.items()}, file)


def pth(state: State, file: Path) -> Path:
    torch.save(state, file.with_suffix(".pth"))
    return file.with_suffix(".pth")


def deit(state: State, file: Path) -> Path:
    torch.save({"model": state, "epoch": 3}, file.with_suffix(".pth"))
    return file.with_suffix(".pth")


def mae(state: State, file: Path) -> Path:
    """As pre-training writes it: with a decoder, without a classifier."""
    encoder = {key: value for key, value in state.items() if not key.startswith("head")}
    extra = {"mask_token": torch.zeros(1, 1, 8), "decoder_blocks.0.norm1.weight": torch.zeros(8)}
    return deit({**encoder, **extra}, file)


def mae_lite(state: State, file: Path) -> Path:
    """As MAE-Lite writes it: behind the name of its wrapper, and that of DistributedDataParallel."""
    decoder = {"decoder_embed.weight": torch.zeros(8)}
    return deit({f"module.model.{key}": value for key, value in {**state, **decoder}.items()}, file)


def google(state: State, file: Path) -> Path:
    """Google's .npz: other names, kernels transposed, one kernel per head."""
    heads, width = timm.create_model(NAME).blocks[0].attn.num_heads, state["pos_embed"].shape[-1]
    arrays = {
        "cls": state["cls_token"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "embedding/kernel": state["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
    }
    for depth in range(len(timm.create_model(NAME).blocks)):
        ours, theirs = f"blocks.{depth}.", f"Transformer/encoderblock_{depth}/"
        attention = f"{theirs}MultiHeadDotProductAttention_1/"
        for number, name in enumerate(("query", "key", "value")):
            rows = slice(number * width, (number + 1) * width)
            kernel = state[f"{ours}attn.qkv.weight"][rows].T.reshape(width, heads, -1)
            arrays[f"{attention}{name}/kernel"] = kernel
            arrays[f"{attention}{name}/bias"] = state[f"{ours}attn.qkv.bias"][rows].reshape(heads, -1)
        arrays[f"{attention}out/kernel"] = state[f"{ours}attn.proj.weight"].T.reshape(heads, -1, width)
        arrays[f"{attention}out/bias"] = state[f"{ours}attn.proj.bias"]
        for number in (0, 1):
            arrays[f"{theirs}MlpBlock_3/Dense_{number}/kernel"] = state[f"{ours}mlp.fc{number + 1}.weight"].T
            arrays[f"{theirs}MlpBlock_3/Dense_{number}/bias"] = state[f"{ours}mlp.fc{number + 1}.bias"]
        for name, norm in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2")):
            arrays[f"{theirs}{name}/scale"] = state[f"{ours}{norm}.weight"]
            arrays[f"{theirs}{name}/bias"] = state[f"{ours}{norm}.bias"]
    np.savez(file.with_suffix(".npz"), **{key: value.detach().numpy() for key, value in arrays.items()})
    return file.with_suffix(".npz")


@pytest.mark.parametrize("layout", [plain, half, pth, deit, mae, mae_lite, google])
def test_a_weights_file_of_any_layout_gives_the_same_encoder(
    reference: timm.models.VisionTransformer, tmp_path: Path, layout: Callable[[State, Path], Path]
) -> None:
    file = layout({key: value.detach() for key, value in reference.state_dict().items()}, tmp_path / "wéights of mine")
    vit = backbone.build(NAME, str(file)).eval()
    images = torch.randn(2, 3, 160, 160)
    expected = reference.forward_head(reference.forward_features(images), pre_logits=True)
    torch.testing.assert_close(vit(images), expected, rtol=0, atol=2e-2 if layout is half else 1e-5)
    assert not any(value.requires_grad for value in vit.parameters())


def test_a_name_may_carry_settings_of_the_architecture(reference: timm.models.VisionTransformer) -> None:
    vit = backbone.build("vit_tiny_patch16_224(num_heads=12, global_pool='avg')")
    assert isinstance(vit, ViT)
    assert (vit.heads, vit.width, vit.model.global_pool) == (12, 192, "avg")
    described = backbone.describe("vit_tiny_patch16_224( num_heads = 12 )", "random")
    assert described.name == "vit_tiny_patch16_224(num_heads=12)"
    assert backbone.kind(described.name) == "ViT"
    assert backbone.build("mini(reg_tokens=2)").prefix == 3  # type: ignore[union-attr]


def test_position_embeddings_follow_the_image_size(reference: timm.models.VisionTransformer, tmp_path: Path) -> None:
    file = plain(reference.state_dict(), tmp_path / "weights")
    vit = backbone.build(NAME, str(file), image_size=96)
    assert vit.model.pos_embed.shape == (1, 1 + 6 * 6, 64)
    assert vit(torch.randn(1, 3, 96, 96)).shape == (1, 64)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: {k: v for k, v in s.items() if "blocks.5" not in k}, "lacks blocks.5.norm1.weight, "),
        (lambda s: s | {"blocks.6.norm1.weight": torch.zeros(64)}, "also holds blocks.6.norm1.weight"),
        (lambda s: s | {"blocks.0.norm1.weight": torch.zeros(65)}, "has the wrong shape for blocks.0.norm1.weight"),
        (lambda s: {"conv1.weight": torch.zeros(3)}, "lacks "),
    ],
)
def test_weights_of_another_architecture_are_refused_with_the_keys_that_do_not_fit(
    reference: timm.models.VisionTransformer, tmp_path: Path, change: Callable[[State], State], said: str
) -> None:
    file = plain(change(dict(reference.state_dict())), tmp_path / "weights")
    with pytest.raises(InputError, match=r"weights\.safetensors: not weights of this backbone") as refusal:
        backbone.build(NAME, str(file))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "npz", "bin"])
@pytest.mark.parametrize("content", [b"", b"garbage " * 100, None])
def test_a_file_that_is_no_weights_is_refused_in_one_line(tmp_path: Path, suffix: str, content: bytes | None) -> None:
    file = tmp_path / f"weights.{suffix}"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=rf"--weights .*weights\.{suffix}: ") as refusal:
        backbone.build(NAME, str(file))
    assert "\n" not in str(refusal.value)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'owned')!r}, 'w')",)

    torch.save({"model": Hostile()}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="cannot be read"):
        backbone.build(NAME, str(tmp_path / "weights.pth"))
    assert not (tmp_path / "owned").exists()


def test_a_checkpoint_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="holds no state dict"):
        backbone.build(NAME, str(tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    ("name", "mean", "size"),
    [
        ("vit_base_patch16_224", 0.5, 224),
        ("vit_base_patch16_224.augreg_in21k", 0.5, 224),
        ("vit_base_patch16_224.mae", 0.485, 224),
        ("vit_base_patch16_clip_224.openai", 0.48145466, 224),
        ("deit_tiny_patch16_224", 0.485, 224),
        ("mini", 0.5, 64),
    ],
)
def test_images_are_prepared_as_the_backbone_was_pre_trained(name: str, mean: float, size: int) -> None:
    described = backbone.describe(name, "random")
    assert described.mean[0] == mean
    assert described.image_size == size


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vit_base_patch16_225", "unknown backbone 'vit_base_patch16_225': did you mean vit_base_patch16_224"),
        (
            "vit_base_patch16_224.augreg_in22k",
            "unknown weights of backbone vit_base_patch16_224: 'augreg_in22k': did you mean augreg_in21k",
        ),
        ("vit_tiny_patch16_224(heads=12)", "unknown setting of backbone vit_tiny_patch16_224: 'heads': "),
        ("resnet50", "backbone 'resnet50' is neither ViT nor Swin"),
    ],
)
def test_an_unknown_backbone_is_refused_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        backbone.describe(name)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_weights_that_cannot_be_fetched_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    with pytest.raises(InputError, match=r"could not fetch its weights .* --weights FILE or --weights random"):
        backbone.build("vit_tiny_patch16_224", backbone.PRETRAINED)
