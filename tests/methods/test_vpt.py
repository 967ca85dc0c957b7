"""VPT: the facts of the paper, and the numbers of the official code."""

import dataclasses
import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from vits import count, pickled, vit_base

from petlbench import backbone, contract, zoo
from petlbench.encoder import ViT
from petlbench.errors import InputError
from petlbench.surgery import trained, trained_state

VPT: Any = zoo.method("vpt")


def small(**options: Any) -> ViT:
    model = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=2, **options).eval()
    for weight in model.blocks.parameters():
        weight.data = 0.3 * torch.randn_like(weight)  # timm's own are so small that blocks hardly change a token
    return ViT(model)


def per_block(values: Any) -> Any:
    """The golden values with one tensor of prompts per block, where the official code stacks those behind block 0."""
    tensors = dict(values.tensors)
    for kind in ("param", "grad"):
        first = tensors.pop(f"{kind}/transformer.prompt_embeddings")
        deep = tensors.pop(f"{kind}/transformer.deep_prompt_embeddings", torch.empty(0))
        tensors |= {f"{kind}/{depth}.prompts": prompts for depth, prompts in enumerate([*first, *deep])}
    return dataclasses.replace(values, tensors=tensors)


@pytest.mark.parametrize(
    ("name", "fields"),
    [("vpt_shallow", {"deep": False}), ("vpt_deep", {}), ("vpt_deep_proj", {"project_dim": 12})],
)
def test_logits_and_gradients_equal_those_of_the_official_code(golden: Any, name: str, fields: dict[str, Any]) -> None:
    def official(parameter: str) -> str:
        depth, kind = parameter.removeprefix("model.blocks.").split(".", 1)  # model.blocks.0.prompts
        return f"{depth}.prompts" if kind == "prompts" else f"transformer.{kind.replace('project', 'prompt_proj')}"

    values = per_block(golden(name))
    values.check(VPT(tokens=5, **fields).attach(values.vit()).eval(), official)


@pytest.mark.parametrize(
    ("fields", "weights"),
    [
        ({}, 92_160),  # 12 blocks x 10 prompts x 768
        ({"deep": False}, 7_680),
        ({"tokens": 100}, 926_214 - 769 * 6),  # the official run on DMLab, whose count has the head of 6 classes in it
        ({"tokens": 5}, 351_373 - 769 * 397),  # and on Sun397
        ({"project_dim": 64}, 12 * 10 * 64 + 64 * 768 + 768),
    ],
    ids=str,
)
def test_trained_weights_on_vit_base(fields: dict[str, Any], weights: int) -> None:
    assert count(VPT(**fields).attach(vit_base())) == weights


@pytest.mark.parametrize("project_dim", [None, 6])
def test_prompts_start_uniform_within_the_bound_of_xavier(project_dim: int | None) -> None:
    encoder = VPT(tokens=200, project_dim=project_dim).attach(small())
    bound = math.sqrt(6 / (3 * 8 * 8 + (project_dim or 24)))
    for name, prompts in encoder.named_parameters():
        if name.endswith("prompts"):
            assert prompts.abs().max() <= bound
            assert prompts.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


@pytest.mark.parametrize(("deep", "lengths"), [(True, [17, 17, 17, 17]), (False, [17, 22, 22, 22])])
def test_deep_prompts_are_forgotten_by_their_block_and_shallow_ones_travel(
    deep: bool, lengths: list[int], images: Tensor
) -> None:
    encoder = VPT(tokens=5, deep=deep).attach(small())
    assert [tokens.shape[1] for tokens in encoder.stream(images)] == lengths


@pytest.mark.parametrize("deep", [True, False])
def test_the_order_of_prompts_within_a_block_does_not_matter(deep: bool, images: Tensor) -> None:
    encoder = VPT(tokens=5, deep=deep).attach(small()).eval()
    before = encoder(images)
    for prompts in trained(encoder):
        prompts.data = prompts.data[torch.tensor([3, 1, 4, 0, 2])]
    torch.testing.assert_close(encoder(images), before, rtol=0, atol=1e-5)
    for prompts in trained(encoder):
        prompts.data = torch.randn_like(prompts)
    assert not torch.allclose(encoder(images), before, atol=1e-2)


def test_dropout_acts_on_deep_prompts_in_training_only(images: Tensor) -> None:
    deep, shallow = VPT(dropout=0.5).attach(small()), VPT(dropout=0.5, deep=False).attach(small())
    assert not torch.equal(deep.train()(images), deep(images))
    assert torch.equal(deep.eval()(images), deep(images))
    assert torch.equal(shallow.train()(images), shallow(images))


def test_the_shared_projection_is_stored_once() -> None:
    names = trained_state(VPT(project_dim=6).attach(small())).keys()
    projection = ["model.blocks.0.project.weight", "model.blocks.0.project.bias"]
    assert sorted(names) == sorted([*(f"model.blocks.{depth}.prompts" for depth in range(3)), *projection])


@pytest.mark.parametrize("options", [{}, {"global_pool": "avg"}, {"dynamic_img_size": True}], ids=str)
@pytest.mark.parametrize("deep", [True, False])
def test_prompts_never_reach_a_map(deep: bool, options: dict[str, Any], images: Tensor) -> None:
    encoder = VPT(tokens=7, deep=deep).attach(small(**options))
    assert [tuple(each.shape) for each in encoder.pyramid(images)] == [(2, 24, 4, 4)] * 4


@pytest.mark.parametrize("duplicate", [deepcopy, pickled])
def test_a_copy_says_the_same_and_still_shares_its_projection(duplicate: Any, images: Tensor) -> None:
    encoder = VPT(project_dim=6).attach(small()).eval()
    copy = duplicate(encoder)
    assert torch.equal(copy(images), encoder(images))
    assert copy.blocks[0].project is copy.blocks[2].project


@pytest.mark.parametrize("fields", [{"tokens": 0}, {"project_dim": 0}], ids=str)
def test_sizes_below_one_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(InputError, match="must be at least 1"):
        VPT(**fields)


# In a Swin


def test_trained_weights_on_swin_base() -> None:
    widths = 2 * 128 + 2 * 256 + 18 * 512 + 2 * 1024
    with torch.device("meta"):
        assert count(VPT(tokens=5).attach(backbone.build("swin_base_patch4_window7_224"))) == 5 * widths


@pytest.mark.parametrize("block", [0, 1], ids=["windows", "shifted windows"])
def test_prompts_join_every_window_without_a_relative_position(block: int) -> None:
    """The official way: prompts in front of the patches of each window, normalised with them, then forgotten."""
    torch.manual_seed(0)
    swin = contract.tiny_swin()
    frozen: Any = deepcopy(swin.blocks[block]).eval()
    prompted: Any = VPT(tokens=5).attach(swin).eval().blocks[block]
    prompted.attn.prompts.data = torch.randn(5, 16)
    images = torch.randn(2, 16, 16, 16)

    def attend(patches: Tensor, mask: Tensor | None) -> Tensor:
        prompts = frozen.norm1(prompted.attn.prompts).expand(len(patches), -1, -1)
        tokens = torch.cat([prompts, patches], dim=1)
        q, k, v = frozen.attn.qkv(tokens).reshape(len(patches), 21, 3, 1, 16).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / 16**0.5
        scores[..., 5:, 5:] += frozen.attn._get_rel_pos_bias()
        if mask is not None:
            scores.view(2, -1, 1, 21, 21)[..., 5:, 5:] += mask.unsqueeze(1)
        return frozen.attn.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(len(patches), 21, 16))[:, 5:]

    with torch.no_grad():
        found = prompted(images)
        frozen.attn.forward = attend
        torch.testing.assert_close(found, frozen(images), rtol=0, atol=1e-5)


def test_every_block_of_a_swin_has_prompts_of_its_width_that_get_a_gradient(images: Tensor) -> None:
    encoder: Any = VPT(tokens=5).attach(contract.tiny_swin())
    (encoder(images) * torch.randn(128)).sum().backward()
    prompts = [block.attn.prompts for block in encoder.blocks]
    assert [tuple(each.shape) for each in prompts] == [(5, width) for width in (16, 16, 32, 32, 64, 64, 128, 128)]
    assert all(each.grad.abs().sum() > 0 for each in prompts)
    assert [name for name, weight in encoder.named_parameters() if weight.requires_grad] == [
        name for name, _ in encoder.named_parameters() if name.endswith("attn.prompts")
    ]


def test_prompts_of_a_swin_start_within_the_bound_of_its_own_patches() -> None:
    encoder: Any = VPT(tokens=200).attach(contract.tiny_swin())
    bound = math.sqrt(6 / (3 * 2 * 2 + 16))
    for block in encoder.blocks:
        assert block.attn.prompts.abs().max() <= bound
        assert block.attn.prompts.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_dropout_acts_on_the_prompts_of_a_swin_in_training_only(images: Tensor) -> None:
    encoder = VPT(dropout=0.5).attach(contract.tiny_swin())
    assert not torch.equal(encoder.train()(images), encoder(images))
    assert torch.equal(encoder.eval()(images), encoder(images))


@pytest.mark.parametrize("fields", [{"deep": False}, {"project_dim": 4}], ids=str)
def test_a_swin_takes_deep_prompts_of_full_width_only(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="in a Swin, prompts are deep and as wide as their block"):
        VPT(**fields).attach(contract.tiny_swin())
