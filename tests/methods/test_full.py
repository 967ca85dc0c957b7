"""Full fine-tuning: everything of the backbone is trained."""

from typing import Any

from vits import count, vit_base

from petlbench import zoo

FullFineTuning: Any = zoo.method("full")


def test_all_85_798_656_weights_of_vit_base_are_trained() -> None:
    assert count(FullFineTuning().attach(vit_base())) == 85_798_656


def test_every_weight_gets_a_gradient(golden: Any) -> None:
    values = golden("lora_qv")
    encoder = FullFineTuning().attach(values.vit())
    encoder(values.tensors["input"]).square().sum().backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []
