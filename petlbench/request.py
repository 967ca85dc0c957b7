"""A comparison as it was asked for, resolved into its cells: one method on one task, with all that decides its runs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from petlbench import backbone as backbones
from petlbench import card, search, spec, zoo
from petlbench.dense.suite import DenseSuite
from petlbench.engines import local
from petlbench.errors import InputError
from petlbench.framing import Interpolation, Resize
from petlbench.method import Method
from petlbench.recipe import LATER, Recipe
from petlbench.run import Backbone, Budget, Job, Normalization, Protocol, Run, Search
from petlbench.spec import Spec
from petlbench.suite import Suite, Task

Colour = tuple[float, float, float]
"""One number for red, green and blue."""

NORMALIZATIONS: dict[Normalization, tuple[Colour, Colour]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and deviation of pixels in [0, 1], for those who want another normalisation than the backbone's own."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A comparison as it was asked for."""

    methods: Sequence[Spec]
    suite: str
    tasks: Sequence[str] = ()
    """Empty for all tasks of the suite."""
    backbone: str = "mini"
    weights: str = backbones.PRETRAINED
    image_size: int | None = None
    """Height and width that images are resized to, in pixels; None for the backbone's own."""
    data_root: Path | None = None
    results: Path = Path("results")
    seeds: Sequence[int] = (0,)
    protocol: Protocol = "fixed"
    trials: int = search.TRIALS
    """Settings that every method may try on a task, under `tuned`."""
    normalization: Normalization = "backbone"
    resize: Resize | None = None
    """None for the suite's own."""
    interpolation: Interpolation = "bicubic"
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of `Recipe` that replace the method's own."""
    device: str = "cpu"
    threads: int = 1
    processes: int = 1
    """Processes that train one run together, for dense suites."""
    save_weights: bool = False
    """Whether what was trained is kept beside the records."""


def cells(request: Request, progress: Callable[[str], None] = lambda text: None) -> list[Cell]:
    """The cells of a request, task by task. Makes the data of a generated suite where they are missing.

    Raises InputError for whatever cannot be run.
    """
    suite = zoo.suite(request.suite)()
    tasks = [suite.task(name) for name in request.tasks] or list(suite.tasks)
    methods = [(each, spec.make(zoo.method(each.name), each.fields, f"method {each.name}")) for each in request.methods]
    checked = spec.make(Recipe, request.overrides, "--recipe")  # `lr=1` is `lr=1.0`, or it would be another run
    request = dataclasses.replace(request, overrides={name: getattr(checked, name) for name in request.overrides})
    if request.results.is_file():
        raise InputError(f"--results {request.results}: is a file, expected a folder")
    _check_recipe(checked, request, suite)
    backbone, normalization = _backbone(request)
    _check_backbone(request, suite)
    _check_names(request)
    for each, method in methods:  # before any data are made
        backbones.require(type(method), each.name, request.backbone)
        _check_windows(method, each, request.backbone)
        _check_parts(method, each, request)
        search.space(method, ())
        for task in tasks if request.protocol == "paper" else ():
            _published(method, each, request.suite, task)
    _check_processes(request, suite, tasks, [method for _, method in methods])
    data = _data(suite, request, tasks, progress)
    return [
        Cell(request, each, method, task, backbone, normalization, *data[task.name])
        for task in tasks
        for each, method in methods
    ]


@dataclass(frozen=True)
class Cell:
    """One method on one task: what the runs of a row and a column of the table have in common."""

    request: Request
    spec: Spec
    method: Method
    task: Task
    backbone: Backbone
    normalization: Normalization
    folder: Path
    fingerprint: str

    def run(self, seed: int) -> Run:
        """The run with the method's recipe or, under `paper`, with the settings that were published for the task."""
        return dataclasses.replace(self._plain, seed=seed)

    @cached_property
    def trials(self) -> list[Run]:
        """The runs of the search, equally many for every method whose grid has as many."""
        return [self._trial(setting) for setting in search.settings(self.space, self._default, self.request.trials)]

    def final(self, seed: int, trial: Run) -> Run:
        """The run on all training images with the settings of a trial."""
        wanted = Search(trials=self.request.trials, space=msgspec.to_builtins(self.space))
        return dataclasses.replace(self._plain, seed=seed, fields=trial.fields, recipe=trial.recipe, search=wanted)

    @cached_property
    def space(self) -> dict[str, list[Any]]:
        """What is searched: what a person has set is not."""
        return search.space(self.method, [*self.spec.fields, *self.request.overrides])

    def job(self, run: Run, budget: Budget | None = None) -> Job:
        """The run with the places of what it needs on this machine."""
        return dataclasses.replace(self._job, run=run, budget=budget)

    @cached_property
    def _plain(self) -> Run:
        """The run of any seed, under all protocols without what a search has found: the seeds differ in nothing else,
        and a plan may have thousands of them."""
        method, every = self.method, 0
        if self.request.protocol == "paper":
            method, every = _published(method, self.spec, self.request.suite, self.task), method.evaluate_every
        return dataclasses.replace(self._run(method, self.request.overrides, search.SEED), evaluate_every=every)

    @cached_property
    def _job(self) -> Job:
        request = self.request
        named = self.backbone.weights not in (backbones.PRETRAINED, backbones.RANDOM)
        plugins = {zoo.name_of(n): str(Path(n).resolve()) for n in (self.spec.name, request.suite) if zoo.is_path(n)}
        return Job(
            run=self._plain,
            data=str(self.folder),
            results=str(request.results.resolve()),
            weights=str(Path(request.weights).resolve()) if named else None,
            plugins=plugins,
            device=request.device,
            threads=request.threads,
            processes=request.processes,
            save_weights=request.save_weights,
        )

    def _run(self, method: Method, overrides: Mapping[str, Any], seed: int) -> Run:
        request, name = self.request, zoo.name_of(self.spec.name)
        # Under `tuned` the fields differ from task to task, and those that were set, were not searched.
        label = str(Spec(name, self.spec.fields)) if request.protocol == "tuned" else spec.label(name, self.method)
        return Run(
            suite=zoo.name_of(request.suite),
            task=self.task.name,
            method=name,
            fields=msgspec.to_builtins(dataclasses.asdict(method)),
            recipe=_recipe(method, zoo.suite(request.suite)(), zoo.name_of(request.suite), self.task, overrides),
            backbone=self.backbone,
            data=self.fingerprint,
            protocol=request.protocol,
            normalization=self.normalization,
            resize=request.resize or zoo.suite(request.suite).resize,
            interpolation=request.interpolation,
            seed=seed,
            label=label,
            overrides=_written(request.overrides),
        )

    @property
    def _default(self) -> search.Setting:
        recipe = self._plain.recipe
        return {name: getattr(self.method if name in self._own else recipe, name) for name in self.space}

    @cached_property
    def _own(self) -> set[str]:
        """Names of the method's fields; other names of its grid are those of the recipe."""
        return {field.name for field in dataclasses.fields(self.method)}

    def _trial(self, setting: search.Setting) -> Run:
        own = {name: value for name, value in setting.items() if name in self._own}
        rest = {name: value for name, value in setting.items() if name not in own}
        method = spec.make(type(self.method), {**self.spec.fields, **own}, f"grid of {self.spec.name}")
        run = self._run(method, {**rest, **self.request.overrides}, search.SEED)
        return dataclasses.replace(run, train="train800", score="val200", overrides=_written(setting))


def _backbone(request: Request) -> tuple[Backbone, Normalization]:
    """The backbone with the normalisation that was asked for, and its name."""
    spec.single(request.backbone, "--backbone")
    found = backbones.describe(request.backbone, request.weights, request.image_size)
    card.check(found, request.weights)
    if request.normalization == "backbone":
        return found, "backbone"
    mean, std = NORMALIZATIONS[request.normalization]
    if (mean, std) == (found.mean, found.std):
        return found, "backbone"
    return dataclasses.replace(found, mean=mean, std=std), request.normalization


def _written(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(fields.items()))


def _published(method: Method, asked: Spec, suite: str, task: Task) -> Method:
    """The method with the fields that were published for the task. Raises InputError if nothing was."""
    suite, name = zoo.name_of(suite), zoo.name_of(asked.name)
    if method.recipe(suite, task.name).source.startswith("petlbench"):
        raise InputError(
            f"--protocol paper: {name} has no published settings for {suite}/{task.name}; "
            "valid: --protocol fixed, --protocol tuned"
        )
    published = method.published(suite, task.name)
    if both := sorted({*published} & {*asked.fields}):
        raise InputError(
            f"--protocol paper: the paper sets {', '.join(both)} of {name} for {suite}/{task.name}; "
            "leave that out, or choose --protocol fixed"
        )
    return spec.make(type(method), {**asked.fields, **published}, f"method {name}")


def _recipe(method: Method, suite: Suite, name: str, task: Task, overrides: Mapping[str, Any]) -> Recipe:
    """The method's recipe with the overrides; fewer or more epochs or steps stretch warm-up and cooldown alike."""
    recipe = suite.recipe(method, name, task)
    if overrides.get("steps") and recipe.steps:
        shorter = round(recipe.warmup_steps * overrides["steps"] / recipe.steps)
        recipe = dataclasses.replace(recipe, warmup_steps=shorter)
    if "epochs" in overrides and recipe.steps:  # its warm-up is a share of what it was
        recipe = dataclasses.replace(recipe, steps=None, warmup_steps=0)
    if "epochs" in overrides:
        ratio = overrides["epochs"] / recipe.epochs
        stretched = {name: round(getattr(recipe, name) * ratio) for name in ("warmup_epochs", "cooldown_epochs")}
        recipe = dataclasses.replace(recipe, **stretched)
    return dataclasses.replace(recipe, **overrides)


def _check_recipe(recipe: Recipe, request: Request, suite: Suite) -> None:
    """Raise InputError for a setting of `--recipe` that no training can follow, or that this suite does not know.

    A published recipe is right as it is, so `Recipe` itself asks less.
    """
    if recipe.precision == "fp16" and request.device == "cpu":
        raise InputError("--recipe precision=fp16: needs a GPU (CUDA); on the CPU use bf16 or fp32")
    clip = recipe.clip_norm is None or recipe.clip_norm > 0
    for name, holds, rule in (
        ("lr", recipe.lr > 0, "must be above 0"),
        ("weight_decay", recipe.weight_decay >= 0, "must not be negative"),
        ("momentum", 0 <= recipe.momentum < 1, "must be at least 0 and below 1"),
        ("clip_norm", clip, "must be above 0, or None for no clipping"),
        ("warmup_lr", recipe.warmup_lr >= 0, "must not be negative"),
        ("min_lr", recipe.min_lr >= 0, "must not be negative"),
        ("power", recipe.power > 0, "must be above 0"),
    ):
        if name in request.overrides and not holds:
            raise InputError(f"--recipe {name}={getattr(recipe, name)}: {rule}")
    if {"epochs", "warmup_epochs"} <= request.overrides.keys() and recipe.warmup_epochs > recipe.epochs:
        raise InputError(f"--recipe warmup_epochs={recipe.warmup_epochs}: must not exceed epochs={recipe.epochs}")
    dense = [name for name in LATER if name in request.overrides]
    if dense and not isinstance(suite, DenseSuite):
        raise InputError(f"--recipe {dense[0]}: for dense suites only, such as mini_ade20k")


def _check_backbone(request: Request, suite: Suite) -> None:
    """Raise InputError for weights that are not those of the backbone, now rather than in every run."""
    named = request.weights not in (backbones.PRETRAINED, backbones.RANDOM)
    if not named and spec.single(request.backbone, "--backbone").name != "mini":
        return  # timm's own weights fit, and are not fetched for a plan
    with torch.random.fork_rng(devices=[]):
        backbones.build(
            request.backbone, request.weights, image_size=request.image_size, any_size=isinstance(suite, DenseSuite)
        )


def _check_names(request: Request) -> None:
    """Raise InputError for a file that is called as something in the zoo: their results could not be told apart."""
    for name in (each.name for each in request.methods):
        if zoo.is_path(name) and zoo.is_known(zoo.METHODS, zoo.name_of(name)) and not zoo.is_own(zoo.METHODS, name):
            raise InputError(f"method '{name}': {zoo.name_of(name)} is a method of the zoo too; rename the file")


def _check_parts(method: Method, asked: Spec, request: Request) -> None:
    """Raise InputError for a method with BatchNorm under `accumulate`; a trial says it again."""
    if request.overrides.get("accumulate", 1) == 1:
        return
    with torch.random.fork_rng(devices=[]):
        encoder = method.attach(backbones.build(request.backbone, backbones.RANDOM, image_size=request.image_size))
    if any(isinstance(module, BatchNorm) for module in encoder.modules()):
        raise InputError(
            f"--recipe accumulate={request.overrides['accumulate']}: method {asked.name} has BatchNorm, whose "
            "statistics are those of the whole batch; use accumulate=1"
        )


def _check_windows(method: Method, asked: Spec, backbone: str) -> None:
    """Raise InputError for a method that has attention of its own, which knows nothing of windows."""
    if not backbones.has_windows(backbone):
        return
    with torch.device("meta"):  # shapes only: no weight takes memory or time
        vit = backbones.build(backbone, backbones.RANDOM, any_size=True)
        try:
            method.attach(vit)
        except InputError as error:
            raise InputError(f"method {asked.name} cannot be built into backbone {backbone}: {error}") from error


def _check_processes(request: Request, suite: Suite, tasks: Sequence[Task], methods: Sequence[Method]) -> None:
    """Raise InputError for what several processes cannot train together."""
    if request.processes == 1:
        return
    given, name = f"--processes {request.processes}", zoo.name_of(request.suite)
    if not isinstance(suite, DenseSuite):
        raise InputError(f"{given}: for dense suites only, a run of {name} is trained by one; valid: --processes 1")
    for method, task in product(methods, tasks):
        images = _recipe(method, suite, name, task, request.overrides).batch_size
        if images % request.processes:
            valid = [str(number) for number in range(1, images + 1) if images % number == 0]
            raise InputError(
                f"{given}: the {images} images of a batch of task {task.name} cannot be shared equally; "
                f"valid: {', '.join(valid)}"
            )


def _data(
    suite: Suite, request: Request, tasks: Sequence[Task], progress: Callable[[str], None]
) -> dict[str, tuple[Path, str]]:
    """Folder and fingerprint of every task. What has to be made first is made on all cores."""
    root = request.data_root
    if root is not None and not root.is_dir():
        raise InputError(f"--data-root {root}: no such folder")
    missing = [task for task in tasks if not suite.is_ready(task, root)]
    for task in missing:
        progress(f"making the images of {task.name}, once")
    if len(missing) > 1:
        with ProcessPoolExecutor(os.cpu_count(), mp_context=local.context()) as pool:
            list(pool.map(_prepare, [request.suite] * len(missing), missing))
    folders = {task.name: suite.prepare(task, root).resolve() for task in tasks}
    return {task.name: (folders[task.name], _fingerprint(suite, task, root, folders, progress)) for task in tasks}


def _fingerprint(
    suite: Suite, task: Task, root: Path | None, folders: Mapping[str, Path], progress: Callable[[str], None]
) -> str:
    try:
        return suite.fingerprint(task, folders[task.name], progress)
    except InputError as error:
        if root is not None:
            raise
        raise InputError(f"{error}; remove {folders[task.name]}, and it will be made anew") from error


def _prepare(suite: str, task: Task) -> None:
    zoo.suite(suite)().prepare(task, None)
