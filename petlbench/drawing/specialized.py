"""Pictures of the specialized group: land from a satellite, cells under a microscope, the back of an eye."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from petlbench.drawing.aerial import LAND
from petlbench.drawing.canvas import Labels, Pixels, developed
from petlbench.drawing.medical import STATES, fundus, tissue


def fields(rng: Generator, labels: Labels) -> Pixels:
    """Land use from above, in the order of `aerial.LAND` (as EuroSAT's task)."""
    kinds = list(LAND.values())
    return developed(rng, np.stack([kinds[label](rng).finished() for label in labels]), grain=0.03, light=0.25)


def cells(rng: Generator, labels: Labels) -> Pixels:
    """Stained tissue; the state of most of its cells, in the order of `medical.STATES`."""
    states = list(STATES)
    return developed(rng, np.stack([tissue(rng, states[label]).finished() for label in labels]), grain=0.04, light=0.25)


def retina(rng: Generator, labels: Labels) -> Pixels:
    """The back of an eye; how far its disease has gone, in five grades (as Diabetic Retinopathy's task)."""
    return developed(rng, np.stack([fundus(rng, int(label)).finished() for label in labels]), grain=0.02)
