"""Checkpoints: all that training needs to go on as if it had never been stopped, one file per call of a trial's fit."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch

from petlbench.errors import InputError
from petlbench.files import write


class Stateful(Protocol):
    """A network, an optimiser or a gradient scaler."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> Any: ...


class Checkpoints:
    """The checkpoints of one run below a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, call: int, parts: Mapping[str, Stateful], facts: dict[str, Any]) -> None:
        """Write the state of all parts, of all generators of random numbers and some facts; whole or not at all."""
        content = io.BytesIO()
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({"parts": states, "random": random_state(), "facts": facts}, content)
        write(self._file(call), content.getvalue())

    def load(self, call: int, parts: Mapping[str, Stateful]) -> dict[str, Any] | None:
        """Put the state of a checkpoint back and return its facts; None if there is none. Raises InputError for a file
        that cannot be read."""
        file = self._file(call)
        if not file.is_file():
            return None
        try:
            found = torch.load(file, "cpu", weights_only=True)
            for name, part in parts.items():
                part.load_state_dict(found["parts"][name])
            restore_random_state(found["random"])
        except Exception as error:  # unpickling a damaged file raises all sorts of things
            raise InputError(f"{file}: is no checkpoint of this run; delete it to start anew") from error
        facts: dict[str, Any] = found["facts"]
        return facts

    def remove(self) -> None:
        """Delete them all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, call: int) -> Path:
        return self.folder / f"fit-{call}.pt"


def random_state() -> dict[str, Any]:
    """The states of the global generators of Python, NumPy and torch."""
    version, words, gauss = random.getstate()
    kind, keys, place, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), place, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` gave."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, place, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), place, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


class Alarm:
    """Notes a SIGTERM instead of dying of it, so that a step is finished and kept first."""

    def __init__(self) -> None:
        self.rings = False
        self._before: Any = signal.SIG_DFL
        self._is_set = False

    def __enter__(self) -> Alarm:
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            self._before = signal.signal(signal.SIGTERM, self._note)
            self._is_set = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_set:
            signal.signal(signal.SIGTERM, self._before)
            self._is_set = False

    def answer(self) -> None:
        """Do now what a noted signal would have done then."""
        if self.rings:
            self.__exit__()
            os.kill(os.getpid(), signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.rings = True
