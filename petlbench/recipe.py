"""How to train: every setting of one training run, each with its unit and where the values come from."""

from dataclasses import dataclass
from typing import Any, Literal

from petlbench.errors import InputError

Range = tuple[float, float]
"""Smallest and largest value."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a training run. A method carries its published ones in `Method.recipes`.

    Raises InputError for a value out of its range. Whatever is random in training is off unless a recipe turns it on.
    """

    source: str = "petlbench defaults"
    """Where these values come from: a paper's table, a file of its official code, or a search of ours."""
    epochs: int = 100
    """Passes over the training images, warm-up included."""
    batch_size: int = 64
    """Images per optimiser step. An incomplete last batch is dropped, as the official codes do."""
    accumulate: int = 1
    """Parts a batch is computed in, one after another, to save memory. The gradient stays that of the whole batch, so
    BatchNorm, which would see the parts, is refused."""

    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW with torch's betas (0.9, 0.999) and eps 1e-8, or SGD with momentum."""
    lr: float = 1e-3
    """Peak learning rate. Not scaled with the batch size."""
    weight_decay: float = 1e-4
    """Decoupled for AdamW, coupled for SGD, as torch does."""
    decay_all: bool = True
    """Decay every trained weight; False leaves out 1-D weights (biases, norms, scales), as timm does."""
    layer_decay: float = 1.0
    """Factor on the learning rate from each block to the one below it, counted from the head; the norm behind the last
    block has that block's rate, the embeddings are the lowest layer. As timm does."""
    momentum: float = 0.9
    """Of SGD."""
    clip_norm: float | None = None
    """Largest gradient norm, or None for no clipping."""

    warmup_epochs: int = 10
    """Epochs of linear warm-up from `warmup_lr`."""
    warmup_lr: float = 1e-6
    """Learning rate at the start of the warm-up."""
    warmup_prefix: bool = False
    """Whether the cosine starts at the end of the warm-up, from `lr`; else the warm-up overlays its start, timm's
    default, and `lr` is never quite reached."""
    min_lr: float = 1e-5
    """Learning rate at the end of the cosine."""
    cooldown_epochs: int = 0
    """Epochs at `min_lr` after the cosine (timm's default of 10 is part of several published recipes)."""
    schedule_per: Literal["epoch", "step"] = "epoch"
    """How often the learning rate is set."""
    schedule_lag: int = 0
    """Epochs by which the schedule lags behind, staying at its start. 1 is what codes do that step it after an epoch,
    with that epoch's number: epochs 0 and 1 both run at `warmup_lr`, and the last value is never used."""

    drop_path: float = 0.0
    """Largest stochastic-depth rate; grows linearly over the blocks, those of the frozen backbone included."""
    label_smoothing: float = 0.0
    """Share of each target that is spread evenly over all classes."""
    mixup: float = 0.0
    """Alpha of mixup's beta distribution: a batch is blended with itself in reverse order, in one ratio. 0 is off."""
    cutmix: float = 0.0
    """Alpha of CutMix's beta distribution: one box is taken from the batch in reverse order. 0 is off."""
    mix_probability: float = 1.0
    """Probability that a batch is mixed at all."""
    mix_switch: float = 0.5
    """Probability that a mixed batch gets CutMix, where both are on."""
    crop_scale: Range | None = None
    """Random resized crop of each image: share of the area that is kept; None is off."""
    crop_ratio: Range = (3 / 4, 4 / 3)
    """Width / height of the crop."""
    crop_interpolation: Literal["bilinear", "bicubic", "random"] = "random"
    """How a crop is resized, with antialiasing; "random" draws one of the two for each image, timm's default."""
    flip: float = 0.0
    """Probability that an image is mirrored left to right."""
    erasing: float = 0.0
    """Probability that a box of 2 % to 33 % of an image is replaced by normal noise, after normalisation."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of forward and backward; below fp32 through autocast (fp16 with a gradient scaler, on CUDA only)."""

    steps: int | None = None
    """Optimiser steps, in place of `epochs`: how the field measures training on COCO and ADE20K. Dense suites only, as
    all that follows."""
    decay: Literal["cosine", "poly", "steps"] = "cosine"
    """How the learning rate falls: as a cosine over the epochs; or over the steps, as (1 - share passed) ** `power`, or
    to a tenth at each of `milestones`."""
    power: float = 1.0
    """Exponent of `poly`."""
    milestones: tuple[float, ...] = ()
    """Shares of the training at which `steps` lowers the learning rate."""
    warmup_steps: int = 0
    """Steps of linear warm-up from `warmup_lr`, under `poly` and `steps`."""
    head_lr: float = 1.0
    """Factor on the learning rate of neck and head."""
    checkpointing: bool = False
    """Whether blocks of the backbone are computed again in the backward pass, to save memory; the gradient is equal."""
    evaluate_steps: int = 0
    """Steps between evaluations of the images to score on, whose best is recorded as METRIC_best beside the last; 0 is
    the end only."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            self._require(name, getattr(self, name) >= 1, "must be at least 1")
        for name in ("warmup_epochs", "cooldown_epochs", "schedule_lag", "mixup", "cutmix"):
            self._require(name, getattr(self, name) >= 0, "must not be negative")
        for name in ("flip", "erasing", "mix_probability", "mix_switch", "label_smoothing"):
            self._require(name, 0 <= getattr(self, name) <= 1, "must lie in 0..1")
        self._require("steps", self.steps is None or self.steps >= 1, "must be at least 1")
        for name in ("warmup_steps", "evaluate_steps"):
            self._require(name, getattr(self, name) >= 0, "must not be negative")
        self._require("head_lr", self.head_lr > 0, "must be above 0")
        self._require("milestones", all(0 < share < 1 for share in self.milestones), "must lie between 0 and 1")
        odd = self.mixes and self.batch_size % 2 == 1
        self._require("batch_size", not odd, "mixup and cutmix pair the images of a batch, make it even")
        self._require("drop_path", 0 <= self.drop_path < 1, "must be at least 0 and below 1")
        self._require("layer_decay", 0 < self.layer_decay <= 1, "must be above 0 and at most 1")
        if self.crop_scale is not None:
            self._require("crop_scale", 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1, "is no range within 0..1")
        self._require("crop_ratio", 0 < self.crop_ratio[0] <= self.crop_ratio[1], "is no range of positive numbers")

    @property
    def is_dense(self) -> bool:
        """Whether it sets anything that only dense suites know."""
        return any(getattr(self, name) != default for name, default in LATER.items())

    @property
    def total_epochs(self) -> int:
        """Epochs that are really run, cooldown included."""
        return self.epochs + self.cooldown_epochs

    @property
    def mixes(self) -> bool:
        """Whether targets become mixtures of classes."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def augments(self) -> bool:
        """Whether an image looks different from one epoch to the next."""
        return self.mixes or self.crop_scale is not None or self.flip > 0 or self.erasing > 0

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise InputError(f"--recipe {name}={getattr(self, name)}: {rule}")


LATER: dict[str, Any] = {
    "steps": None,
    "decay": "cosine",
    "power": 1.0,
    "milestones": (),
    "warmup_steps": 0,
    "head_lr": 1.0,
    "checkpointing": False,
    "evaluate_steps": 0,
}
"""Fields that came after the first records, with the value at which all is as before. A run's identity leaves them out
there, so that older records keep theirs. Never change a value here; fields that come later are added."""

MINI = Recipe(
    source="petlbench: a few learning rates tried on train800 -> val200 of two or three tasks, see docs/mini.md",
    epochs=4,
    batch_size=16,
    warmup_epochs=1,
    schedule_per="step",  # set per epoch, a quarter of so short a training would run at the start of its warm-up
)
"""What the methods share on the suite `mini`; each has its own learning rate. Short, for a laptop without a GPU."""

PETL_VIT = Recipe(
    source="JieShibo/PETL-ViT (026e4f1) binary_adapter/main.py, where the method's scale is searched per task",
    epochs=100,
    batch_size=64,
    lr=1e-3,
    weight_decay=1e-4,
    schedule_lag=1,
    drop_path=0.1,
)
"""The training behind most VTAB-1K tables of adapters and low-rank updates."""

OSU = Recipe(
    source="OSU-MLB/ViT_PEFT_Vision (cea7e21): rate and decay most often chosen there over the 19 tasks; "
    "the rest as JieShibo/PETL-ViT (026e4f1), without drop-path",
    epochs=100,
    batch_size=64,
    lr=1e-2,
    weight_decay=1e-4,
)
"""For methods whose published rows are known to be under-tuned: the settings of a fair re-run."""
