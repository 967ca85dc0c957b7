"""Supervised pre-training: name the class of a picture and, if asked, sketch its layout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from petlbench import backbone as backbones
from petlbench import spec
from petlbench.drawing.pretraining import SIZE, Drawn
from petlbench.errors import InputError
from petlbench.pretraining.objective import Learner, Objective, Start, built, unfuse

SKETCH = 8
"""Height and width of a sketch."""


@dataclass(frozen=True, kw_only=True)
class Supervised(Objective):
    """Cross-entropy of a linear classifier on the vector of the backbone, over all classes of pictures."""

    title = "supervised classification"

    label_smoothing: float = 0.05
    sketch: float = 0.0
    """Weight of a second task: a linear head draws, from the same vector, where the ink is, in 8 x 8 squares. Place,
    size and tilt are in the sketch, and no class knows them. Ours."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise InputError(
                f"--objective supervised: label_smoothing={self.label_smoothing}, expected 0 or more and less than 1"
            )
        if not 0 <= self.sketch < math.inf:
            raise InputError(f"--objective supervised: sketch={self.sketch}, expected 0 or more")

    def learner(self, start: Start) -> Learner:
        return Classifier(self, start)


class Classifier(Learner):
    """A backbone with a classifier, and with a head for sketches where these have a weight."""

    measure: ClassVar[Literal["accuracy", "losses"]] = "accuracy"

    def __init__(self, objective: Supervised, start: Start) -> None:
        super().__init__()
        self.network = _classifier(start.backbone, sum(map(len, start.labels.values())))
        self.objective, self.labels = objective, start.labels
        if objective.sketch:
            self.sketch = nn.Linear(self.network.num_features, SKETCH**2)

    @property
    def model(self) -> VisionTransformer | SwinTransformer:
        return self.network

    def forward(self, drawn: Drawn, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and the accuracy in percent per family of pictures."""
        features = self.model.forward_head(self.model.forward_features(drawn.images), pre_logits=True)
        logits = self.model.get_classifier()(features).float()
        loss = F.cross_entropy(logits, drawn.labels, label_smoothing=self.objective.label_smoothing)
        if self.objective.sketch:
            wanted = F.adaptive_avg_pool2d(drawn.coverage, SKETCH).flatten(1)
            sketch = self.sketch(features).float()
            loss = loss + self.objective.sketch * F.binary_cross_entropy_with_logits(sketch, wanted)
        right = 100.0 * (logits.argmax(1) == drawn.labels)
        members = {name: (drawn.labels >= own.start) & (drawn.labels < own.stop) for name, own in self.labels.items()}
        return loss, {name: right[own].mean() for name, own in members.items()}


def _classifier(backbone: str, classes: int) -> VisionTransformer | SwinTransformer:
    """A random backbone with a classifier. Raises InputError if it cannot be built.

    It is made in one piece: a head that is added later would leave the backbone with other random weights.
    """
    with torch.random.fork_rng(devices=[]):
        built(backbone)  # says what is wrong with the name
    (found,) = spec.parse(backbone)
    model: Any
    if found.name == "mini":
        model = VisionTransformer(**{**backbones.MINI, **found.fields, "num_classes": classes})
    else:
        model = timm.create_model(found.name, img_size=SIZE, num_classes=classes, **found.fields)
    unfuse(model)
    return model
