"""The committed results: whole, and what the page says of them is what they say."""

from pathlib import Path

import pytest

from petlbench import cli, table, zoo
from petlbench.store import Store

RESULTS = Path(__file__).parent.parent / "results"
STORE = Store(RESULTS / "zoo")


def test_the_table_on_the_page_is_the_table_of_the_records() -> None:
    made = table.scores(list(STORE.records()), zoo.suite("mini")(), "markdown", tasks=["digits", "fields", "count"])
    assert made in (RESULTS / "README.md").read_text(encoding="utf-8")


def test_the_table_of_methods_on_the_page_is_the_one_that_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "methods", "--results", str(STORE.root), "--format", "markdown"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    page = (RESULTS / "README.md").read_text(encoding="utf-8").splitlines()
    assert [row for row in rows if row not in page] == []
    assert len(rows) == 2 + len(zoo.methods())


def test_no_run_is_missing_or_failed() -> None:
    records = list(STORE.records())
    assert {record.status for record in records} == {"done"}
    runs = [(record.run.label, record.run.task, record.run.seed) for record in records]
    assert len(runs) == len(set(runs)) == 33 * 3 * 3


def test_a_record_says_which_code_data_and_weights_made_it() -> None:
    for record in STORE.records():
        run = record.run
        assert record.code
        assert run.backbone.sha256
        assert record.digests.keys() == {"train800val200", "test"}
        assert record.machine.versions["torch"]
