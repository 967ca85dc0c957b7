"""What a whole detector or segmenter costs: counted and timed with neck and head, beside the costs of classifiers."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from petlbench import backbone, cli, cost, frame, plan, provenance, spec, table, zoo
from petlbench.cost import Cost, CostJob
from petlbench.dense.head import Maps
from petlbench.dense.suite import DenseSuite
from petlbench.flops import multiply_adds, shares
from petlbench.measure import Network
from petlbench.request import Request
from petlbench.store import Store

DENSE = [name for name in zoo.suites() if issubclass(zoo.suite(name), DenseSuite)]
PUBLISHED = Path(__file__).parent.parent / "results" / "zoo"


def job(suite: str = "mini_ade20k", task: str = "semantic_fpn", method: str = "linear", **options: Any) -> CostJob:
    described = backbone.describe("mini", backbone.RANDOM)
    facts = {"method": method, "fields": {}, "label": method, "backbone": described, "results": "r", "batch_size": 2}
    return CostJob(**facts, suite=suite, task=task, **options)


@pytest.fixture(scope="module")
def measured() -> Cost:
    return cost.work(job())


def test_the_whole_segmenter_is_counted(measured: Cost) -> None:
    suite: Any = zoo.suite("mini_ade20k")()
    encoder: Any = backbone.build("mini", any_size=True).eval()
    head = suite.head(encoder, suite.task("semantic_fpn")).eval()
    image = torch.zeros(1, 3, 128, 128)
    weights = sum(weight.numel() for weight in head.parameters())
    assert (measured.counts.method_parameters, measured.counts.head_parameters) == (0, weights)
    assert measured.counts.encoder_flops == multiply_adds(Maps(encoder), image)
    assert measured.counts.flops == multiply_adds(Network(Maps(encoder), head), image)
    assert (measured.size, measured.classes) == ((128, 128), 11)


def test_the_parts_of_a_network_share_all_of_its_arithmetic() -> None:
    suite: Any = zoo.suite("mini_coco")()
    encoder: Any = backbone.build("mini", any_size=True)
    network = Network(Maps(encoder), suite.head(encoder, suite.task("mask_rcnn")))
    found = shares(network, torch.zeros(1, 3, 128, 128))
    assert found[""] == found["encoder"] + found["head"]
    assert 0 < found["head.neck"] < found["head"]


def test_training_and_inference_of_the_whole_are_timed(measured: Cost) -> None:
    speed = measured.speed
    assert speed is not None
    assert (speed.batch_size, speed.image_size) == (2, 128)
    rates = (speed.train_images_per_second, speed.inference_images_per_second, 1000 / speed.latency_ms)
    assert all(math.isfinite(rate) and rate > 0 for rate in rates)
    assert speed.train_memory_bytes > 50_000_000  # torch alone is larger


def test_a_detector_trains_on_what_is_made_up_for_it() -> None:
    suite: Any = zoo.suite("mini_coco")()
    encoder: Any = backbone.build("mini", any_size=True)
    head = suite.head(encoder, suite.task("mask_rcnn"))
    found = suite.speed(encoder, head, suite.task("mask_rcnn"), batch_size=1, device=torch.device("cpu"), repeats=1)
    assert found.train_images_per_second > 0


@pytest.mark.parametrize("name", DENSE)
def test_made_up_truths_fit_the_images_that_are_counted(name: str) -> None:
    suite: Any = zoo.suite(name)()
    height, width = suite.counted
    for task in suite.tasks:
        truth = suite.made_up(task, torch.Generator().manual_seed(0))
        if "map" in truth:
            assert truth["map"].shape == (height, width)
            assert int(truth["map"].max()) == task.classes - 1
            continue
        boxes, masks = truth["boxes"], truth["masks"]
        assert masks.shape == (len(boxes), height, width)
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] <= torch.tensor([width, height])).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
        assert all(mask.any() for mask in masks)
        assert 1 <= int(truth["labels"].min()) <= int(truth["labels"].max()) <= task.classes


def test_a_cost_is_stale_once_the_code_of_its_heads_has_changed(measured: Cost) -> None:
    assert provenance.changed_cost(measured, "linear") == []
    heads = {"petlbench.benchmarks.mini_ade20k", "petlbench.dense.segmenters", "petlbench.dense.pyramid"}
    assert heads <= measured.code.keys()
    other = {**measured.code, "petlbench.dense.segmenters": "another"}
    assert provenance.changed_cost(replace(measured, code=other), "linear") == ["petlbench.dense.segmenters"]


def test_tasks_and_classifiers_have_costs_of_their_own() -> None:
    keys = {job().key, job(task="upernet").key, job("mini_coco", "mask_rcnn").key, job("", "").key}
    assert len(keys) == 4


def test_costs_that_were_measured_before_keep_their_place() -> None:
    """Those of the committed results were only counted, with the defaults of everything else."""
    read = {path: msgspec.json.decode(path.read_bytes(), type=Cost) for path in PUBLISHED.glob("cost/*/lora-*.json")}
    assert read
    for path, found in read.items():
        facts: dict[str, Any] = {name: getattr(found, name) for name in ("method", "fields", "label", "backbone")}
        assert path.stem == f"lora-{CostJob(**facts, results='r', timed=False).key}"


def test_the_table_has_a_part_for_each_task_with_the_shares(measured: Cost, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put_cost(job().path, measured)
    store.put_cost(job("", "").path, replace(measured, suite="", task="", size=None))
    classifier, segmenter = table.cost_tables(frame.costs(store.costs()))
    assert "of mini_ade20k/semantic_fpn, neck and head included, on" in segmenter.caption
    assert "image size 128 x 128" in segmenter.caption
    titles = [column.title for column in segmenter.columns]
    assert {"encoder_flops", "head_flops"} <= set(titles)
    assert not {"encoder_flops", "head_flops"} & {column.title for column in classifier.columns}


def test_a_comparison_on_a_dense_suite_is_followed_by_the_costs_of_its_tasks(tmp_path: Path) -> None:
    asked = Request(methods=spec.parse("linear,lora"), suite="mini_coco", results=tmp_path)
    jobs = plan.cost_jobs(plan.plan(asked))
    found = [(each.method, each.suite, each.task, each.batch_size) for each in jobs]
    assert sorted(found) == [
        (method, "mini_coco", task, 2)
        for method in ("linear", "lora")
        for task in ("atss", "cascade_mask_rcnn", "mask_rcnn")
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--suite", "vtab"], "--suite vtab: has linear heads, whose costs need no suite; valid: ade20k, coco"),
        (["--suite", "mini-coco", "--tasks", "mask_rcn"], "unknown task 'mask_rcn': did you mean mask_rcnn"),
        (["--tasks", "mask_rcnn"], "--tasks mask_rcnn: needs the suite that they are of, --suite NAME"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["cost", "--methods", "linear", *options, "--results", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
