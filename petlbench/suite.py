"""The interface of a suite: tasks as data, and what it takes to train and score on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from petlbench.framing import Resize

if TYPE_CHECKING:
    from torch import Tensor, nn

    from petlbench.encoder import Encoder
    from petlbench.folder import Images
    from petlbench.framing import Framing
    from petlbench.measure import Counts
    from petlbench.method import Method, Paper
    from petlbench.recipe import Recipe
    from petlbench.run import Backbone, Run
    from petlbench.trial import Report, Trial


@dataclass(frozen=True, kw_only=True)
class Task:
    """One data set of a suite, as facts that can be checked."""

    name: str
    group: str
    """Group whose mean is reported, such as "natural"."""
    classes: int
    train: int = 1000
    """Images to train on, those of `val` included."""
    val: int = 200
    """Those of the training images that are set aside while hyper-parameters are chosen."""
    test: int
    """Images to score on."""
    metric: str = "accuracy"
    """The score that tables show, in percent."""
    also: tuple[str, ...] = ()
    """Further scores that tables show beside it, each in a column below the task, as of a detector's boxes and masks.

    Of such tasks there is no mean: nobody averages a segmenter with another.
    """
    folders: tuple[str, ...] = ()
    """Names that the field gives this task's folder; the first that exists below the data root is read."""
    note: str = ""
    """Where the images come from, in one sentence."""

    @property
    def facts(self) -> str:
        """What the captions of tables say of a task whose images keep their shapes: its head, and how large they are
        seen. Empty where a run says it all."""
        return ""


class Suite(ABC):
    """A benchmark: a file in `benchmarks/` holds one subclass, and its name is the file's."""

    paper: ClassVar[Paper | None] = None
    tasks: ClassVar[tuple[Task, ...]] = ()
    resize: ClassVar[Resize] = "squash"
    """How its images become square, unless another way is asked for."""
    any_size: ClassVar[bool] = False
    """Whether its images differ in size and shape, so that a backbone must take any; else all are resized alike."""
    source: ClassVar[str] = ""
    """What to fetch, from where, and where to put it: the end of the message that says data are missing."""

    def is_ready(self, task: Task, root: Path | None) -> bool:
        """Whether `prepare` has nothing to make. A generated suite says so before its images are drawn."""
        return True

    @abstractmethod
    def prepare(self, task: Task, root: Path | None) -> Path:
        """Return the folder of the task's data below `root`.

        A generated suite keeps its data in the user's cache, and makes them there when they are missing and no root is
        given; several processes may ask for the same task at once.
        Raises InputError that says what to fetch and where to put it.
        """

    @abstractmethod
    def fingerprint(self, task: Task, data: Path, progress: Callable[[str], None]) -> str:
        """Identity of the images and labels in a task's folder; `progress` is told what takes time."""

    @abstractmethod
    def data(self, task: Task, split: str, data: Path, framing: Framing) -> Images:
        """A split of the task by its name in VTAB-1K, whatever the suite's own files call it.

        "train800" and "val200" are to choose hyper-parameters with, "train800val200" is both, for the final training,
        "test" is what is scored.
        """

    @abstractmethod
    def head(self, encoder: Encoder, task: Task) -> nn.Module:
        """A fresh head for the task; its weights are always trained and counted apart from the method's."""

    @abstractmethod
    def loss(self, outputs: Any, targets: Any, label_smoothing: float = 0.0) -> Tensor:
        """The training loss, averaged over a batch."""

    @abstractmethod
    def score(self, outputs: Any, targets: Any) -> Iterator[tuple[str, float]]:
        """Yield (metric, value in percent) for the outputs over a whole split; `Task.metric` comes first."""

    def trial(
        self, encoder: Encoder, head: nn.Module, task: Task, train: Images, run: Run, *, device: str, report: Report
    ) -> Trial:
        """What a method trains in. A suite whose images do not fit into memory, or whose head wants more than a
        vector, has a trial of its own."""
        from petlbench.trial import Trial

        return Trial(encoder, head, self, run.recipe, train, run.backbone, seed=run.seed, device=device, report=report)

    def recipe(self, method: Method, name: str, task: Task) -> Recipe:
        """How a method is trained on a task of this suite, which is called `name`. A suite whose field trains all
        methods alike has standards of its own for those that publish nothing."""
        return method.recipe(name, task.name)

    def count(self, encoder: Encoder, head: nn.Module, backbone: Backbone) -> Counts:
        """What the trained networks cost for one image of the size that they were trained on."""
        import torch

        from petlbench import measure
        from petlbench.trial import Normalize

        size = backbone.image_size
        return measure.count(encoder, head, Normalize(backbone)(torch.zeros(1, 3, size, size, dtype=torch.uint8)))

    def task(self, name: str) -> Task:
        """The task of that name. Raises InputError with the nearest names."""
        from petlbench.errors import unknown

        for task in self.tasks:
            if task.name == name:
                return task
        raise unknown("task", name, [task.name for task in self.tasks])
