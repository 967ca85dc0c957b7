"""Image classification: a linear head, cross-entropy and top-1 accuracy over folders of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from petlbench import folder, layouts
from petlbench.cached import Cache
from petlbench.errors import InputError
from petlbench.framing import Framing
from petlbench.suite import Suite, Task

if TYPE_CHECKING:
    from petlbench.encoder import Encoder


class Classification(Suite):
    """A suite whose tasks name one class for each image."""

    def prepare(self, task: Task, root: Path | None) -> Path:
        name = type(self).__module__.rpartition(".")[2]
        if root is None:
            raise InputError(
                f"--suite {name}: its images do not come with petlbench, "
                f"say where they are: --data-root DIR{self._hint()}"
            )
        found = self.locate(task, root)
        if found is None:
            names = " or ".join(dict.fromkeys((task.name, *task.folders)))
            raise InputError(
                f"--data-root {root}: has no folder {names} for task {task.name} of suite {name}{self._hint()}"
            )
        return found

    def locate(self, task: Task, root: Path) -> Path | None:
        """The folder of a task below the root, or None."""
        return folder.locate(root, (task.name, *task.folders))

    def listing(self, task: Task, split: str, data: Path, refuse: folder.Refuse = folder.strict) -> folder.Listing:
        """The images and labels of a split. A suite in a layout of its own overrides this."""
        return layouts.read(data, split, task.classes, refuse)

    def fingerprint(self, task: Task, data: Path, progress: Callable[[str], None]) -> str:
        return folder.fingerprint(data, lambda split: self.listing(task, split, data), progress)

    def data(self, task: Task, split: str, data: Path, framing: Framing) -> folder.Images:
        listing = self.listing(task, split, data)
        return folder.Images(listing, framing, Cache(data, split, framing, listing.images, listing.labels))

    def _hint(self) -> str:
        return f"; {self.source}" if self.source else ""

    def head(self, encoder: Encoder, task: Task) -> nn.Module:
        """A linear layer; weights from a normal distribution truncated at two sigma (0.02), biases zero, as in timm."""
        head = nn.Linear(encoder.width, task.classes)
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        return head

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return functional.cross_entropy(outputs, targets, label_smoothing=label_smoothing)

    def score(self, outputs: Tensor, targets: Tensor) -> Iterator[tuple[str, float]]:
        yield "accuracy", 100.0 * (outputs.argmax(1) == targets).double().mean().item()
