"""Linear probing: nothing of the backbone is trained."""

from typing import Any

import torch
from vits import vit_base

from petlbench import zoo
from petlbench.surgery import trained

LinearProbing: Any = zoo.method("linear")


def test_no_weight_of_the_encoder_is_trained() -> None:
    assert list(trained(LinearProbing().attach(vit_base()))) == []


def test_the_encoder_says_what_the_backbone_says(golden: Any) -> None:
    values = golden("lora_qv")
    images = values.tensors["input"]
    assert torch.equal(LinearProbing().attach(values.vit())(images), values.vit()(images))
