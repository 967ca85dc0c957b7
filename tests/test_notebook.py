"""Records in a notebook: numbers to go on with, and a table to look at."""

import math
from pathlib import Path

import pandas as pd
import pytest
from recorded import cost, record, row
from tiny import Tiny

import petlbench
from petlbench import InputError, frame, markup, table
from petlbench.notebook import Results, ScoreTable
from petlbench.store import Store
from petlbench.typeset import Cell, Column, Table

TINY = str(Path(__file__).parent / "tiny.py")


@pytest.fixture
def results(tmp_path: Path) -> Results:
    for each in [*row("lora", day=[80, 82], night=60.25), *row("linear", day=50, night=40)]:
        Store(tmp_path).put(each)
    return petlbench.results(tmp_path)


def test_a_table_holds_the_means_unrounded(results: Results) -> None:
    made = results.table(TINY, tasks="day,night", methods="lora,linear")
    assert list(made.index) == ["lora", "linear"]
    assert list(made.columns) == [("natural", "day"), ("natural", "night"), ("average", "tasks")]
    assert made.loc["lora"].tolist()[:2] == [81.0, 60.25]
    assert made.scores.std.iloc[0, 0] == pytest.approx(math.sqrt(2))


def test_a_notebook_shows_it_as_a_table_of_a_paper(results: Results) -> None:
    text = results.table(TINY, tasks=["day", "night"])._repr_html_()
    assert "<caption>tiny: accuracy in percent" in text
    assert '<strong>81.0</strong> <small>± 1.4</small><abbr title="the code has changed since">†</abbr>' in text
    assert "<u>40.0</u>" in text
    assert "<li>† Code that can change the score has changed since (5 runs).</li>" in text


def test_what_is_made_of_a_table_is_a_plain_frame(results: Results) -> None:
    made = results.table(TINY)
    assert type(made) is ScoreTable
    assert type(made.head(1)) is type(made * 2) is type(made.dropna(axis=1)) is pd.DataFrame


def test_what_tells_rows_apart_is_in_the_index() -> None:
    records = [record("lora", "day", 80), record("lora", "day", 70, protocol="paper")]
    made = ScoreTable.of(frame.scores(records, Tiny()), 1)
    assert made.index.names == ["method", "protocol"]


def test_costs_are_a_frame(results: Results) -> None:
    Store(results.folder).put_cost(Path("cost", "here", "lora-0.json"), cost("lora"))
    assert results.costs()["train_images_per_second"].tolist() == [100]
    assert results.costs()["stale"].tolist() == [True]


def test_a_mistake_is_said_as_on_the_command_line(results: Results) -> None:
    with pytest.raises(InputError, match="unknown task 'noon'"):
        results.table(TINY, tasks="noon")
    with pytest.raises(InputError, match="no records there yet"):
        petlbench.results("nowhere").table()


def test_a_cost_that_names_a_file_does_not_make_us_import_it(results: Results, tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'sprung')!r}).touch()\n")
    Store(results.folder).put_cost(Path("cost", "here", "trap-0.json"), cost(str(trap)))
    assert results.costs()["stale"].tolist() == [True]
    assert not (tmp_path / "sprung").exists()


def test_texts_of_a_table_in_html_are_escaped() -> None:
    evil = '<b a="1">&'
    made = Table("t", evil, [Column(evil, key=True), Column(evil, evil)], [[Cell(evil), Cell(evil, evil, place=2)]])
    text = markup.html(made, attributes=lambda row: {"data-evil": evil}, sortable=True)
    assert "<b " not in text
    assert text.count("&lt;b a=") == 8
    assert 'data-evil="&lt;b a=&quot;1&quot;&gt;&amp;"' in text


def test_a_table_without_groups_has_one_row_of_heads() -> None:
    made = Table("t", "", [Column("a", key=True), Column("b")], [[Cell("1"), Cell()]], ["A note."])
    assert markup.html(made).count("<tr>") == 2
    assert markup.notes(made) == "<ul><li>A note.</li></ul>"
    assert table.MISSING in markup.html(made)
