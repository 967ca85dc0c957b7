"""The committed results: whole, and what the page says of them is what they say."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from petlbench import cli, frame, spec, table, zoo
from petlbench.frame import AVERAGE, TASKS
from petlbench.store import Store

RESULTS = Path(__file__).parent.parent / "results"
STORE, RANDOM, DENSE = (Store(RESULTS / name) for name in ("zoo", "random", "dense"))
SEVEN = "linear,vpt,bitfit,lora,adaptformer,hst,full"


@pytest.mark.parametrize(
    ("store", "suite", "methods", "tasks"),
    [
        (STORE, "mini", SEVEN, ()),
        (RANDOM, "mini", SEVEN, ()),
        (STORE, "mini", "", ("digits", "fields", "count")),
        (DENSE, "mini_ade20k", "", ("semantic_fpn",)),
        (DENSE, "mini_coco", "", ("mask_rcnn",)),
    ],
    ids=["suite", "random", "zoo", "ade20k", "coco"],
)
def test_a_table_on_the_page_is_the_table_of_the_records(
    store: Store, suite: str, methods: str, tasks: Sequence[str]
) -> None:
    chosen, records = spec.parse(methods) if methods else (), [r for r in store.records() if r.run.suite == suite]
    made = table.scores(records, zoo.suite(suite)(), "markdown", tasks=tasks, methods=chosen)
    assert made in (RESULTS / "README.md").read_text(encoding="utf-8")


def means(store: Store) -> dict[str, float]:
    """By method, without the rate in "lora, lr=0.003", the mean over all tasks of the mean over seeds."""
    found = frame.scores(list(store.records()), zoo.suite("mini")(), methods=spec.parse(SEVEN))
    names = [name.partition(",")[0] for name in frame.names(found)]
    return dict(zip(names, found.mean[AVERAGE, TASKS], strict=True))


def test_methods_differ_as_in_the_literature_and_pre_training_is_what_they_live_on() -> None:
    trained, random = means(STORE), means(RANDOM)
    others = [trained[name] for name in ("bitfit", "lora", "adaptformer", "hst")]
    assert trained["linear"] < trained["vpt"] < min(others)
    assert max(others) > trained["full"] - 3
    gaps = [trained[name] - random[name] for name in trained]
    assert min(gaps) > 8
    said = re.search(r"Every method is at least (\d+)\s+points better", (RESULTS / "README.md").read_text("utf-8"))
    assert said is not None
    assert int(said[1]) == int(min(gaps))


def test_the_table_of_methods_on_the_page_is_the_one_that_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "methods", "--results", str(STORE.root), "--format", "markdown"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    page = (RESULTS / "README.md").read_text(encoding="utf-8").splitlines()
    assert [row for row in rows if row not in page] == []
    assert len(rows) == 2 + len(zoo.methods())


def test_no_run_is_missing_or_failed() -> None:
    assert {record.status for store in (STORE, RANDOM, DENSE) for record in store.records()} == {"done"}
    whole = {(m, task.name, seed) for m in SEVEN.split(",") for task in zoo.suite("mini").tasks for seed in range(3)}
    for store in (STORE, RANDOM):
        runs = [(record.run.method, record.run.task, record.run.seed) for record in store.records()]
        assert len(runs) == len(set(runs))
        assert set(runs) >= whole
    measured = {(record.run.method, record.run.task, record.run.seed) for record in STORE.records()}
    three = ("digits", "fields", "count")
    assert measured >= {(name, task, seed) for name in zoo.methods() for task in three for seed in range(3)}


def test_a_record_says_which_code_data_and_weights_made_it() -> None:
    for record in STORE.records():
        run = record.run
        assert record.code
        assert run.backbone.sha256
        assert record.digests.keys() == {"train800val200", "test"}
        assert record.machine.versions["torch"]
