"""Encoders turn images into one vector or four maps; `ViT` and `Swin` are the frozen ones that methods build on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from petlbench.windows import WindowedAttention


class Encoder(nn.Module, ABC):
    """What a method makes of a backbone, and what every head is put on."""

    width: int
    """Length of the vector that `forward` returns."""
    channels: tuple[int, int, int, int]
    """Channels of the four maps that `pyramid` returns."""
    strides: tuple[int, int, int, int]
    """Pixels of the image per position of each map."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Describe each image of a batch (B, 3, H, W) by one vector: (B, width)."""

    @abstractmethod
    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Describe each image by four maps (B, channels[i], H / strides[i], W / strides[i]), finest first."""


class ViT(Encoder):
    """A timm VisionTransformer without its classifier.

    Invariant: in every token sequence the first `prefix` tokens are timm's own (class, registers), the next
    ones are the patches, row by row. Tokens that a method adds travel behind them and never reach a head;
    attention does not depend on where a token stands, so this equals the papers that put prompts elsewhere.

    Every block sees the same grid, so `pyramid` returns the patch tokens behind four evenly spaced blocks, all at
    the stride of the patches. Bringing them to strides 4 to 32 is the business of a dense suite's neck.
    """

    def __init__(self, model: VisionTransformer) -> None:
        super().__init__()
        model.reset_classifier(0)
        self.model = model
        """The timm model. The names of its modules are what `replace` matches, such as "blocks.*.attn.qkv"."""
        self.width = model.embed_dim
        self.depth = len(model.blocks)
        attention: Any = model.blocks[0].attn
        self.heads: int = attention.num_heads
        self.prefix: int = model.num_prefix_tokens
        self.patch: int = model.patch_embed.patch_size[0]
        self.channels = (self.width,) * 4
        self.strides = (self.patch,) * 4
        self.windowed = [module for module in model.modules() if isinstance(module, WindowedAttention)]
        """What has to know how the patches lie."""
        self.requires_grad_(False)

    @property
    def blocks(self) -> nn.Sequential:
        """The transformer blocks, first to last. Assigning to an index replaces a block."""
        return self.model.blocks

    def forward(self, images: Tensor) -> Tensor:
        tokens = None
        for tokens in self.stream(images):  # noqa: B007  only the last one is used, none is kept
            pass
        assert tokens is not None
        return self.feature(self.own(tokens, images))

    def stream(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the tokens (B, prefix + patches + added, width) in front of the first block and behind each block."""
        tokens = self.embed(images)
        yield tokens
        for block in self.blocks:
            tokens = block(tokens)
            yield tokens

    def embed(self, images: Tensor) -> Tensor:
        """The tokens (B, prefix + patches, width) in front of the first block."""
        model = self.model
        for attention in self.windowed:
            attention.grid = self.grid(images)
        return model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))

    def own(self, tokens: Tensor, images: Tensor) -> Tensor:
        """The class and patch tokens, without those that a method added."""
        height, width = self.grid(images)
        return tokens[:, : self.prefix + height * width]

    def feature(self, tokens: Tensor) -> Tensor:
        """From the tokens behind the last block to one vector: final norm and the backbone's own pooling."""
        return self.model.forward_head(self.model.norm(tokens), pre_logits=True)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches in which images of this size are cut."""
        height, width = self.model.patch_embed.dynamic_feat_size(tuple(images.shape[-2:]))
        return height, width

    def map(self, tokens: Tensor, images: Tensor) -> Tensor:
        """The patch tokens laid out as an image: (B, width, rows, columns)."""
        rows, columns = self.grid(images)
        patches = tokens[:, self.prefix : self.prefix + rows * columns]
        return patches.transpose(1, 2).unflatten(2, (rows, columns))

    def pyramid(self, images: Tensor) -> list[Tensor]:
        taps = [(stage + 1) * self.depth // 4 for stage in range(4)]  # behind a quarter, half, ... of the blocks
        kept = {depth: self.map(tokens, images) for depth, tokens in enumerate(self.stream(images)) if depth in taps}
        return [kept[depth] for depth in taps]


class Swin(Encoder):
    """A timm SwinTransformer without its classifier.

    Four stages of blocks, each on a map of half the size of the one before. Tokens are maps (B, rows, columns,
    channels) all the way, there is no class token, and attention stays within windows: a token that a method adds has
    no place to travel in. Modules that act on every position alike fit in as they fit into a ViT.
    """

    def __init__(self, model: SwinTransformer) -> None:
        super().__init__()
        model.reset_classifier(0)
        self.model = model
        """The timm model. The names of its modules are what `replace` matches, such as "layers.*.blocks.*.attn.qkv"."""
        self.width = model.num_features
        embedding: Any = model.patch_embed
        self.patch: int = embedding.patch_size[0]
        first, second, third, fourth = model.feature_info
        self.channels = (first["num_chs"], second["num_chs"], third["num_chs"], fourth["num_chs"])
        self.strides = (first["reduction"], second["reduction"], third["reduction"], fourth["reduction"])
        self.requires_grad_(False)

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks of all stages, first to last."""
        stages: Any = self.model.layers
        return [block for stage in stages for block in stage.blocks]

    def forward(self, images: Tensor) -> Tensor:
        return self.model.forward_head(self.model.forward_features(images), pre_logits=True)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        maps, tokens = [], self.model.patch_embed(images)
        for stage in self.model.layers:
            tokens = stage(tokens)
            maps.append(tokens.permute(0, 3, 1, 2))
        return maps
