"""SSF: whatever a layer puts out is scaled and shifted channel by channel, and afterwards both merge into the layer."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as with_

import torch
from torch import Tensor, nn

from petlbench.encoder import Encoder, Swin, ViT
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, Recipe
from petlbench.surgery import replace

LAYERS = (nn.Linear, nn.Conv2d, nn.LayerNorm)
"""What gets a scale and a shift behind it."""
OFFICIAL = Recipe(
    source="dongzelian/SSF (e94e0e7) train_scripts/vit/vtab/*/train_ssf.sh; there with mixed precision",
    epochs=100,
    cooldown_epochs=10,  # not in the scripts: timm adds them
    batch_size=64,
    lr=5e-3,
    weight_decay=5e-5,
    decay_all=False,  # all of SSF is 1-D, so this leaves the head alone to decay
    warmup_lr=1e-7,
    min_lr=1e-8,
)
VTAB = {  # (learning rate, weight decay, stochastic depth): tasks
    (5e-3, 5e-5, 0.0): ("cifar100", "dtd", "flowers102", "patch_camelyon", "pets", "sun397"),
    (5e-3, 5e-5, 0.1): ("dmlab",),
    (5e-3, 5e-5, 0.2): ("diabetic_retinopathy", "dsprites_ori"),
    (5e-3, 5e-2, 0.2): ("smallnorb_ele",),
    (1e-2, 5e-5, 0.0): ("dsprites_loc", "kitti_dist", "svhn"),
    (2e-2, 5e-5, 0.1): ("smallnorb_azi",),
    (5e-2, 5e-2, 0.1): ("clevr_dist",),
    (3e-3, 5e-2, 0.2): ("eurosat",),
    (2e-3, 5e-2, 0.1): ("clevr_count",),
    (2e-3, 5e-5, 0.1): ("resisc45",),
    (1e-3, 5e-2, 0.1): ("caltech101",),
}


@dataclass(frozen=True, kw_only=True)
class SSF(Method):
    """Makes scale * y + shift of the output y of every linear layer, every LayerNorm and the patch embedding."""

    family = "reparameterization"
    paper = Paper(
        title="Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning",
        authors="Dongze Lian and Daquan Zhou and Jiashi Feng and Xinchao Wang",
        year=2022,
        venue="Advances in Neural Information Processing Systems",
        arxiv="2210.08823",
        code="dongzelian/SSF",
    )
    printed = {"": 0.21}
    recipes = {
        f"vtab/{task}": with_(OFFICIAL, lr=lr, weight_decay=weight_decay, drop_path=drop_path)
        for (lr, weight_decay, drop_path), tasks in VTAB.items()
        for task in tasks
    } | {"mini": with_(MINI, lr=1e-2)}
    grid = {  # the values that occur in the official VTAB-1K scripts
        "lr": (1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2, 5e-2),
        "weight_decay": (5e-5, 5e-2),
        "drop_path": (0.0, 0.1, 0.2),
    }

    spread: float = 0.02
    """Standard deviation of the scales around 1 and of the shifts around 0 at the start."""

    def attach(self, vit: ViT | Swin) -> Encoder:
        for path, layer in list(vit.model.named_modules()):
            if isinstance(layer, LAYERS) and not path.endswith("downsample.reduction"):  # as the official Swin
                replace(vit, path, lambda layer: ScaledShifted(layer, self.spread))
        return vit


class ScaledShifted(nn.Module):
    """A frozen layer whose output channels are scaled and shifted, of the same shapes as the layer itself."""

    def __init__(self, layer: nn.Linear | nn.Conv2d | nn.LayerNorm, spread: float) -> None:
        super().__init__()
        self.layer = layer
        self.scale = nn.Parameter(torch.empty(len(layer.weight)).normal_(1.0, spread))
        self.shift = nn.Parameter(torch.empty(len(layer.weight)).normal_(0.0, spread))

    def forward(self, inputs: Tensor) -> Tensor:
        shape = (-1, 1, 1) if isinstance(self.layer, nn.Conv2d) else (-1,)  # channels of a map (B, C, H, W) or last
        outputs: Tensor = self.layer(inputs)
        return outputs * self.scale.view(shape) + self.shift.view(shape)

    def fold(self) -> nn.Module:
        """The layer with the scale in its weight, and the scale and the shift in its bias."""
        layer = self.layer
        with torch.no_grad():
            bias = self.shift if layer.bias is None else layer.bias * self.scale + self.shift
            layer.weight.mul_(self.scale.view(-1, *[1] * (layer.weight.ndim - 1)))
            layer.bias = nn.Parameter(bias.clone(), requires_grad=False)
        return layer
