"""Pre-training of small backbones on generated pictures: `Pretraining` is the recipe, `Trainer` follows it."""

from petlbench.pretraining.objective import Learner, Objective
from petlbench.pretraining.recipe import OBJECTIVES, Pretraining
from petlbench.pretraining.trainer import Trainer

__all__ = ["OBJECTIVES", "Learner", "Objective", "Pretraining", "Trainer"]
