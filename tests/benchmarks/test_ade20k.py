"""ADE20K in its true layout, with drawn images under its real names: sizes, recipes, and a run from end to end."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from petlbench import backbone, contract, zoo
from petlbench.dense.trial import DenseTrial
from petlbench.drawing import annotated
from petlbench.framing import Framing


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with the names of all 150 classes, of which the images show eleven."""
    annotated.make("mini-ade20k", tmp_path / "data", {"train": 4, "val": 2})
    rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName", *(f"{k}\t0\t0\t0\t0\tname {k}, other" for k in range(1, 151))]
    (tmp_path / "data" / "ADEChallengeData2016" / "objectInfo150.txt").write_text("\n".join(rows))
    return tmp_path / "data"


def test_tasks_are_those_of_the_hst_paper() -> None:
    tasks = {task.name: task for task in zoo.suite("ade20k").tasks}
    assert list(tasks) == ["semantic_fpn", "upernet"]
    assert {(task.classes, task.train, task.test, task.metric) for task in tasks.values()} == {
        (150, 20_210, 2_000, "miou")
    }


@pytest.mark.parametrize(("task", "steps"), [("semantic_fpn", 80_000), ("upernet", 160_000)])
def test_all_methods_have_one_recipe_that_says_it_is_ours(task: str, steps: int) -> None:
    suite = zoo.suite("ade20k")()
    recipes = {suite.recipe(zoo.method(name)(), "ade20k", suite.task(task)) for name in ("linear", "hst", "full")}
    (recipe,) = recipes
    assert (recipe.steps, recipe.batch_size, recipe.decay) == (steps, 16, "poly")
    assert recipe.source.startswith("petlbench, HST published none")


@pytest.mark.parametrize("name", ["semantic_fpn", "upernet"])
def test_real_names_are_read_trained_on_and_scored_in_windows_and_at_several_sizes(root: Path, name: str) -> None:
    suite: Any = zoo.suite("ade20k")()
    task = replace(suite.task(name), sides=(64, 128), crop=64, stride=42, ratios=(0.5, 1.0), width=16)
    encoder = zoo.method("linear")().attach(contract.tiny_vit(dynamic_img_size=True))
    train = suite.data(task, "train800val200", suite.prepare(task, root), Framing(32))
    recipe = replace(suite.recipe(zoo.method("linear")(), "ade20k", task), steps=2, batch_size=2, warmup_steps=0)
    facts = backbone.describe("mini", "random")
    trial = DenseTrial(encoder, suite.head(encoder, task), suite, task, recipe, train, facts)
    trial.keep_in(root / "checkpoints", root / "pictures")
    trial.fit()
    test = suite.data(task, "test", train.folder, Framing(32))
    scores = dict(suite.score(*trial.outputs(test)))
    assert next(iter(scores)) == "miou"
    assert {"miou", "aacc", "macc", "miou_ms"} <= scores.keys()
    assert all(0 <= value <= 100 for value in scores.values())
    assert sorted(path.name for path in (root / "pictures").iterdir()) == ["0.png", "1.png"]
    assert "iou/name 1" in scores
