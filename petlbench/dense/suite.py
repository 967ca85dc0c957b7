"""The interface of a dense suite: a pyramid in place of a vector, images of any size, a task that names its head."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from petlbench.errors import InputError
from petlbench.folder import Refuse, combine, strict
from petlbench.suite import Suite, Task

if TYPE_CHECKING:
    import torch
    from numpy.random import Generator
    from PIL.Image import Image
    from torch import Tensor, nn

    from petlbench.dense.head import DenseHead, Target
    from petlbench.dense.images import Examples, Size, Source
    from petlbench.dense.trial import DenseTrial
    from petlbench.encoder import Encoder
    from petlbench.framing import Framing
    from petlbench.measure import Counts
    from petlbench.method import Method
    from petlbench.recipe import Recipe
    from petlbench.run import Backbone, Run
    from petlbench.speed import Precision, Speed
    from petlbench.trial import Report

Look = Callable[[Sequence["Image"]], list[dict[str, Any]]]
"""What the networks answer to some images of the size that they are to be seen in, one answer for each."""
SHOWN = 6
"""Images of which a run draws the answer, beside its record."""
EACH = 10
"""Under `tuned`, every tenth training image is set aside."""


@dataclass(frozen=True, kw_only=True)
class DenseTask(Task):
    """A data set together with the head that is trained on it."""

    head: str
    """Such as "mask_rcnn" or "upernet"."""
    sides: tuple[int, int]
    """An image is resized until its shorter side is the first of these or its longer side the second."""
    scales: tuple[int, ...] = ()
    """Shorter sides of which training draws one per image; empty for that of `sides`."""

    @property
    def panels(self) -> tuple[str, ...]:
        """What a drawn answer shows, from left to right."""
        return "truth", "answer"

    @property
    def facts(self) -> str:
        several = f", in training {min(self.scales)} to {max(self.scales)} at random" if self.scales else ""
        return f"{self._title}images of {self._within}{several}"

    @property
    def _title(self) -> str:
        """The head, where it is not the name of the task."""
        return "" if self.head == self.name else f"head {self.head}, "

    @property
    def _within(self) -> str:
        shorter, longer = self.sides
        if shorter == longer:
            return f"at most {shorter} x {longer} pixels"
        return f"{shorter} pixels at their shorter side and at most {longer} at the longer"

    @property
    def areas(self) -> tuple[float, float]:
        """Pixels that an image of 4 : 3 has in training, and in all the views together that it is scored in: what a
        plan judges times by."""
        height, width = self._size(1.0)
        return height * width, height * width

    def _size(self, ratio: float) -> Size:
        """Height and width in which an image of 4 : 3 is seen, times a ratio."""
        shorter, longer = self.sides
        return round(ratio * shorter), round(ratio * min(longer, 4 * shorter / 3))


class Evaluator(Protocol):
    """Collects answers and scores them once all are there."""

    def add(self, index: int, found: dict[str, Any], seen: Size, original: Size) -> None:
        """Take the answer for an image, in pixels of the size `seen`."""

    def scores(self) -> Iterator[tuple[str, float]]:
        """(metric, percent), the task's own first; METRIC/CLASS for single classes."""


@runtime_checkable
class Drawing(Protocol):
    """An evaluator that can show what it was given."""

    def picture(self, index: int) -> Image:
        """An image with its truth and the answer, for one of the first `SHOWN` images."""


class DenseSuite(Suite):
    """Trains and scores on the maps of `encoder.pyramid`; what brings them to strides 4 to 32 counts as head."""

    tasks: ClassVar[tuple[DenseTask, ...]]
    any_size = True
    generated: ClassVar[str] = ""
    """Name of the data set that petlbench draws itself where no data root is given; empty for real data."""

    counted: ClassVar[Size] = (512, 512)
    """Height and width of the image that FLOPs and bytes are counted for."""

    @abstractmethod
    def locate(self, task: Task, root: Path) -> Path | None:
        """The folder of the task's data below a root, or None."""

    @abstractmethod
    def read(self, task: Any, data: Path, *, training: bool, refuse: Refuse = strict) -> Source:
        """The training images or those to score on. Raises InputError for what contradicts itself, unless `refuse`
        does otherwise."""

    def every(self, task: Any, data: Path, *, training: bool, refuse: Refuse = strict) -> Source:
        """The same, with those images and objects that training leaves out."""
        return self.read(task, data, training=training, refuse=refuse)

    @abstractmethod
    def head(self, encoder: Encoder, task: Any) -> DenseHead:
        """A fresh head of the task, with the neck that it needs."""

    @abstractmethod
    def made_up(self, task: Any, chance: torch.Generator) -> Target:
        """A random truth about an image of `counted` pixels, to time training with."""

    @abstractmethod
    def evaluator(self, task: Any, source: Source) -> Evaluator:
        """A fresh evaluator for answers to the images of a source."""

    def labelled(self, source: Source, classes: int, index: int) -> Image:
        """An image with its truth drawn, to look at a data set; here without."""
        return source.image(index)

    def remarks(self, source: Source) -> Iterator[str]:
        """What a reader of a split should know about its truth; here nothing."""
        yield from ()

    def plain(self, task: Any) -> Any:
        """The task with nothing but its own metric, which is all that is chosen by while a method trains."""
        return task

    def standard(self, task: Any, method: Method) -> Recipe:
        """The recipe of a task for a method that publishes none of its own."""
        from petlbench.recipe import Recipe

        return Recipe()

    def recipe(self, method: Method, name: str, task: Task) -> Recipe:
        own = f"{name}/{task.name}" in method.recipes or name in method.recipes
        return method.recipe(name, task.name) if own else self.standard(task, method)

    def augmented(
        self, task: Any, recipe: Recipe, image: Image, target: Target, rng: Generator
    ) -> tuple[Image, Target]:
        """What training sees of an image: at a random scale of the task, mirrored as often as the recipe says."""
        from petlbench.dense import images

        shorter = int(rng.choice(task.scales)) if task.scales else task.sides[0]
        size = images.fitted((image.height, image.width), shorter, task.sides[1])
        image, target = images.resized(image, target, size)
        return images.mirrored(image, target) if rng.random() < recipe.flip else (image, target)

    def answers(self, task: Any, look: Look, pictures: Sequence[Image]) -> list[tuple[dict[str, Any], Size]]:
        """The networks' answers to some images, each with the size that it was seen in."""
        from petlbench.dense import images

        sizes = [images.fitted((each.height, each.width), *task.sides) for each in pictures]
        views = [images.resized(each, {}, size)[0] for each, size in zip(pictures, sizes, strict=True)]
        return list(zip(look(views), sizes, strict=True))

    def prepare(self, task: Task, root: Path | None) -> Path:
        if root is None and self.generated:
            from petlbench.drawing import annotated

            root = annotated.cached(self.generated)
            if not root.is_dir():
                annotated.make(self.generated, root)
        name = type(self).__module__.rpartition(".")[2]
        hint = f"; {type(self).source}" if type(self).source else ""
        if root is None:
            raise InputError(
                f"--suite {name}: its images do not come with petlbench, say where they are: --data-root DIR{hint}"
            )
        found = self.locate(task, root)
        if found is None:
            raise InputError(
                f"--data-root {root}: has no folder {' or '.join(task.folders)} for task {task.name} of suite "
                f"{name}{hint}"
            )
        return found

    def is_ready(self, task: Task, root: Path | None) -> bool:
        from petlbench.drawing import annotated

        return root is not None or not self.generated or annotated.cached(self.generated).is_dir()

    def fingerprint(self, task: Task, data: Path, progress: Callable[[str], None]) -> str:
        from petlbench.framing import Framing

        progress(f"taking the fingerprint of {data.name}")
        splits = ("train800val200", "test")
        return combine({split: self.data(task, split, data, Framing(1)).digest() for split in splits})

    def data(self, task: Task, split: str, data: Path, framing: Framing) -> Examples:  # type: ignore[override]
        """A split by its name in VTAB-1K; `framing` does not matter, since a task has sizes of its own."""
        from petlbench.dense.images import Examples, Part

        source = self.read(task, data, training=split != "test")
        if split in ("train800", "val200"):
            held = [index % EACH == EACH - 1 for index in range(len(source))]
            source = Part(source, [index for index, is_held in enumerate(held) if is_held == (split == "val200")])
        return Examples(source, data, split)

    def loss(self, outputs: Any, targets: Any, label_smoothing: float = 0.0) -> Tensor:
        """The sum of the parts of a head's loss."""
        total: Tensor = sum(outputs.values())
        return total

    def score(self, outputs: Evaluator, targets: Any) -> Iterator[tuple[str, float]]:
        yield from outputs.scores()

    def trial(  # type: ignore[override]
        self,
        encoder: Encoder,
        head: nn.Module,
        task: Task,
        train: Examples,
        run: Run,
        *,
        device: str,
        report: Report,
    ) -> DenseTrial:
        from petlbench.dense.trial import DenseTrial

        return DenseTrial(
            encoder, head, self, task, run.recipe, train, run.backbone, seed=run.seed, device=device, report=report
        )

    def count(self, encoder: Encoder, head: nn.Module, backbone: Backbone) -> Counts:
        """As for other suites, for an image of `counted` pixels; a head is counted by its `forward` of maps."""
        import torch

        from petlbench import measure
        from petlbench.dense.head import Maps
        from petlbench.trial import Normalize

        images = Normalize(backbone)(torch.zeros(1, 3, *self.counted, dtype=torch.uint8))
        return measure.count(Maps(encoder), head, images, large=True)

    def speed(
        self,
        encoder: Encoder,
        head: DenseHead,
        task: Any,
        *,
        batch_size: int,
        device: torch.device,
        precision: Precision = "fp32",
        repeats: int = 10,
    ) -> Speed:
        """Time the whole detector or segmenter on random images of `counted` pixels, and read the peaks of memory.

        Inference is the head's `forward` of the maps, whose arithmetic does not depend on what is found; training has
        the head's own losses, on truths of `made_up`.
        """
        import torch

        from petlbench.dense.head import Maps
        from petlbench.measure import Network
        from petlbench.speed import timing

        network, chance = Network(Maps(encoder), head), torch.Generator().manual_seed(0)
        images = torch.randn(batch_size, 3, *self.counted, generator=chance)
        truths = [self.made_up(task, chance) | {"size": self.counted} for _ in range(batch_size)]

        def loss(images: Tensor) -> Tensor:
            targets = [
                {name: value.to(images.device) if torch.is_tensor(value) else value for name, value in truth.items()}
                for truth in truths
            ]
            return self.loss(head.losses(encoder.pyramid(images), images, targets), targets)

        return timing(network, images, loss, device=device, precision=precision, repeats=repeats)
