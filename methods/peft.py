"""peft: any method of the peft library that adapts linear layers, such as peft:lora, peft:dora(r=4) or peft:vera.

The layers, their starting values and their merging are peft's own; this file finds the method, turns its configuration
into fields and puts its layers into the backbone. Fields have peft's names and defaults, and `target_modules` fits the
attention of timm's ViT and Swin: names are compared with the end of a module's path, where "proj" alone would also be
the embedding of the patches. Without fields are the settings that say where peft finds or stores a model, those for
language models, and those that are no number, text, truth value or list of them. Matrices that VeRA and its kin draw
from a seed are not stored.

It needs the library: pip install 'petlbench[peft]'. Left out are methods that are more than their layers: those that
must be told how far training is (adalora, osf), for which task or input a layer works (poly, xlora), or that are made
for language models (shadow, trainable_tokens), and ln_tuning, which has no linear layers.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import replace as with_
from functools import cache, reduce
from operator import or_
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from torch import Tensor, nn

from petlbench.encoder import Encoder, Swin, ViT
from petlbench.errors import InputError, unknown
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, PETL_VIT
from petlbench.surgery import replace

SHORT: dict[str, tuple[str, dict[str, Any]]] = {
    "dora": ("lora", {"use_dora": True}),
    "rslora": ("lora", {"use_rslora": True}),
}
"""Methods that are settings of another one."""

LEFT_OUT = ("adalora", "ln_tuning", "osf", "poly", "shadow", "trainable_tokens", "xlora")

DEFAULTS: dict[str, dict[str, Any]] = {
    "": {"target_modules": ("attn.qkv", "attn.proj")},
    "ia3": {"target_modules": ("attn.qkv", "mlp.fc2"), "feedforward_modules": ("mlp.fc2",)},  # as the paper
}
"""Fields whose default is ours, since peft knows no ViT: of every method, and of one."""

UNUSED = (
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "modules_to_save", "save_projection", "fan_in_fan_out", "megatron_core", "layers_pattern"),
    *("alora_invocation_tokens", "trainable_token_indices", "target_parameters", "ensure_weight_tying"),
)
"""Settings of peft that are no fields."""

RATES = {"vera": 3e-2}
"""Learning rates on `mini` where another one than 1e-2 is better."""


@cache
def variant(name: str) -> type[Method]:
    """The method of peft with this name, as a class. Raises InputError for an unknown name or without peft."""
    kinds = _kinds()
    if name not in {*kinds, *SHORT}:
        raise unknown("method of peft", name, {*kinds, *SHORT})
    origin, fixed = SHORT.get(name, (name, {}))
    config, tuner = kinds[origin]
    ours = DEFAULTS[""] | DEFAULTS.get(origin, {})
    namespace = {
        "__module__": __name__,
        "__doc__": f"{name} as the peft library has it: {config.__name__}.",
        "variant": name,
        "config": config,
        "tuner": tuner,
        "fixed": fixed | ({"save_projection": False} if hasattr(config, "save_projection") else {}),
        "recipes": {
            "vtab": with_(PETL_VIT, source=f"{PETL_VIT.source}; peft has no VTAB-1K"),
            "mini": with_(MINI, lr=RATES.get(name, 1e-2)),
        },
    }
    fields = [(field, kind, ours.get(field, default)) for field, kind, default in _fields(config) if field not in fixed]
    return dataclasses.make_dataclass(name, fields, bases=(Injected,), namespace=namespace, frozen=True, kw_only=True)


def __getattr__(name: str) -> type[Method]:
    """A variant by its name, for pickle, which asks for it in another process before anyone has made it there."""
    if name in SHORT or (not name.startswith("_") and name in _kinds()):
        return variant(name)
    raise AttributeError(name)


@dataclass(frozen=True, kw_only=True)
class Injected(Method):
    """Lets peft wrap the target modules; each variant adds the fields of its configuration."""

    paper = Paper(
        title="PEFT: State-of-the-art Parameter-Efficient Fine-Tuning methods",
        authors="Sourab Mangrulkar and Sylvain Gugger and Lysandre Debut and Younes Belkada and Sayak Paul "
        "and Benjamin Bossan",
        year=2022,
        code="huggingface/peft",
    )
    family = "reparameterization"
    grid = {
        "lr": (1e-3, 1e-2),  # this and the decay as OSU-MLB/ViT_PEFT_Vision
        "weight_decay": (1e-4, 1e-3),
    }

    variant: ClassVar[str]
    config: ClassVar[type]
    """Configuration of peft, made of the fields and of what is `fixed`."""
    tuner: ClassVar[type]
    """Class of peft that wraps the modules of a model."""
    fixed: ClassVar[Mapping[str, Any]]

    def attach(self, vit: ViT | Swin) -> Encoder:
        from peft.tuners.tuners_utils import BaseTunerLayer

        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        given = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
        try:
            with warnings.catch_warnings():
                # BOFT looks for a compiler where there is no GPU; `save_projection` is False on purpose.
                warnings.filterwarnings("ignore", ".*(CUDA extension|butterfly|Specified to not save)")
                self.tuner(vit, self.config(**given, **self.fixed), adapter_name="default")
        except (AttributeError, ImportError, RuntimeError, TypeError, ValueError) as error:  # what peft raises
            raise InputError(f"peft:{self.variant}: {str(error).splitlines()[0]}") from error
        for path in [path for path, each in vit.model.named_modules() if isinstance(each, BaseTunerLayer)]:
            replace(vit, path, Layer)
        return vit


class Layer(nn.Module):
    """A linear layer of the backbone with what peft put around it, (..., inputs) -> (..., outputs)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer: Any = layer

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs)

    def fold(self) -> nn.Module:
        """The linear layer, with what was learned merged into its weight as peft does it; itself where peft cannot."""
        try:
            self.layer.merge()
        except NotImplementedError:
            return self
        return self.layer.get_base_layer().requires_grad_(False)


@cache
def _kinds() -> dict[str, tuple[type, type]]:
    """Configuration and tuner of each method, by its name in lower case."""
    try:
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
        from peft.tuners.tuners_utils import BaseTuner
    except ImportError as error:
        raise InputError(f"peft:NAME needs the peft library: pip install 'petlbench[peft]' ({error})") from error
    return {
        kind.value.lower(): (PEFT_TYPE_TO_CONFIG_MAPPING[kind], tuner)
        for kind, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items()
        if issubclass(tuner, BaseTuner) and kind.value.lower() not in LEFT_OUT
    }


def _fields(config: type) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default of each setting that can be written down."""
    hints = get_type_hints(config)
    for field in dataclasses.fields(config):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        default = tuple(default) if isinstance(default, list) else default
        kinds = [kind for kind in _simple(hints[field.name]) if kind is not NoneType]
        if field.init and field.name not in UNUSED and kinds and isinstance(default, (*map(_plain, kinds), NoneType)):
            yield field.name, reduce(or_, [*kinds, NoneType] if default is None else kinds), default


def _simple(hint: Any) -> Iterator[Any]:
    """Those members of a type that are numbers, texts, truth values or lists of them, lists as tuples."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        for member in get_args(hint):
            yield from _simple(member)
    elif origin is Literal:
        yield from {type(value) for value in get_args(hint)}
    elif origin is list and get_args(hint)[0] in (int, float, str):
        yield tuple[get_args(hint)[0], ...]  # type: ignore[misc]
    elif hint in (bool, int, float, str, NoneType):
        yield hint


def _plain(kind: Any) -> type:
    """tuple for tuple[int, ...], as isinstance wants it."""
    return get_origin(kind) or kind
