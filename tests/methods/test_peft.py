"""Methods of the peft library: the golden values, that the weights are peft's own, and how its settings are written."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from vits import count, perturbed, pickled, small, vit_base

from petlbench import contract, provenance, spec, zoo
from petlbench.errors import InputError
from petlbench.flops import multiply_adds
from petlbench.method import Method
from petlbench.surgery import fold, trained, trained_state

needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="needs petlbench[peft]")

VARIANTS = ["lora", "dora", "ia3", "loha", "lokr", "oft(oft_block_size=16)", "boft", "vera"]


def method(text: str) -> Method:
    (asked,) = spec.parse(f"peft:{text}")
    return spec.make(zoo.method(asked.name), asked.fields, asked.name)


@needs_peft
@pytest.mark.slow
@pytest.mark.parametrize("promise", contract.PROMISES, ids=contract.name)
@pytest.mark.parametrize("text", VARIANTS)
def test_the_contract_holds_for(text: str, promise: Callable[[Method], None]) -> None:
    promise(method(text))


@needs_peft
def test_logits_and_gradients_equal_those_of_peft(golden: Any) -> None:
    values = golden("lora_peft")
    tensors = {
        name.replace("base_model.model.", "").replace("modules_to_save.default.", ""): value
        for name, value in values.tensors.items()
    }
    encoder = method("lora(r=4, lora_alpha=8, target_modules=('attn.qkv',))").attach(values.vit()).eval()
    dataclasses.replace(values, tensors=tensors).check(
        encoder, lambda name: name.removeprefix("model.").replace(".layer.", ".")
    )


@needs_peft
@pytest.mark.parametrize("name", ["lora", "dora", "loha", "lokr", "vera"])
def test_training_moves_the_very_weights_that_peft_would_move(name: str, images: Tensor) -> None:
    import peft

    kind, options = ("lora", {"use_dora": True}) if name == "dora" else (name, {})
    config = peft.get_peft_config(
        {"peft_type": kind.upper(), "target_modules": ["attn.qkv", "attn.proj"], **options}  # type: ignore[arg-type]
    )
    ours, theirs = small(), small()
    torch.manual_seed(1)
    encoder = method(name).attach(ours)
    torch.manual_seed(1)
    peft.get_peft_model(theirs.model, config)  # type: ignore[arg-type]
    for each in (encoder, theirs):
        optimizer = torch.optim.SGD(trained(each), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            each(images).square()[:, :5].sum().backward()
            optimizer.step()
    expected = dict(theirs.named_parameters())
    for path, weight in encoder.named_parameters():
        assert torch.equal(weight, expected[path.replace(".layer.", ".")]), path
    assert torch.equal(encoder(images), theirs(images))


@needs_peft
@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("lora", 442_368),  # 12 blocks x 8 x ((768 + 2304) + (768 + 768))
        ("lora(target_modules=('attn.qkv',))", 294_912),
        ("lora(layers_to_transform=(0, 11))", 73_728),
        ("dora", 479_232),  # and one length per output
        ("ia3", 64_512),  # 12 x (2304 outputs of qkv + 3072 inputs of fc2)
        ("vera", 43_008),  # 12 x (2 x 256 + 2304 + 768)
    ],
)
def test_trained_weights_on_vit_base(text: str, weights: int) -> None:
    assert count(method(text).attach(vit_base())) == weights


@needs_peft
@pytest.mark.parametrize("name", ["lora", "dora", "ia3", "loha", "lokr", "vera"])
def test_folding_leaves_plain_linear_layers(name: str, images: Tensor) -> None:
    encoder = perturbed(method(name).attach(small())).eval()
    before = encoder(images)
    fold(encoder)
    torch.testing.assert_close(encoder(images), before, rtol=0, atol=1e-5)
    assert encoder.state_dict().keys() == small().state_dict().keys()
    assert all(type(each) is nn.Linear for path, each in encoder.named_modules() if path.endswith(("qkv", "attn.proj")))
    assert list(trained(encoder)) == []


@needs_peft
@pytest.mark.parametrize("text", [*VARIANTS, "fourierft(n_frequency=50)", "hra"])
def test_its_arithmetic_can_be_counted_and_is_gone_after_folding(text: str, images: Tensor) -> None:
    plain, encoder = contract.tiny_vit().eval(), method(text).attach(contract.tiny_vit()).eval()
    assert multiply_adds(encoder, images) >= multiply_adds(plain, images)
    assert multiply_adds(fold(encoder), images) == multiply_adds(plain, images)


@needs_peft
def test_the_patch_embedding_is_no_target_though_it_is_called_proj() -> None:
    paths = [path for path, weight in method("lora").attach(small()).named_parameters() if weight.requires_grad]
    assert paths
    assert all(".attn." in path for path in paths)


@needs_peft
def test_the_frozen_matrices_of_vera_come_from_a_seed_and_are_not_stored() -> None:
    encoder = method("vera").attach(small())
    assert sum(value.numel() for value in trained_state(encoder).values()) == count(encoder)


@needs_peft
def test_a_class_made_for_a_variant_can_be_pickled() -> None:
    assert pickled(method("dora(r=4)")) == method("dora(r=4)")
    code = f"import pickle; print(pickle.loads({__import__('pickle').dumps(zoo.method('peft:dora'))!r})().r)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout.strip() == b"8"


@needs_peft
def test_a_record_names_the_version_of_peft() -> None:
    method("lora").attach(small())
    assert provenance.libraries("peft:lora")["peft"] == version("peft")


@needs_peft
def test_fields_are_those_of_the_configuration_that_can_be_written_down() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(zoo.method("peft:lora"))}
    assert fields["r"] == 8
    assert fields["target_modules"] == ("attn.qkv", "attn.proj")
    assert {"task_type", "modules_to_save", "rank_pattern", "eva_config", "inference_mode"} & fields.keys() == set()
    assert "use_dora" not in {field.name for field in dataclasses.fields(zoo.method("peft:dora"))}


@needs_peft
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lorra", r"unknown method of peft 'lorra': did you mean .*lora"),
        ("adalora", r"unknown method of peft 'adalora'"),
        ("lora(rank=4)", r"peft:lora has no field 'rank': .*valid: bias, exclude_modules"),
        ("lora(r=0)", r"peft:lora: `r` should be a positive integer"),
        ("lora(target_modules=('qvk',))", r"peft:lora: Target modules"),
        ("lora(r='many')", r"peft:lora: r='many' is not valid"),
    ],
)
def test_what_peft_cannot_do_is_said_in_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as refusal:
        method(text).attach(small())
    assert "\n" not in str(refusal.value)


def test_without_the_library_one_line_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['peft'] = None; from petlbench.cli import main; sys.exit(main(['check', 'peft:dora']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'petlbench[peft]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
