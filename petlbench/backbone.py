"""Backbones by name: the embedded `mini` and every ViT and Swin of timm, with weights from timm or a file.

A name may carry settings of the architecture: the ViT-Tiny of MAE-Lite is `vit_tiny_patch16_224(num_heads=12)`, since
its weights fit timm's three heads as well as its own twelve; `vit_base_patch16_224(window=14)` attends within windows,
see `petlbench.windows`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import swin_transformer, vision_transformer
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from petlbench import spec
from petlbench.encoder import Swin, ViT
from petlbench.errors import InputError, unknown
from petlbench.method import Method
from petlbench.run import Backbone
from petlbench.spec import Spec
from petlbench.windows import into_windows

MINI: dict[str, Any] = {"img_size": 64, "patch_size": 16, "embed_dim": 128, "depth": 6, "num_heads": 4}
"""Architecture of the embedded backbone: a standard VisionTransformer."""
MINI_NORMALIZATION = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}

MODULES = {"vision_transformer": "ViT", "deit": "ViT", "swin_transformer": "Swin"}
"""Modules of timm whose models can be used, and what they are wrapped in."""

SETTINGS = (
    *("patch_size", "embed_dim", "depth", "depths", "num_heads", "mlp_ratio", "qkv_bias", "init_values", "window_size"),
    *("class_token", "reg_tokens", "no_embed_class", "pre_norm", "global_pool", "dynamic_img_size", "window"),
)
"""Settings that a name may carry: those of timm's models, and `window`, for any ViT."""

WINDOW = "window"
"""The setting that makes most blocks of a ViT attend within windows of so many patches."""

PRETRAINED = "pretrained"
"""The weights that belong to the name: timm's own, or the ones in the package for `mini`."""
RANDOM = "random"
"""No weights: the random initialisation of timm, the control of every comparison."""


def describe(name: str, weights: str = PRETRAINED, image_size: int | None = None) -> Backbone:
    """Resolve what was typed, without building the model. Raises InputError for an unknown name or a missing file."""
    plain, settings = _settings(name)
    default_size, mean, std = _preprocessing(plain)
    name, digest = str(Spec(plain, settings)), None
    if weights == PRETRAINED and plain == "mini":
        digest = json.loads((files("petlbench.weights") / "mini.json").read_text())["sha256"]
    elif weights not in (PRETRAINED, RANDOM):
        digest = _sha256(Path(weights))
        weights = Path(weights).name
    size = image_size or default_size
    return Backbone(name=name, weights=weights, sha256=digest, image_size=size, mean=mean, std=std)


def build(
    name: str,
    weights: str = RANDOM,
    *,
    image_size: int | None = None,
    drop_path: float = 0.0,
    any_size: bool = False,
) -> ViT | Swin:
    """Build a frozen backbone; with `any_size` it takes images of any height and width that its patches divide.

    `weights` is "pretrained", "random" or the path of a .safetensors, .pth/.bin (a state dict, also below "model" or
    "state_dict") or .npz file (Google's). Layouts that timm can convert are converted (OpenAI CLIP, MAE, DeiT, Google),
    classifiers are dropped, position embeddings are resized to `image_size`.

    Raises InputError for an unknown name, for one that is neither ViT nor Swin, for a file that cannot be read and
    for weights of another architecture (naming the keys that do not fit).
    """
    name, settings = _settings(name)
    size = image_size or _preprocessing(name)[0]
    window = settings.pop(WINDOW, None)
    options: dict[str, Any] = {"num_classes": 0, "drop_path_rate": drop_path, **settings}
    if any_size:  # position embeddings are then resized to each image, and masks of windows made for it
        options |= {"strict_img_size": False} if kind(name) == "Swin" else {"dynamic_img_size": True}
    model: VisionTransformer | SwinTransformer
    if name == "mini":
        model = VisionTransformer(**{**MINI, "img_size": size, **options})
        for block in model.blocks:
            attention: Any = block.attn
            attention.fused_attn = False  # for 17 tokens, fused attention costs more on a CPU than it saves
        if weights == PRETRAINED:
            with as_file(files("petlbench.weights") / "mini.safetensors") as path:
                _load(model, path)
    else:
        model = _create(name, pretrained=weights == PRETRAINED, img_size=size, **options)
    if weights not in (PRETRAINED, RANDOM):
        _load(model, Path(weights))
    if isinstance(model, SwinTransformer):
        return Swin(model)
    if window:
        into_windows(model, window)
    return ViT(model)


def names() -> list[str]:
    """Every backbone that can be asked for by name: `mini`, then those of timm."""
    return ["mini", *(name for module in MODULES for name in timm.list_models(module=module))]


def kind(name: str) -> str:
    """What a backbone is wrapped in, "ViT" or "Swin", without building it."""
    plain = _settings(name)[0].partition(".")[0]
    return next((kind for module, kind in MODULES.items() if plain in timm.list_models(module=module)), "ViT")


def has_windows(name: str) -> bool:
    """Whether a ViT of that name attends within windows."""
    return WINDOW in _settings(name)[1]


def require(method: type[Method], called: str, name: str) -> None:
    """Raise InputError, naming the kinds that it supports, if a method cannot be built into a backbone."""
    if kind(name) not in method.backbones():
        raise InputError(
            f"method {called} cannot be built into backbone {name}, a {kind(name)}; it supports: "
            f"{', '.join(method.backbones())}"
        )


def _settings(name: str) -> tuple[str, dict[str, Any]]:
    """A name without its settings, and these. Raises InputError for a setting that is none or cannot be."""
    (found,) = spec.parse(name)
    for setting in found.fields:
        if setting not in SETTINGS:
            raise unknown(f"setting of backbone {found.name}:", setting, SETTINGS)
    if WINDOW in found.fields:
        side, plain = found.fields[WINDOW], found.name.partition(".")[0]
        if type(side) is not int or side < 1:
            raise InputError(f"backbone {name}: window={side} must be a number of patches, 1 or more")
        if plain in timm.list_models(module="swin_transformer"):
            raise InputError(f"backbone {name}: a Swin has windows of its own, whose setting is window_size")
    return found.name, dict(found.fields)


def _preprocessing(name: str) -> tuple[int, tuple[float, float, float], tuple[float, float, float]]:
    if name == "mini":
        return MINI["img_size"], MINI_NORMALIZATION["mean"], MINI_NORMALIZATION["std"]
    plain, _, tag = name.partition(".")
    if plain not in names():
        if plain in timm.list_models():
            raise InputError(f"backbone '{name}' is neither ViT nor Swin: see `petlbench list backbones`")
        raise unknown("backbone", name, names())
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{plain}.*")]
    if tag and tag not in tags:
        raise unknown(f"weights of backbone {plain}:", tag, tags)
    config = timm.get_pretrained_cfg(name)
    assert config is not None
    (red, green, blue), (red_std, green_std, blue_std) = config.mean, config.std
    return config.input_size[-1], (red, green, blue), (red_std, green_std, blue_std)


def _create(name: str, **options: Any) -> VisionTransformer | SwinTransformer:
    try:
        model = timm.create_model(name, **options)
    except Exception as error:
        if not options["pretrained"]:
            raise InputError(f"backbone '{name}' cannot be built: {type(error).__name__}: {error}") from error
        raise InputError(
            f"backbone '{name}': timm could not fetch its weights ({type(error).__name__}); "
            "fetch them once where there is a network, or pass --weights FILE or --weights random"
        ) from error
    if not isinstance(model, VisionTransformer | SwinTransformer):
        raise InputError(f"backbone '{name}' is a {type(model).__name__}, neither ViT nor Swin")
    return model


def _load(model: VisionTransformer | SwinTransformer, path: Path) -> None:
    """Load a weights file of any supported layout; the model's own keys must all be there, and nothing else fit."""
    if path.suffix == ".npz" and isinstance(model, VisionTransformer):
        with _readable(path):
            model.load_pretrained(str(path))
        return
    with _readable(path):
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    for wrapper in ("model", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"--weights {path}: holds no state dict (names and tensors)")
    for prefix in ("module.", "model."):  # of DistributedDataParallel, and of MAE-Lite
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    own = model.state_dict()
    family = vision_transformer if isinstance(model, VisionTransformer) else swin_transformer
    with _readable(path):
        state = family.checkpoint_filter_fn(dict(state), model)
    state = {
        key: value.float() for key, value in state.items() if not key.startswith(("head", "decoder", "mask_token"))
    }
    missing = [key for key in own if key not in state]
    strange = [key for key in state if key not in own]
    shapes = [key for key in own if key in state and own[key].shape != state[key].shape]
    for problem, keys in (("lacks", missing), ("has the wrong shape for", shapes), ("also holds", strange)):
        if keys:
            shown = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise InputError(f"--weights {path}: not weights of this backbone, the file {problem} {shown}")
    model.load_state_dict(state)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever a damaged or foreign file raises into one line that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"--weights {path}: no such file") from error
    except InputError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, IndexError, RuntimeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"--weights {path}: cannot be read as weights of this backbone: {reason}") from error
    except Exception as error:  # unpickling a hostile or foreign file raises all sorts of things
        raise InputError(f"--weights {path}: cannot be read: {type(error).__name__}") from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"--weights {path}: {error.strerror or error}") from error
