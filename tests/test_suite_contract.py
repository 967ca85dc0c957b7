"""What every suite promises, held against all that there are."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from petlbench import contract, zoo
from petlbench.dense.suite import DenseSuite
from petlbench.errors import InputError
from petlbench.suite import Suite

DENSE = [name for name in zoo.suites() if issubclass(zoo.suite(name), DenseSuite)]
"""Suites whose heads read maps; those of the others read a vector."""


@pytest.fixture(params=zoo.suites())
def suite(request: pytest.FixtureRequest) -> Suite:
    return zoo.suite(request.param)()


def test_tasks_are_facts_that_fit_together(suite: Suite) -> None:
    is_shared = isinstance(suite, DenseSuite)  # its tasks are heads on the same data
    names = [name for task in suite.tasks for name in {task.name, *(() if is_shared else task.folders)}]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    for task in suite.tasks:
        assert task.name.isidentifier()
        assert task.classes > 1
        assert task.train > 0
        assert task.test > 0
        assert task.note


def test_tasks_of_a_group_stand_together(suite: Suite) -> None:
    groups = [task.group for task in suite.tasks]
    changes = [group for before, group in zip([None, *groups], groups, strict=False) if before != group]
    assert len(changes) == len(set(changes))


@pytest.mark.parametrize("name", [name for name in zoo.suites() if name not in DENSE])
def test_a_head_scores_what_an_encoder_says(name: str) -> None:
    suite, encoder = zoo.suite(name)(), contract.tiny_vit()
    for task in suite.tasks[:3]:
        outputs = suite.head(encoder, task)(encoder(torch.randn(6, 3, 32, 32)))
        targets = torch.arange(6) % task.classes
        assert suite.loss(outputs, targets).shape == ()
        scores = dict(suite.score(outputs, targets))
        assert 0 <= scores[task.metric] <= 100
        perfect = torch.nn.functional.one_hot(targets, task.classes).float()
        assert dict(suite.score(perfect, targets))[task.metric] == 100


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "coco")) for name in DENSE])
def test_a_dense_head_learns_from_maps_and_answers_for_each_image(name: str) -> None:
    suite, encoder = zoo.suite(name)(), contract.tiny_vit(dynamic_img_size=True)
    assert isinstance(suite, DenseSuite)
    images, sizes = torch.randn(2, 3, 64, 96), [(64, 96), (64, 90)]
    mask = torch.zeros(1, 64, 96, dtype=torch.uint8)
    mask[:, 8:40, 10:50] = 1
    targets = [
        {
            "map": torch.randint(0, 2, (64, 96)),
            "boxes": torch.tensor([[10.0, 8.0, 50.0, 40.0]]),
            "labels": torch.tensor([1]),
            "masks": mask,
            "size": size,
        }
        for size in sizes
    ]
    for kind in {task.head for task in suite.tasks}:
        task = next(task for task in suite.tasks if task.head == kind)
        head = suite.head(encoder, task)
        maps = encoder.pyramid(images)
        losses = head.losses(maps, images, targets)
        assert losses
        total = suite.loss(losses, targets)
        assert total.shape == ()
        assert total.isfinite()
        total.backward()
        assert any(weight.grad is not None and weight.grad.any() for weight in head.parameters())
        with torch.no_grad():
            assert len(head.eval().predict(maps, images, sizes)) == 2


def test_missing_data_are_one_line_that_says_where_to_put_them(suite: Suite, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--data-root .*: has no folder ") as refusal:
        suite.prepare(suite.tasks[0], tmp_path)
    assert "\n" not in str(refusal.value)


def test_an_unknown_task_is_refused_with_the_nearest(suite: Suite) -> None:
    with pytest.raises(InputError, match="unknown task 'nothing'"):
        suite.task("nothing")
