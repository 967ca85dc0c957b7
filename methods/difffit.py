"""DiffFit: the backbone's biases and norms are trained, and a gain on what each half of a block adds to the tokens.

The paper adapts diffusion models; this is its form for classifiers of OSU-MLB/ViT_PEFT_Vision, where a gain is one
number per channel. There it stands behind layer scale and drop-path, here behind the last linear layer in front of
them: all three only multiply, so the features are the same, and the gain folds into that layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as with_

import torch
from torch import Tensor, nn

from petlbench.encoder import Encoder, Swin, ViT
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, OSU
from petlbench.surgery import replace


@dataclass(frozen=True, kw_only=True)
class DiffFit(Method):
    """Trains every bias, every LayerNorm, and two gains per block that start at one."""

    family = "selective"
    paper = Paper(
        title="DiffFit: Unlocking Transferability of Large Diffusion Models via Simple Parameter-Efficient Fine-Tuning",
        authors="Enze Xie and Lewei Yao and Han Shi and Zhili Liu and Daquan Zhou and Zhaoqiang Liu and Jiawei Li "
        "and Zhenguo Li",
        year=2023,
        venue="IEEE/CVF International Conference on Computer Vision",
        arxiv="2304.06648",
    )
    recipes = {
        "vtab": OSU,
        "mini": with_(MINI, lr=1e-2),
    }
    grid = {"lr": (1e-3, 1e-2), "weight_decay": (1e-4, 1e-3)}  # OSU-MLB/ViT_PEFT_Vision

    def attach(self, vit: ViT | Swin) -> Encoder:
        for name, parameter in vit.named_parameters():
            parameter.requires_grad_("bias" in name)
        for module in vit.modules():
            if isinstance(module, nn.LayerNorm):
                module.requires_grad_()
        for path in ("**.blocks.*.attn.proj", "**.blocks.*.mlp.fc2"):
            replace(vit, path, Gained)
        return vit


class Gained(nn.Module):
    """A linear layer, (..., inputs) -> (..., outputs), whose outputs are multiplied by one number each."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.gain = nn.Parameter(torch.ones(linear.out_features))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.linear(inputs)
        return self.gain * outputs

    def fold(self) -> nn.Linear:
        """The linear layer with the gain in its weight and bias; the bias goes on being trained."""
        with torch.no_grad():
            self.linear.weight *= self.gain[:, None]
            if self.linear.bias is not None:
                self.linear.bias.mul_(self.gain)
        return self.linear
