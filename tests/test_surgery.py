"""Surgery on built networks: replacing modules by path, folding, and what has to be stored of a trained network."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from petlbench import contract
from petlbench.encoder import ViT
from petlbench.surgery import fold, replace, trained, trained_state


class Doubled(nn.Module):
    """Twice what another module says; mergeable where that module is linear."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * self.inner(inputs)

    def fold(self) -> nn.Module:
        assert isinstance(self.inner, nn.Linear), "fold the inner module first"
        with torch.no_grad():
            for parameter in self.inner.parameters():
                parameter.mul_(2)
        return self.inner


@pytest.fixture
def vit() -> ViT:
    return ViT(VisionTransformer(img_size=16, patch_size=8, embed_dim=16, depth=3, num_heads=2, num_classes=0)).eval()


def doubled(root: nn.Module) -> list[str]:
    return [name for name, module in root.named_modules() if isinstance(module, Doubled)]


def test_a_star_stands_for_every_block(vit: ViT) -> None:
    replace(vit, "blocks.*.attn.qkv", Doubled)
    assert doubled(vit) == [f"model.blocks.{depth}.attn.qkv" for depth in range(3)]


def test_a_path_without_a_star_replaces_one_module(vit: ViT) -> None:
    replace(vit, "blocks.1.mlp.fc2", Doubled)
    assert doubled(vit) == ["model.blocks.1.mlp.fc2"]


def test_a_star_stands_for_exactly_one_part_of_a_path(vit: ViT) -> None:
    with pytest.raises(LookupError):
        replace(vit, "blocks.*.qkv", Doubled)
    with pytest.raises(LookupError):
        replace(vit, "*.attn.proj.linear", Doubled)


def test_two_stars_at_the_start_stand_for_any_number_of_parts(vit: ViT) -> None:
    swin = contract.tiny_swin()
    replace(vit, "**.blocks.*.attn.qkv", Doubled)
    replace(swin, "**.blocks.*.attn.qkv", Doubled)
    assert doubled(vit) == [f"model.blocks.{depth}.attn.qkv" for depth in range(3)]
    assert doubled(swin) == [f"model.layers.{stage}.blocks.{i}.attn.qkv" for stage in range(4) for i in range(2)]
    with pytest.raises(LookupError, match="may only stand at the start"):
        replace(vit, "blocks.**.qkv", Doubled)


def test_a_pattern_without_a_match_is_an_error_that_names_it(vit: ViT) -> None:
    with pytest.raises(LookupError, match=r"no module of VisionTransformer matches 'blocks\.\*\.attn\.kvq'"):
        replace(vit, "blocks.*.attn.kvq", Doubled)
    assert doubled(vit) == []


def test_a_new_module_is_not_searched_for_the_pattern_again() -> None:
    root = nn.Sequential(nn.Sequential(nn.Linear(2, 2)))
    replace(root, "*", Doubled)
    assert doubled(root) == ["0"]


def test_outside_a_vit_paths_start_at_the_root() -> None:
    root = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    replace(root, "1", lambda _: nn.Identity())
    assert [type(module) for module in root] == [nn.Linear, nn.Identity]


def test_folding_merges_inner_modules_first_and_keeps_the_outputs() -> None:
    root = nn.Sequential(Doubled(Doubled(nn.Linear(3, 4))), nn.Sequential(nn.ReLU(), Doubled(nn.Linear(4, 2))))
    inputs = torch.randn(5, 3)
    before = root(inputs)
    assert fold(root) is root
    assert doubled(root) == []
    torch.testing.assert_close(root(inputs), before)


def test_folding_a_mergeable_root_returns_the_plain_module() -> None:
    linear = nn.Linear(3, 3)
    assert fold(Doubled(linear)) is linear


def test_folding_a_plain_network_changes_nothing(vit: ViT) -> None:
    images = torch.randn(2, 3, 16, 16)
    before = vit(images)
    assert fold(vit) is vit
    assert torch.equal(vit(images), before)


def test_only_what_requires_a_gradient_is_trained(vit: ViT) -> None:
    assert list(trained(vit)) == []
    vit.model.norm.requires_grad_(True)
    assert [parameter.numel() for parameter in trained(vit)] == [16, 16]


def test_running_statistics_are_stored_and_frozen_weights_are_not() -> None:
    root = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.BatchNorm1d(2))
    root[0].requires_grad_(False)
    root[2].requires_grad_(False)
    statistics = ["running_mean", "running_var", "num_batches_tracked"]
    assert list(trained_state(root)) == [
        *(f"1.{name}" for name in ("weight", "bias", *statistics)),
        *(f"2.{name}" for name in statistics),
    ]


def test_a_shared_weight_is_stored_once() -> None:
    shared, frozen = nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)
    root = nn.Sequential(shared, nn.ReLU(), shared, frozen, frozen)
    assert list(trained_state(root)) == ["0.weight", "0.bias"]


def test_the_stored_state_restores_a_network_on_the_same_backbone() -> None:
    shared = nn.Linear(2, 2)
    trained_one = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), shared, nn.BatchNorm1d(2), shared)
    fresh = nn.Sequential(trained_one[0], *(other := nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))), other[0])
    trained_one(torch.randn(8, 2) + 3)  # moves the running mean
    fresh.load_state_dict(trained_state(trained_one), strict=False)
    inputs = torch.randn(4, 2)
    assert torch.equal(fresh.eval()(inputs), trained_one.eval()(inputs))
