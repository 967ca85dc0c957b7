"""Full fine-tuning: everything of the backbone is trained."""

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

from petlbench import zoo
from petlbench.encoder import ViT
from petlbench.surgery import trained

FullFineTuning: Any = zoo.method("full")


def test_all_85_798_656_weights_of_vit_base_are_trained() -> None:
    with torch.device("meta"):
        vit = ViT(VisionTransformer())  # ViT-B/16 is the default of timm's class
    assert sum(parameter.numel() for parameter in trained(FullFineTuning().attach(vit))) == 85_798_656


def test_every_weight_gets_a_gradient(golden: Any) -> None:
    values = golden("lora_qv")
    encoder = FullFineTuning().attach(values.vit())
    encoder(values.tensors["input"]).square().sum().backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []
