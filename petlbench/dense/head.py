"""What a dense suite puts on an encoder's four maps: neck and head in one module, with its losses and its answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from petlbench.encoder import Encoder

Target = dict[str, Any]
"""The truth about one image, under torchvision's names."""


class DenseHead(nn.Module, ABC):
    """Reads `encoder.pyramid(images)`, maps (B, channels[i], H / strides[i], W / strides[i]) of images padded at the
    right and the bottom; what it learns and says must not depend on the padding."""

    @abstractmethod
    def losses(self, maps: list[Tensor], images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        """The parts of the training loss, each a scalar; their sum is trained."""

    def counted(self, targets: Sequence[Target]) -> float:
        """How much the losses of some images count beside those of others, where several processes share a batch: what
        the losses are means over. Here images; exact only for losses that are means over images."""
        return len(targets)

    @abstractmethod
    def predict(self, maps: list[Tensor], images: Tensor, sizes: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        """An answer per image, in the coordinates of the padded images; `sizes` are without the padding."""


class Maps(Encoder):
    """An encoder that is asked for its maps: what an encoder says, in the place where others give a vector."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.width, self.channels, self.strides = encoder.width, encoder.channels, encoder.strides

    def forward(self, images: Tensor) -> Any:
        return self.encoder.pyramid(images)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        return self.encoder.pyramid(images)
