"""What the tests share: one thread, and the golden values of the official implementations."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from petlbench import backbone, contract, folder, spec, worker, zoo
from petlbench.encoder import Encoder, ViT
from petlbench.framing import Framing
from petlbench.method import Method
from petlbench.plan import plan
from petlbench.recipe import Recipe
from petlbench.record import Record
from petlbench.request import Request
from petlbench.trial import Trial

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests in the background

TINY = Path(__file__).parent / "tiny.py"
GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Golden:
    """One forward and backward pass of an official implementation."""

    tensors: dict[str, Tensor]
    facts: dict[str, str]

    def vit(self) -> ViT:
        """The tiny frozen backbone that all golden values were computed on."""
        model = VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=4, num_heads=4, num_classes=5)
        model.load_state_dict(load_file(GOLDEN / "backbone.safetensors"))
        return ViT(model).eval()

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below a prefix ("param", "grad", "buffer", "pyramid"), under their official names."""
        return {
            name.removeprefix(f"{prefix}/"): value
            for name, value in self.tensors.items()
            if "/" in name and name.startswith(prefix)
        }

    def head(self) -> nn.Linear:
        """The classifier with its official weights."""
        weight, bias = self.tensors["param/head.weight"], self.tensors["param/head.bias"]
        head = nn.Linear(weight.shape[1], weight.shape[0])
        head.load_state_dict({"weight": weight, "bias": bias})
        return head

    def check(self, encoder: Encoder, official: Callable[[str], str]) -> None:
        """Load the official weights, then compare the logits within 1e-5 and every gradient within 1e-4.

        `official` turns the name of one of our trained parameters into its official name.
        """
        weights, gradients, head = self.part("param"), self.part("grad"), self.head()
        ours = {name: parameter for name, parameter in encoder.named_parameters() if parameter.requires_grad}
        assert {official(name) for name in ours} == {name for name in weights if not name.startswith("head.")}
        for name, parameter in ours.items():
            parameter.data = weights[official(name)].reshape(parameter.shape).clone()
        logits = head(encoder(self.tensors["input"]))
        torch.testing.assert_close(logits, self.tensors["logits"], rtol=0, atol=1e-5)
        nn.functional.cross_entropy(logits, self.tensors["label"]).backward()
        for name, parameter in ours.items():
            assert parameter.grad is not None, f"{name} got no gradient"
            expected = gradients[official(name)].reshape(parameter.shape)
            torch.testing.assert_close(
                parameter.grad, expected, rtol=0, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
            )


@pytest.fixture
def golden() -> Callable[[str], Golden]:
    """Load the golden values of a method: `golden("lora_qv")`."""

    def load(name: str) -> Golden:
        with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
            return Golden({key: file.get_tensor(key) for key in file.keys()}, file.metadata())  # noqa: SIM118

    return load


@pytest.fixture
def images() -> Tensor:
    """Two images of 32 x 32."""
    torch.manual_seed(0)
    return torch.randn(2, 3, 32, 32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data root with the four tasks of the suite in tiny.py."""
    return tiny.write(tmp_path / "data")


@pytest.fixture
def trial(tmp_path: Path) -> Callable[..., Trial]:
    """Make a trial of a method on 32 images of the tiny suite: three epochs of four steps, `trial(LoRA(), seed=1)`."""
    task = tiny.write(tmp_path / "trial", ("day",)) / "day"

    def make(method: Method, seed: int = 0) -> Trial:
        suite = zoo.suite(str(TINY))()
        torch.manual_seed(seed)
        encoder = method.attach(contract.tiny_vit())
        head = suite.head(encoder, suite.task("day"))
        images = folder.Images(folder.read_list(task, "train800val200", 2), Framing(32))
        recipe = Recipe(source="test", epochs=3, batch_size=8, warmup_epochs=0, lr=1e-2)
        facts = replace(backbone.describe("mini", "random"), image_size=32)
        return Trial(encoder, head, suite, recipe, images, facts, seed=seed)

    return make


@pytest.fixture
def request_for(data: Path, tmp_path: Path) -> Callable[..., Request]:
    """Make a request on the tiny suite: `request_for("linear,vpt(tokens=2)", seeds=(0, 1))`."""

    def make(methods: str = "linear", **options: Any) -> Request:
        settings: dict[str, Any] = {
            "suite": str(TINY),
            "weights": "random",
            "data_root": data,
            "results": tmp_path / "results",
            "overrides": {"epochs": 1, "batch_size": 8},
        }
        return Request(methods=spec.parse(methods), **(settings | options))

    return make


@pytest.fixture
def do(request_for: Callable[..., Request]) -> Callable[..., list[Record]]:
    """Plan a request on the tiny suite and do all its runs in this process."""

    def work(methods: str = "linear", **options: Any) -> list[Record]:
        return [worker.work(each.job) for each in plan(request_for(methods, **options))]

    return work
