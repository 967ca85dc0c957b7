"""What every method promises, held against all that the zoo holds; and that the promises catch who breaks them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import pytest
import torch
from torch import Tensor, nn

from petlbench import contract, zoo
from petlbench.encoder import Encoder, Swin, ViT
from petlbench.method import Method
from petlbench.recipe import Recipe
from petlbench.surgery import replace, trained


@pytest.mark.parametrize("promise", contract.PROMISES, ids=contract.name)
@pytest.mark.parametrize("name", zoo.methods())
def test_it(name: str, promise: Callable[[Method], None]) -> None:
    promise(zoo.method(name)())


@pytest.mark.parametrize(
    "name", [name for name in zoo.methods() if "dropout" in {field.name for field in fields(zoo.method(name))}]
)
def test_a_field_called_dropout_acts_in_training_only(name: str) -> None:
    encoder = zoo.method(name)(dropout=0.5).attach(contract.tiny_vit())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        for weight in trained(encoder):
            weight.add_(0.1 * torch.randn_like(weight))  # what begins with zeros hides what is dropped
        assert not torch.equal(encoder.train()(images), encoder(images))
        assert torch.equal(encoder.eval()(images), encoder(images))


class Wrapped(Encoder):
    """A ViT that breaks a promise, by way of one overridden method."""

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        self.vit, self.width, self.channels, self.strides = vit, vit.width, vit.channels, vit.strides
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        return self.vit(images)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        return self.vit.pyramid(images)


class MixesImages(Wrapped):
    def forward(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.vit(images)
        return vectors - vectors.mean(0)


class LiesAboutChannels(Wrapped):
    def __init__(self, vit: ViT) -> None:
        super().__init__(vit)
        self.channels = (1, 2, 3, 4)


class UnusedWeight(Wrapped):
    def __init__(self, vit: ViT) -> None:
        super().__init__(vit)
        self.unused = nn.Parameter(torch.zeros(3))


class Blind(Wrapped):
    def forward(self, images: Tensor) -> Tensor:
        return 0 * self.vit(images)


class Forgets(Wrapped):
    """Keeps what it learned where no state dict sees it."""

    def __init__(self, vit: ViT) -> None:
        super().__init__(vit)
        self.hidden = [nn.Parameter(torch.rand(()))]
        self.scale = nn.Parameter(torch.ones(()))
        self.secret = torch.rand(()).item()

    def forward(self, images: Tensor) -> Tensor:
        return self.vit(images) * self.scale * (self.secret + torch.rand(()))


class FoldsWrong(nn.Module):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) + self.shift

    def fold(self) -> nn.Module:
        return self.layer


@dataclass(frozen=True, kw_only=True)
class Breaks(Method):
    family = "adapter"

    encoder: str

    def attach(self, vit: ViT) -> Encoder:
        if self.encoder == "FoldsWrong":
            replace(vit, "blocks.*.attn.qkv", FoldsWrong)
            return vit
        kind: type[Wrapped] = globals()[self.encoder]
        return kind(vit)


@dataclass(frozen=True, kw_only=True)
class WithoutSource(Breaks):
    recipes = {"mini": Recipe(epochs=3)}
    encoder: str = "Wrapped"


@dataclass(frozen=True, kw_only=True)
class OnAnUnknownShelf(Breaks):
    family = "magic"  # type: ignore[assignment]
    encoder: str = "Wrapped"


@dataclass(frozen=True, kw_only=True)
class PrintsAnotherCount(Breaks):
    printed = {"": 0.1}
    encoder: str = "Wrapped"


@dataclass(frozen=True, kw_only=True)
class FoldsWrongOnASwin(Breaks):
    encoder: str = ""

    def attach(self, vit: ViT | Swin) -> Encoder:
        replace(vit, "**.blocks.*.attn.qkv", FoldsWrong)
        return vit


class CompilesWrong(Wrapped):
    """Says something else while it is traced."""

    def forward(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.vit(images)
        return vectors + torch.compiler.is_compiling()


@dataclass(frozen=True, kw_only=True)
class UnknownSuite(Breaks):
    recipes = {"minni": Recipe(source="a paper")}
    encoder: str = "Wrapped"


def broken() -> Iterator[tuple[Method, Callable[[Method], None], str]]:
    yield Breaks(encoder="MixesImages"), contract.gives_one_vector_per_image, "in a batch and alone"
    yield (
        Breaks(encoder="LiesAboutChannels"),
        contract.gives_a_pyramid_of_its_channels_and_strides,
        "shapes of the pyramid",
    )
    yield Breaks(encoder="UnusedWeight"), contract.trains_what_requires_a_gradient_and_nothing_else, "did not move"
    yield Breaks(encoder="Blind"), contract.learns, "the loss went from"
    yield Breaks(encoder="FoldsWrong"), contract.folds_without_changing_its_outputs, "before and after folding"
    yield Breaks(encoder="Forgets"), contract.stores_only_what_it_trained_and_loads_it_again, "with the stored weights"
    yield Breaks(encoder="Forgets"), contract.survives_copying_and_pickling, "deep copy"
    yield (
        Breaks(encoder="CompilesWrong"),
        contract.compiles_without_changing_its_outputs,
        "compiled encoder differ by 1",
    )
    yield FoldsWrongOnASwin(), contract.keeps_its_promises_on_a_swin_if_it_names_one, "before and after folding"
    yield PrintsAnotherCount(), contract.has_as_many_weights_as_were_printed, "trains 0 weights of a ViT-B/16"
    yield OnAnUnknownShelf(), contract.says_where_it_comes_from, "family must be one of reference, selective"
    yield WithoutSource(), contract.says_where_it_comes_from, "recipe 'mini' does not say"
    yield UnknownSuite(), contract.says_where_it_comes_from, "did you mean mini"


@pytest.mark.parametrize(("method", "promise", "said"), list(broken()))
def test_a_broken_promise_is_caught(method: Method, promise: Callable[[Method], None], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        promise(method)
