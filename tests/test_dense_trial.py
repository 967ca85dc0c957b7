"""Training on images of any size: the same whatever reads the images and however often it is stopped."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace as with_
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from petlbench import backbone, contract, zoo
from petlbench.dense import images
from petlbench.dense.trial import DenseTrial
from petlbench.drawing import annotated
from petlbench.errors import InputError
from petlbench.framing import Framing
from petlbench.optimize import StepSchedule
from petlbench.recipe import LATER, Recipe
from petlbench.run import Run
from petlbench.store import Store
from petlbench.trial import DivergedError

RECIPE = Recipe(source="test", steps=6, batch_size=3, decay="poly", lr=1e-2, warmup_steps=2, min_lr=0.0, flip=0.5)
FACTS = with_(backbone.describe("mini", "random"), image_size=32)
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "mini-ade20k"
    annotated.make("mini-ade20k", folder, {"train": 8, "val": 3})
    return folder


Make = Callable[..., DenseTrial]


@pytest.fixture
def make(tree: Path) -> Make:
    def make(
        recipe: Recipe = RECIPE, method: str = "bitfit", seed: int = 0, workers: int = 2, **fields: Any
    ) -> DenseTrial:
        suite: Any = zoo.suite("mini-ade20k")()
        task = suite.task("semantic_fpn")
        torch.manual_seed(seed)
        vit = contract.tiny_vit(dynamic_img_size=True, drop_path_rate=recipe.drop_path)
        encoder = zoo.method(method)().attach(vit)
        head = suite.head(encoder, task)
        train = suite.data(task, "train800val200", suite.prepare(task, tree), Framing(32))
        return DenseTrial(encoder, head, suite, task, recipe, train, FACTS, seed=seed, workers=workers)

    return make


def weights(trial: DenseTrial) -> Tensor:
    parts = (trial.encoder, trial.head)
    return torch.cat([value.flatten().float() for part in parts for value in part.state_dict().values()])


@pytest.mark.parametrize("drop_path", [0.0, 0.3])
def test_equal_seeds_give_bit_equal_weights_whatever_the_number_of_workers(make: Make, drop_path: float) -> None:
    def trained(seed: int, workers: int) -> Tensor:
        trial = make(with_(RECIPE, drop_path=drop_path), seed=seed, workers=workers)
        trial.fit()
        return weights(trial)

    alone = trained(0, 0)
    assert torch.equal(alone, trained(0, 3))
    assert not torch.equal(alone, trained(1, 3))


def test_every_image_comes_once_an_epoch() -> None:
    row = images.order(5, (3, 0))
    epochs = [[next(row) for _ in range(5)] for _ in range(3)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    later = images.order(5, (3, 0), start=7)
    assert [next(later) for _ in range(8)] == [*epochs[1][2:], *epochs[2]]


def test_batches_are_what_the_task_crops_with_the_truth_at_its_place(make: Make) -> None:
    batches = list(make().batches())
    assert [len(batch.targets) for batch in batches] == [3, 3]  # of 8 images
    for batch in batches:
        assert batch.images.shape == (3, 3, 96, 96)
        assert all(target["map"].shape == (96, 96) and target["size"] == (96, 96) for target in batch.targets)


def test_images_of_several_sizes_are_padded_behind_normalisation_and_padding_is_ignored() -> None:
    parts = [
        (torch.full((3, 40, 20), 9, dtype=torch.uint8), {"map": torch.zeros(40, 20, dtype=torch.int64)}),
        (torch.full((3, 30, 70), 9, dtype=torch.uint8), {"map": torch.zeros(30, 70, dtype=torch.int64)}),
    ]
    batch = images.collated(parts, lambda pixels: pixels.float() - 4)
    assert batch.images.shape == (2, 3, 64, 96)
    assert batch.images[0, 0].sum() == 40 * 20 * 5
    assert [int((target["map"] == 255).sum()) for target in batch.targets] == [64 * 96 - 800, 64 * 96 - 2100]
    assert [target["size"] for target in batch.targets] == [(40, 20), (30, 70)]


def test_boxes_masks_and_maps_move_with_their_image() -> None:
    from PIL import Image

    mask = torch.zeros(1, 20, 40, dtype=torch.uint8)
    mask[0, 4:8, 10:20] = 1
    truth = {"boxes": torch.tensor([[10.0, 4.0, 20.0, 8.0]]), "masks": mask, "map": mask[0].long()}
    image, made = images.resized(Image.new("RGB", (40, 20)), truth, (40, 80))
    image, made = images.mirrored(image, made)
    assert image.size == (80, 40)
    assert made["boxes"].tolist() == [[40.0, 8.0, 60.0, 16.0]]
    rows, columns = made["masks"][0].nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 15, 40, 59)
    assert torch.equal(made["map"], made["masks"][0].long())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns_and_says_how_fast_and_from_which_parts(make: Make, precision: str) -> None:
    trial = make(with_(RECIPE, steps=20, precision=precision, clip_norm=1.0))
    trial.fit()
    first, last = trial.curve[0], trial.curve[-1]
    assert last.step == 20
    assert first.loss is not None
    assert last.loss is not None
    assert last.loss < 0.8 * first.loss
    assert last.loss == pytest.approx(sum(last.parts.values()))
    assert last.images_per_second


def test_a_loss_that_is_not_finite_ends_the_run_and_says_where(make: Make) -> None:
    trial = make(with_(RECIPE, optimizer="sgd", lr=1e30, warmup_steps=0, steps=5))
    with pytest.raises(DivergedError, match=r"not finite any more \(step \d\)"):
        trial.fit()


def test_recomputed_blocks_give_the_same_weights(make: Make) -> None:
    def trained(checkpointing: bool) -> Tensor:
        trial = make(with_(RECIPE, checkpointing=checkpointing, drop_path=0.2), "lora")
        trial.fit()
        return weights(trial)

    torch.testing.assert_close(trained(True), trained(False), rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["e2vpt", "heat"])
def test_methods_with_phases_train_by_steps_too(make: Make, method: str) -> None:
    trial = make(with_(RECIPE, steps=3), method)
    zoo.method(method)().fit(trial)
    assert len(trial.curve) > 3  # a step each, so there were several phases
    assert trial.found


def test_a_part_holds_the_images_that_the_other_does_not(make: Make) -> None:
    train, held = make().split()
    assert (len(train._source), len(held._source)) == (7, 1)
    assert 0 <= held.score() <= 100


def test_the_best_of_several_evaluations_is_recorded_beside_the_last(make: Make) -> None:
    trial = make(with_(RECIPE, evaluate_steps=2))
    trial.fit()
    test = trial.suite.data(trial.task, "test", trial.train.folder, Framing(32))
    scores = dict(trial.suite.score(*trial.outputs(test)))
    seen = [row.scores["miou"] for row in trial.curve if row.scores]
    assert [row.step for row in trial.curve if row.scores] == [2, 4]
    assert scores["miou_best"] == max(*seen, scores["miou"])


def test_evaluating_in_between_changes_nothing(make: Make) -> None:
    often = make(with_(RECIPE, evaluate_steps=1))
    often.fit()
    never = make()  # seeds anew, which dropout needs
    never.fit()
    assert torch.equal(weights(often), weights(never))


def test_an_answer_does_not_depend_on_the_images_beside_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = make()
    source = trial.suite.data(trial.task, "test", trial.train.folder, Framing(32)).source
    together = dict(trial._answers(source).scores())
    monkeypatch.setattr("petlbench.dense.trial.PIXELS", 1)
    assert dict(trial._answers(source).scores()) == pytest.approx(together, abs=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accumulate": 2}, "--recipe accumulate=2: there is BatchNorm"),
        ({"mixup": 0.5, "batch_size": 4}, "--recipe mixup=0.5: not for dense suites"),
        ({"warmup_steps": 6}, "--recipe warmup_steps=6: leaves nothing of 6 steps"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(make: Make, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        make(with_(RECIPE, **settings)).fit()
    assert str(raised.value).startswith(message)


def test_settings_of_dense_training_are_refused_elsewhere(trial: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="--recipe steps, decay: for dense suites only"):
        trial(zoo.method("linear")()).fit(Recipe(steps=3, decay="poly"))


def test_training_goes_on_bit_equal_from_a_checkpoint(make: Make, tmp_path: Path) -> None:
    recipe = with_(RECIPE, drop_path=0.3, steps=8)
    whole = make(recipe)
    whole.fit()
    stopped = make(recipe)
    stopped.keep_in(tmp_path)
    stopped.minutes = 0.0
    told: list[int] = []

    def stop(*, epoch: int, epochs: int, loss: float | None) -> None:
        told.append(epoch)
        if epoch == 5:
            raise KeyboardInterrupt

    stopped._report = stop
    with pytest.raises(KeyboardInterrupt):
        stopped.fit()
    second = make(recipe)
    torch.rand(7)  # whatever another process has drawn
    second.keep_in(tmp_path)
    second.fit()
    assert torch.equal(weights(whole), weights(second))
    assert [(row.step, row.loss) for row in second.curve] == [(row.step, row.loss) for row in whole.curve]
    third = make(recipe)
    third.keep_in(tmp_path)
    third._step = None  # type: ignore[assignment,method-assign]  # what is finished is not trained again
    third.fit()
    assert torch.equal(weights(whole), weights(third))
    third.forget()
    assert not tmp_path.exists()


def test_a_damaged_checkpoint_is_one_line(make: Make, tmp_path: Path) -> None:
    (tmp_path / "fit-0.pt").write_bytes(b"nonsense")
    trial = make()
    trial.keep_in(tmp_path)
    with pytest.raises(InputError, match=r"fit-0\.pt: is no checkpoint of this run; delete it to start anew"):
        trial.fit()


SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from petlbench import backbone, contract, zoo
from petlbench.dense.trial import DenseTrial
from petlbench.framing import Framing
from petlbench.recipe import Recipe

tree, keep, out, number, at = sys.argv[1:]
suite = zoo.suite("mini-ade20k")()
task = suite.task("semantic_fpn")
torch.set_num_threads(1)
torch.manual_seed(0)
encoder = zoo.method("lora")().attach(contract.tiny_vit(dynamic_img_size=True, drop_path_rate=0.2))
head = suite.head(encoder, task)
train = suite.data(task, "train800val200", suite.prepare(task, Path(tree)), Framing(32))
recipe = Recipe(steps=8, batch_size=3, decay="poly", lr=1e-2, min_lr=0.0, flip=0.5, drop_path=0.2)

def report(*, epoch, epochs, loss):
    if epoch == int(at):
        os.kill(os.getpid(), getattr(signal, number))

trial = DenseTrial(encoder, head, suite, task, recipe, train, backbone.describe("mini", "random"), report=report)
trial.minutes = 0.0 if number == "SIGKILL" else 60.0
trial.keep_in(Path(keep))
trial.fit()
state = {**encoder.state_dict(), **{f"head.{k}": v for k, v in head.state_dict().items()}}
torch.save(state, out)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_a_process_that_was_killed_is_continued_bit_equal(tree: Path, tmp_path: Path, number: str) -> None:
    def run(keep: str, out: str, at: int) -> int:
        arguments = [str(tree), str(tmp_path / keep), str(tmp_path / out), number, str(at)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, "-c", textwrap.dedent(SCRIPT), *arguments], env=environment).returncode

    assert run("whole", "whole.pt", 0) == 0
    assert run("stopped", "second.pt", 5) == -getattr(signal, number)
    assert run("stopped", "second.pt", 0) == 0
    whole, second = (torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "second.pt"))
    assert all(torch.equal(whole[name], second[name]) for name in whole)


@pytest.mark.parametrize(
    ("recipe", "rates"),
    [
        (Recipe(decay="poly", lr=1.0, min_lr=0.0), [1.0, 0.75, 0.5, 0.25]),
        (Recipe(decay="poly", lr=1.0, min_lr=0.0, power=2.0), [1.0, 0.5625, 0.25, 0.0625]),
        (Recipe(decay="steps", lr=1.0, milestones=(0.5, 0.75)), [1.0, 1.0, 0.1, 0.01]),
        (Recipe(decay="steps", lr=1.0, warmup_steps=2, warmup_lr=0.0), [0.5, 1.0, 1.0, 1.0]),
    ],
)
def test_learning_rates_by_steps(recipe: Recipe, rates: list[float]) -> None:
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "lr_scale": 2.0}], 1.0)
    schedule = StepSchedule(optimizer, recipe, 4)
    assert [schedule.rate(step) for step in range(4)] == pytest.approx(rates)
    schedule.set(1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2 * rates[1])


def test_records_made_before_a_field_came_keep_their_identity() -> None:
    records = list(Store(ROOT / "results" / "zoo").records())
    assert records
    folder = ROOT / "results" / "zoo"
    assert all((folder / record.run.path).is_file() for record in records)


def test_a_later_field_is_part_of_the_identity_once_it_says_something_new() -> None:
    run = Run(suite="s", task="t", method="m", fields={}, recipe=Recipe(), backbone=FACTS, data="d", seed=0, label="m")
    changed = {"steps": 7, "decay": "poly", "power": 0.9, "milestones": (0.5,), "warmup_steps": 3, "head_lr": 10.0}
    changed |= {"checkpointing": True, "evaluate_steps": 5}
    assert changed.keys() == LATER.keys()
    keys = {with_(run, recipe=with_(Recipe(), **{name: value})).key for name, value in changed.items()}
    assert len(keys | {run.key}) == len(changed) + 1
