"""How to train: every setting of one training run, each with its unit and where the values come from."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a training run. A method carries its published ones in `Method.recipes`."""

    source: str = "petlbench defaults"
    """Where these values come from: a paper's table, a file of its official code, or a search of ours."""
    epochs: int = 100
    """Passes over the training images."""
    batch_size: int = 64
    """Images per optimiser step. An incomplete last batch is dropped, as the official codes do."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    """Peak learning rate. Not scaled with the batch size."""
    weight_decay: float = 1e-4
    """Decoupled for AdamW, coupled for SGD, as torch does."""
    decay_all: bool = True
    """Decay every trained weight; False leaves out 1-D weights (biases, norms, scales), as timm does."""
    momentum: float = 0.9
    """Of SGD."""
    warmup_epochs: int = 10
    """Epochs of linear warm-up from `warmup_lr`; they overlay the start of the cosine, as in timm."""
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    """Learning rate at the end of the cosine."""
    cooldown_epochs: int = 0
    """Epochs at `min_lr` after the cosine (timm's default of 10 is part of several published recipes)."""
    drop_path: float = 0.0
    """Largest stochastic-depth rate; grows linearly over the blocks, those of the frozen backbone included."""
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    """Largest gradient norm, or None for no clipping."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of forward and backward; below fp32 through autocast (fp16 with a gradient scaler)."""

    @property
    def total_epochs(self) -> int:
        """Epochs that are really run, cooldown included."""
        return self.epochs + self.cooldown_epochs
