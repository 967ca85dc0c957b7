"""The facts of VTAB-1K, as google-research/task_adaptation states them in its own tests."""

from collections import Counter
from pathlib import Path

import pytest
import tree

from petlbench import cli, spec, worker, zoo
from petlbench.data.verify import verify
from petlbench.plan import plan
from petlbench.request import Request

FACTS = [
    ("cifar100", 100, 10_000), ("caltech101", 102, 6_084), ("dtd", 47, 1_880), ("flowers102", 102, 6_149),
    ("pets", 37, 3_669), ("svhn", 10, 26_032), ("sun397", 397, 21_750), ("patch_camelyon", 2, 32_768),
    ("eurosat", 10, 5_400), ("resisc45", 45, 6_300), ("diabetic_retinopathy", 5, 42_670), ("clevr_count", 8, 15_000),
    ("clevr_dist", 6, 15_000), ("dmlab", 6, 22_735), ("kitti_dist", 4, 711), ("dsprites_loc", 16, 73_728),
    ("dsprites_ori", 16, 73_728), ("smallnorb_azi", 18, 12_150), ("smallnorb_ele", 9, 12_150),
]  # fmt: skip


@pytest.mark.parametrize(("name", "classes", "test"), FACTS)
def test_classes_and_test_images(name: str, classes: int, test: int) -> None:
    task = zoo.suite("vtab")().task(name)
    assert (task.classes, task.train, task.test) == (classes, 1000, test)


def test_nineteen_tasks_in_three_groups() -> None:
    groups = Counter(task.group for task in zoo.suite("vtab").tasks)
    assert groups == {"natural": 7, "specialized": 4, "structured": 8}


def test_a_head_costs_769_weights_per_class_and_38_045_on_average() -> None:
    classes = [task.classes for task in zoo.suite("vtab").tasks]
    assert sum(classes) == 940
    assert round(769 * sum(classes) / 19) == 38_045


@pytest.mark.parametrize("folder", ["cifar", "cifar100", "oxford_iiit_pet", "oxford_pet", "kitti"])
def test_both_spellings_of_the_fields_folders_are_known(folder: str) -> None:
    assert any(folder in task.folders for task in zoo.suite("vtab").tasks)


@pytest.mark.slow
def test_nineteen_tasks_in_noahs_layout_are_whole_but_for_short_test_splits(tmp_path: Path) -> None:
    """Every count is the real one but for the test images, of which there are forty a task."""
    suite = zoo.suite("vtab")()
    root = tree.vtab(tmp_path, test=40)
    assert cli.main(["data", "verify", "vtab", "--data-root", str(root)]) == 1
    found = [finding for task in suite.tasks for finding in verify(suite, task, root)]
    errors = [finding.text for finding in found if finding.level == "error"]
    assert errors == [f"test.txt: 40 images, expected {task.test:,}" for task in suite.tasks]
    assert [finding.text for finding in found if "export" in finding.text] == ["lossy JPEG export (2,040 JPEG)"] * 19


@pytest.mark.slow
def test_two_methods_run_on_all_nineteen_tasks(tmp_path: Path) -> None:
    root = tree.vtab(tmp_path / "data", train=40, test=8)
    request = Request(
        methods=spec.parse("linear,bitfit"),
        suite="vtab",
        weights="random",
        data_root=root,
        results=tmp_path / "results",
        overrides={"epochs": 1, "batch_size": 20},
    )
    planned = plan(request)
    assert len(planned) == 38
    records = [worker.work(each.job) for each in planned]
    assert [record.reason for record in records if record.status != "done"] == []
    heads = {record.run.task: record.counts.head_parameters for record in records if record.counts}
    assert heads == {task.name: 129 * task.classes for task in zoo.suite("vtab").tasks}
