"""What every method promises. `petlbench check` and the tests hold each method of the zoo to these.

A promise is a function that takes a method and raises an exception that says what was not kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from copy import deepcopy
from multiprocessing.reduction import ForkingPickler
from typing import Any, get_args

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from petlbench import backbone, spec, zoo
from petlbench.encoder import Encoder, Swin, ViT
from petlbench.errors import InputError
from petlbench.method import Family, Method
from petlbench.recipe import Recipe
from petlbench.surgery import fold, trained, trained_state

CLASSES = 2
Make = Callable[..., ViT | Swin]


def tiny_vit(**options: Any) -> ViT:
    """A frozen ViT of 4 blocks for 32 x 32 images; small enough to train in a test, real enough to find mistakes."""
    torch.manual_seed(0)
    architecture: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 4}
    return ViT(VisionTransformer(**{**architecture, **options}))


def tiny_swin(**options: Any) -> Swin:
    """A frozen Swin of 4 stages of 2 blocks for 32 x 32 images, the second block of a stage with shifted windows."""
    torch.manual_seed(0)
    architecture: dict[str, Any] = {"img_size": 32, "patch_size": 2, "embed_dim": 16, "depths": (2, 2, 2, 2)}
    return Swin(SwinTransformer(**{**architecture, "num_heads": (1, 2, 4, 8), "window_size": 4, **options}))


def gives_one_vector_per_image(method: Method, make: Make = tiny_vit) -> None:
    encoder, images = _attach(method, make), _images(3)
    vectors = encoder.eval()(images)
    _same("shape of the vectors", tuple(vectors.shape), (3, encoder.width))
    _close("an image's vector in a batch and alone", encoder(images[:1]), vectors[:1])


def gives_a_pyramid_of_its_channels_and_strides(method: Method, make: Make = tiny_vit) -> None:
    encoder = _attach(method, make).eval()
    maps = encoder.pyramid(_images(2))
    wanted = [(2, c, 32 // s, 32 // s) for c, s in zip(encoder.channels, encoder.strides, strict=True)]
    _same("shapes of the pyramid", [tuple(each.shape) for each in maps], wanted)


def takes_any_size_of_image_the_backbone_takes(method: Method) -> None:
    encoder = _attach(method, dynamic_img_size=True).eval()
    images = torch.randn(2, 3, 64, 32)
    _same("shape of the vectors at 64 x 32", tuple(encoder(images).shape), (2, encoder.width))
    maps = encoder.pyramid(images)
    wanted = [(64 // stride, 32 // stride) for stride in encoder.strides]
    _same("sizes of the pyramid at 64 x 32", [tuple(each.shape[-2:]) for each in maps], wanted)


def trains_what_requires_a_gradient_and_nothing_else(method: Method, make: Make = tiny_vit) -> None:
    encoder, head = _attach(method, make), _head(method, make)
    before = {name: value.clone() for name, value in encoder.named_parameters()}
    _train(encoder, head, steps=3)
    for name, value in encoder.named_parameters():
        moved = not torch.equal(value, before[name])
        if moved != value.requires_grad:
            raise AssertionError(f"{name} {'is frozen but moved' if moved else 'requires a gradient but did not move'}")


def learns(method: Method) -> None:
    encoder, head = _attach(method), _head(method)
    first, last = _train(encoder, head, steps=30)
    if not last < 0.9 * first:
        raise AssertionError(
            f"telling bright from dark images, the loss went from {first:.3f} to {last:.3f} in 30 steps"
        )


def folds_without_changing_its_outputs(method: Method, make: Make = tiny_vit) -> None:
    encoder = _attach(method, make)
    _disturb(encoder)
    encoder.eval()
    before = encoder(_images(2))
    _close("outputs before and after folding", fold(deepcopy(encoder))(_images(2)), before)


def stores_only_what_it_trained_and_loads_it_again(method: Method, make: Make = tiny_vit) -> None:
    encoder = _attach(method, make)
    _disturb(encoder)
    encoder.eval()
    state = trained_state(encoder)
    fresh = _attach(method, make).eval()
    unknown = fresh.load_state_dict(state, strict=False).unexpected_keys
    _same("names that a fresh encoder does not know", list(unknown), [])
    _close("outputs of a fresh encoder with the stored weights", fresh(_images(2)), encoder(_images(2)))


def attaches_equally_from_equal_seeds(method: Method) -> None:
    first, second = _attach(method).state_dict(), _attach(method).state_dict()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    _same("weights that differ between two builds from one seed", different, [])


def survives_copying_and_pickling(method: Method) -> None:
    encoder = _attach(method).eval()
    _disturb(encoder)
    expected = encoder(_images(2))
    _close("outputs of a deep copy", deepcopy(encoder)(_images(2)), expected)
    spawned: Encoder = ForkingPickler.loads(ForkingPickler.dumps(encoder))  # as a spawned process receives it
    _close("outputs after pickling", spawned(_images(2)), expected)


def works_in_bfloat16(method: Method) -> None:
    encoder = _attach(method).eval()
    _disturb(encoder)
    with torch.autocast("cpu", torch.bfloat16):
        vectors = encoder(_images(2)).float()
    difference = (vectors - encoder(_images(2))).abs().max().item()
    if not difference < 0.2:  # of vectors behind a norm, whose values are around 1
        raise AssertionError(f"under bfloat16 autocast the vectors differ by {difference:.2g}, allowed is 0.2")
    if vectors.requires_grad:
        vectors.square().sum().backward()
    for name, value in encoder.named_parameters():
        if value.requires_grad and (value.grad is None or not value.grad.isfinite().all()):
            raise AssertionError(f"under bfloat16 autocast {name} has no finite gradient")


def compiles_without_changing_its_outputs(method: Method) -> None:
    encoder = _attach(method).eval()
    torch.compiler.reset()  # or torch, after compiling the forward of eight other methods, would not compile this one
    with torch.no_grad():
        compiled = torch.compile(encoder, backend="eager")  # traces as every backend does, and generates no code
        _close("outputs of the compiled encoder", compiled(_images(2)), encoder(_images(2)))


def keeps_its_promises_on_a_swin_if_it_names_one(method: Method) -> None:
    if "Swin" not in method.backbones():
        return
    for promise in (
        gives_one_vector_per_image,
        gives_a_pyramid_of_its_channels_and_strides,
        trains_what_requires_a_gradient_and_nothing_else,
        folds_without_changing_its_outputs,
        stores_only_what_it_trained_and_loads_it_again,
    ):
        promise(method, tiny_swin)


def has_as_many_weights_as_were_printed(method: Method) -> None:
    kind = type(method)
    for fields, millions in kind.printed.items():
        made = spec.make(kind, spec.fields(fields), kind.__name__)
        with torch.device("meta"):
            encoder = made.attach(backbone.build("vit_base_patch16_224"))
        count = sum(weight.numel() for weight in trained(encoder))
        digits = len(f"{millions:.6f}".rstrip("0").partition(".")[2])
        if abs(count / 1e6 - millions) > 0.5 * 10 ** -max(digits, 2):
            raise AssertionError(f"({fields}) trains {count:,} weights of a ViT-B/16, printed are {millions} million")


def has_fields_that_can_be_written_down(method: Method) -> None:
    kind = type(method)
    written = spec.label(kind.__name__, method)
    (read,) = spec.parse(written)
    _same(f"the method read back from '{written}'", spec.make(kind, read.fields, kind.__name__), method)


def says_where_it_comes_from(method: Method) -> None:
    if getattr(method, "family", None) not in get_args(Family):
        raise AssertionError(f"its family must be one of {', '.join(get_args(Family))}")
    for where, recipe in method.recipes.items():
        if not recipe.source or recipe.source == type(recipe).source:
            raise AssertionError(f"recipe '{where}' does not say where its values come from")
        suite, _, task = where.partition("/")
        try:
            known = zoo.suite(suite)()
            known.task(task) if task else None
        except InputError as error:
            raise AssertionError(f"recipe '{where}': {error}") from error
    if method.paper is not None and not (method.paper.title and method.paper.authors and method.paper.bibtex):
        raise AssertionError("the paper needs a title and authors")
    settings = {field.name for field in dataclasses.fields(method)} | {f.name for f in dataclasses.fields(Recipe)}
    _same("names in the grid that are no field", sorted(set(method.grid) - settings), [])


PROMISES: tuple[Callable[[Method], None], ...] = (
    gives_one_vector_per_image,
    gives_a_pyramid_of_its_channels_and_strides,
    takes_any_size_of_image_the_backbone_takes,
    trains_what_requires_a_gradient_and_nothing_else,
    learns,
    folds_without_changing_its_outputs,
    stores_only_what_it_trained_and_loads_it_again,
    attaches_equally_from_equal_seeds,
    survives_copying_and_pickling,
    works_in_bfloat16,
    compiles_without_changing_its_outputs,
    keeps_its_promises_on_a_swin_if_it_names_one,
    has_as_many_weights_as_were_printed,
    has_fields_that_can_be_written_down,
    says_where_it_comes_from,
)


def name(promise: Callable[[Method], None]) -> str:
    """A promise as a sentence."""
    return promise.__name__.replace("_", " ")


def _attach(method: Method, make: Make = tiny_vit, **options: Any) -> Encoder:
    vit = make(**options)
    torch.manual_seed(1)
    return method.attach(vit)


def _head(method: Method, make: Make = tiny_vit) -> nn.Module:
    width = _attach(method, make).width
    torch.manual_seed(2)
    return nn.Linear(width, CLASSES)


def _images(number: int) -> Tensor:
    return torch.randn(number, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def _train(encoder: Encoder, head: nn.Module, steps: int) -> tuple[float, float]:
    """Train on bright against dark images; the loss before and after, both in evaluation mode."""
    labels = torch.arange(16) % CLASSES
    images = 0.1 * _images(16) + (2.0 * labels - 1).view(-1, 1, 1, 1)
    optimizer = torch.optim.AdamW([*trained(encoder), *trained(head)], lr=1e-3)

    def loss() -> float:
        encoder.eval()
        with torch.no_grad():
            return functional.cross_entropy(head(encoder(images)), labels).item()

    first = loss()
    for _ in range(steps):
        encoder.train()
        optimizer.zero_grad()
        functional.cross_entropy(head(encoder(images)), labels).backward()
        optimizer.step()
    return first, loss()


def _disturb(encoder: Encoder) -> None:
    """Give every trained weight a value of its own, so that nothing hides behind an initial zero."""
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in trained(encoder):
            parameter.add_(0.05 * torch.randn_like(parameter))


def _same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: {found}, expected {wanted}")


def _close(what: str, found: Tensor, wanted: Tensor) -> None:
    difference = (found - wanted).abs().max().item()
    if not difference < 1e-5:
        raise AssertionError(f"{what} differ by {difference:.2g}, allowed is 1e-5")
