"""Tables of scores: means and deviations as computed by hand, and nothing is averaged over what is missing."""

import csv
import dataclasses
import io
from typing import Any

import numpy as np
import pytest
from recorded import BACKBONE, record, row
from tiny import Tiny

from petlbench import frame, spec, table
from petlbench.errors import InputError
from petlbench.machine import machine
from petlbench.recipe import Recipe
from petlbench.record import Record, Status
from petlbench.run import Budget, Search
from petlbench.selection import AXES

NATURAL, STRUCTURED = ("natural", "mean"), ("structured", "mean")
TASKS, GROUPS = ("average", "tasks"), ("average", "groups")
LORA = row("lora", day=[80, 82, 84], night=[60, 61, 62], left=[40, 40, 40])
THREE = ("day", "night", "left")


@pytest.mark.parametrize(
    ("column", "mean", "std"),
    [
        (("natural", "day"), 82, 2),
        (("natural", "night"), 61, 1),
        (("structured", "left"), 40, 0),
        (NATURAL, 71.5, 1.5),
        (TASKS, 61, 1),  # (82 + 61 + 40) / 3; the seeds have 60, 61 and 62
        (GROUPS, 55.75, 0.75),  # (71.5 + 40) / 2; the seeds have 55, 55.75 and 56.5
    ],
)
def test_means_and_sample_deviations_are_those_computed_by_hand(column: Any, mean: float, std: float) -> None:
    found = frame.scores(LORA, Tiny(), tasks=THREE)
    assert found.mean[column].tolist() == [pytest.approx(mean)]
    assert found.std[column].tolist() == [pytest.approx(std)]


def test_groups_stand_in_the_suites_order_each_with_its_mean_behind_it() -> None:
    assert frame.scores(LORA, Tiny()).columns == [
        *[("natural", "day"), ("natural", "night"), NATURAL],
        *[("structured", "left"), ("structured", "right"), STRUCTURED],
        *[TASKS, GROUPS],
    ]


def test_what_there_is_only_one_of_has_no_mean() -> None:
    assert frame.scores(LORA, Tiny(), tasks=["day", "night"]).columns[2:] == [TASKS]
    assert STRUCTURED not in frame.scores(LORA, Tiny(), tasks=THREE).columns
    assert frame.scores(LORA, Tiny(), tasks=["day"]).columns == [("natural", "day")]


def test_one_seed_has_no_deviation() -> None:
    found = frame.scores(row("lora", day=80, night=60, left=40, right=20), Tiny())
    assert found.std.isna().all(axis=None)
    assert found.mean[GROUPS].tolist() == [50]


@pytest.mark.parametrize(
    ("missing", "means"),
    [
        ("day", {NATURAL: False, STRUCTURED: True, TASKS: False, GROUPS: False}),
        ("right", {NATURAL: True, STRUCTURED: False, TASKS: False, GROUPS: False}),
    ],
)
def test_nothing_is_averaged_over_a_missing_task(missing: str, means: dict[tuple[str, str], bool]) -> None:
    scores = {"day": 80.0, "night": 60.0, "left": 40.0, "right": 20.0}
    del scores[missing]
    mean = frame.scores(row("lora", **scores), Tiny()).mean
    assert {column: bool(mean[column].notna().all()) for column in means} == means
    assert "1 of 4 scores is missing (—), and with it every mean that would need one." in text(row("lora", **scores))


def test_a_mean_whose_tasks_differ_in_their_seeds_has_no_deviation_and_a_note_says_so() -> None:
    records = row("lora", day=[80, 82, 84], night=[60, 62], left=[40, 42, 44], right=[20, 22, 24])
    found = frame.scores(records, Tiny())
    assert found.mean[NATURAL].tolist() == [71.5]
    assert found.std[[NATURAL, STRUCTURED, TASKS]].isna().to_numpy().tolist() == [[True, False, True]]
    assert found.count[[("natural", "day"), ("natural", "night"), NATURAL]].to_numpy().tolist() == [[3, 2, 2]]
    assert "1 of 4 scores is over fewer than all 3 seeds." in text(records)


@pytest.mark.parametrize(
    ("status", "note"),
    [
        ("failed", "1 run failed."),
        ("oom", "1 run failed (1 out of memory)."),
        ("diverged", "1 run failed (1 diverged)."),
    ],
)
def test_a_failed_run_is_missing_and_counted(status: Status, note: str) -> None:
    records = [*row("lora", day=80, night=60, left=40), record("lora", "right", 0, status=status)]
    assert frame.scores(records, Tiny()).mean[TASKS].isna().all()
    assert note in text(records)


def test_a_method_of_which_every_run_failed_is_a_row_without_numbers() -> None:
    records = [*LORA, record("vpt", "day", 0, status="failed", counts=None)]
    lines = text(records, tasks=THREE).splitlines()
    assert next(line.split() for line in lines if line.startswith("vpt")) == ["vpt", *["—"] * 7]


def test_a_table_of_failures_only_has_no_numbers() -> None:
    lines = text([record("vpt", "day", 0, status="oom", counts=None)]).splitlines()
    assert lines[0] == (
        "tiny: no scores; protocol fixed; backbone vit; pretrained weights; 64 pixels; "
        "resize squash; bicubic interpolation."
    )
    assert lines[4].split() == ["vpt", *["—"] * 9]


def test_a_dagger_marks_stale_scores_and_every_mean_they_are_part_of() -> None:
    records = row("lora", day=80, night=60, left=40, right=20)
    lines = text(records, is_stale=lambda each: each.run.task == "left").splitlines()
    assert lines[4].split() == ["lora", "0.295", "80.0", "60.0", "70.0", "40.0†", "20.0", "30.0†", "50.0†", "50.0†"]
    assert "† Code that can change the score has changed since (1 run)." in lines


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ({"status": "done"}, {"status": "failed"}, 10),
        ({"status": "failed"}, {"status": "done"}, 20),
        ({"threads": 2}, {"status": "done"}, 20),  # two threads stand for stale
        ({"status": "done"}, {"threads": 2}, 10),
        ({"threads": 2}, {"threads": 2, "started": "2025-01-02T00:00:00+00:00"}, 20),
    ],
    ids=["done, failed", "failed, done", "stale, done", "done, stale", "stale, stale later"],
)
def test_current_beats_stale_beats_failed_and_of_two_stale_runs_the_later_counts(
    first: dict[str, Any], second: dict[str, Any], shown: float
) -> None:
    old = Recipe(lr=0.5)  # of another default, and thus another run with the same label
    records = [record("lora", "day", 10, recipe=old, **first), record("lora", "day", 20, **second)]
    found = frame.scores(records, Tiny(), is_stale=lambda each: each.threads == 2)
    assert found.mean["natural", "day"].tolist() == [shown]
    assert sorted(found.runs["state"])[-1] == "superseded"


def test_two_current_runs_of_one_cell_are_refused_with_what_differs() -> None:
    records = [record("lora", "day", 10, recipe=Recipe(lr=0.5)), record("lora", "day", 20)]
    with pytest.raises(InputError, match=r"twice, with different recipe\.lr \(0\.5 and 0\.001\): move tiny/lora/day-s"):
        frame.scores(records, Tiny())


def test_seeds_of_methods_that_are_only_called_alike_are_refused_with_what_differs() -> None:
    """After a change of a default, or with two files of one name, nothing in the label would tell them apart."""
    records = [record("lora", "day", 10, fields={"rank": 8}), record("lora", "day", 90, 1, fields={"rank": 4, "b": 1})]
    with pytest.raises(InputError, match=r"are called alike, with different b \(None and 1\), rank \(8 and 4\): move "):
        frame.scores(records, Tiny())
    again = record("lora", "day", 90, fields={"rank": 4, "b": 1}, started="2026-02-02T00:00:00+00:00")
    found = frame.scores([records[0], again], Tiny(), is_stale=lambda each: each is records[0])
    assert found.mean["natural", "day"].tolist() == [90]  # done again with the new default: the old one is left out


@pytest.mark.parametrize("other", [("lora", 1), ("vpt", 0)], ids=["seeds of a cell", "rows of a column"])
def test_scores_on_different_data_never_share_a_table(other: tuple[str, int]) -> None:
    label, seed = other
    records = [record("lora", "day", 10, data="a1" * 32), record(label, "day", 20, seed, data="b2" * 32)]
    with pytest.raises(InputError, match=r"task 'day' was run on different data.*a1a1a1a1a1a1 .*b2b2b2b2b2b2 "):
        frame.scores(records, Tiny())


def test_different_data_share_a_table_if_asked_and_the_caption_says_so() -> None:
    records = [record("lora", "day", 10, data="a1" * 32), record("vpt", "day", 20, data="b2" * 32)]
    found = frame.scores(records, Tiny(), mix_data=True)
    assert found.mean["natural", "day"].tolist() == [10, 20]
    assert "; different data mixed in day (2 versions); " in text(records, mix_data=True)
    assert "different data" not in text(records[:1], mix_data=True)


def test_even_mixed_data_give_one_score_to_a_method_task_and_seed() -> None:
    records = [record("lora", "day", 10, data="a1" * 32), record("lora", "day", 20, data="b2" * 32)]
    with pytest.raises(InputError, match="was run twice, with different data"):
        frame.scores(records, Tiny(), mix_data=True)


def test_trials_of_a_search_are_never_scores() -> None:
    def trial(score: float) -> Record:
        made = record("lora", "day", score, protocol="tuned")
        return dataclasses.replace(made, run=dataclasses.replace(made.run, train="train800", score="val200"))

    assert text([*LORA, trial(99)]) == text(LORA)
    with pytest.raises(InputError, match="no run of day, night, left, right is there yet"):
        frame.scores([trial(99)], Tiny())


def test_what_a_search_has_spent_stands_beside_its_scores() -> None:
    wanted = Search(trials=12, space={"lr": [1, 2]})
    records = [
        record("lora", "day", 80, protocol="tuned", search=wanted, budget=Budget(trials=12, seconds=100)),
        record("lora", "night", 80, protocol="tuned", search=wanted, budget=Budget(trials=12, seconds=200)),
        record("vpt", "day", 80, protocol="tuned", search=wanted, budget=Budget(trials=4, seconds=30)),
    ]
    lines = text(records).splitlines()
    assert "; protocol tuned; up to 12 trials per method and task, chosen on val200; " in lines[0]
    assert lines[2].split()[:6] == ["method", "params", "(M)", "trials", "spent", "search"]
    assert [line.split()[2:4] for line in lines[4:6]] == [["12.0", "150"], ["4.00", "30.0"]]
    head, first, _ = csv.reader(io.StringIO(text(records, format="csv")))
    assert [first[head.index(name)] for name in ("trials", "search_trials", "search_seconds")] == [
        "12",
        "12.0",
        "150.0",
    ]


def test_another_normalisation_is_another_row_and_in_the_caption() -> None:
    half = record("lora", "day", 1, normalization="half")
    assert "; pixels normalised as half; " in text([half])
    assert "normalised" not in text(LORA)
    assert text([*LORA, half]).splitlines()[2].split()[:2] == ["method", "normalization"]


def test_records_of_a_task_that_the_suite_does_not_have_are_left_out_and_counted() -> None:
    assert "2 runs left out: dawn, dusk is no task of the suite." in text([*LORA, *row("lora", dawn=1, dusk=2)])


@pytest.mark.parametrize(
    ("records", "choice", "message"),
    [
        (LORA, {"tasks": ["dya"]}, "unknown task 'dya': did you mean day?"),
        (LORA, {"tasks": ["right"]}, "no run of right is there yet"),
        (LORA, {"methods": spec.parse("loar")}, "unknown method 'loar': did you mean lora?"),
        (LORA, {"metric": "auc"}, "unknown metric 'auc': valid: accuracy, f1"),
        ([*LORA, record("lora", "day", 1, suite="vtab")], {}, "several suites cannot share a table: tiny, vtab"),
        ([], {}, "no run of day, night, left, right is there yet"),
    ],
)
def test_mistakes_are_named(records: list[Record], choice: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        frame.scores(records, Tiny(), **choice)


def test_rows_are_chosen_and_ordered_by_the_methods_asked_for() -> None:
    labels = ["vpt(tokens=50)", "vpt(tokens=5)", "lora", "hst"]
    records = [each for label in labels for each in row(label, day=1)]

    def rows(methods: str) -> list[str]:
        found = frame.scores(records, Tiny(), methods=spec.parse(methods) if methods else [])
        return found.mean.index.get_level_values("method").tolist()

    assert rows("") == ["hst", "lora", "vpt(tokens=5)", "vpt(tokens=50)"]
    assert rows("vpt,hst") == ["vpt(tokens=5)", "vpt(tokens=50)", "hst"]
    assert rows("vpt(tokens=50),lora") == ["vpt(tokens=50)", "lora"]


def test_another_metric_takes_the_place_of_the_tasks_own() -> None:
    assert frame.scores(LORA, Tiny(), metric="f1").mean["natural", "day"].tolist() == [41]


def test_what_differs_between_rows_is_a_column_and_the_rest_is_in_the_caption() -> None:
    large = dataclasses.replace(BACKBONE, image_size=96)
    records = [*LORA, record("lora", "day", 1, backbone=large), record("lora", "day", 1, overrides="epochs=4")]
    lines = text(records).splitlines()
    assert lines[0] == (
        "tiny: accuracy in percent, mean ± sample standard deviation over seeds 0, 1, 2; protocol fixed; backbone vit; "
        "pretrained weights; resize squash; bicubic interpolation; "
        f"data 57342682; measured on {machine('cpu').tag}; 11 runs."
    )
    assert lines[2].split()[:5] == ["method", "image", "size", "overrides", "params"]
    assert [line.split()[1:3] for line in lines[5:7]] == [["64", "epochs=4"], ["96", "0.295"]]


def test_the_caption_says_how_many_tasks_were_left_out() -> None:
    assert "; 3 of 4 tasks; " in text(LORA, tasks=THREE)


@pytest.mark.parametrize(
    ("scores", "places"),
    [
        ([90.0, 80.0, 70.0], [1, 2, 0]),
        ([70.0, 90.0, 90.0], [2, 1, 1]),
        ([90.0, 80.0, 80.0], [1, 2, 2]),
        ([90.04, 89.96, 70.0], [1, 1, 2]),  # both print as 90.0
        ([90.0, None, None], [0, 0, 0]),
        ([None, 80.0, 90.0], [0, 2, 1]),
    ],
)
def test_best_and_second_are_marked_as_printed_and_ties_share(scores: list[float | None], places: list[int]) -> None:
    records = [record("bitfit", "left", 1), record("lora", "left", 1), record("vpt", "left", 1)]
    labels = ("bitfit", "lora", "vpt")
    records += [record(label, "day", score) for label, score in zip(labels, scores, strict=True) if score is not None]
    made = table.scores_table(frame.scores(records, Tiny()))
    assert [each[2].place for each in made.rows] == places


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *[(0.0, "0"), (85.798656, "85.8"), (0.294912, "0.295"), (0.0922, "0.0922"), (0.000768, "0.000768")],
        *[(303.3, "303"), (12345.6, "12346"), (float("nan"), "—")],
    ],
)
def test_costs_have_three_significant_digits(value: float, shown: str) -> None:
    assert table.significant(value) == shown


def test_weights_of_the_head_and_ppt_are_columns_on_request() -> None:
    lines = text(row("lora", day=80, night=60, left=40, right=20), head=True, ppt=True).splitlines()
    assert lines[4].split()[1:3] == ["0.295", "0.00100"]
    assert lines[4].split()[-1] == "49.4"  # 50 exp(-log10(1.0294912))


def test_csv_gives_back_what_the_frames_hold() -> None:
    records = [*row("lora", day=[80.1, 82.3], night=[60, 1 / 3]), *row("vpt(tokens=5, deep=False)", day=[1, 2])]
    records.append(record("vpt(tokens=5, deep=False)", "left", 0, status="oom"))
    choice: dict[str, Any] = {"is_stale": lambda each: each.run.seed == 1}
    found = frame.scores(records, Tiny(), **choice)
    head, *lines = csv.reader(io.StringIO(text(records, format="csv", **choice)))
    assert head[: len(AXES) + 6] == [*AXES, "method_parameters", "head_parameters", "day", "day_std", "day_n", "night"]
    assert head[-6:] == ["mean_groups", "mean_groups_std", "mean_groups_n", "done", "stale", "failed"]
    names = ["day", "night", "mean_natural", "left", "right", "mean_structured", "mean_tasks", "mean_groups"]
    for values, ending in ((found.mean, ""), (found.std, "_std"), (found.count, "_n")):
        read = [[float(line[head.index(name + ending)] or "nan") for name in names] for line in lines]
        np.testing.assert_array_equal(read, values.to_numpy())
    assert [line[0] for line in lines] == ["lora", "vpt(tokens=5, deep=False)"]
    assert [line[-3:] for line in lines] == [["2", "2", "0"], ["1", "1", "1"]]


def text(records: list[Record], **options: Any) -> str:
    """The table as it looks where there is no terminal."""
    return table.scores(records, Tiny(), **options)
