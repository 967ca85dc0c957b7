"""`petlbench compare`: who is ahead, what is claimed, and what is not for lack of tasks or seeds."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from recorded import record, row
from tiny import Tiny

from petlbench import caption, cli, frame, ranking, zoo
from petlbench.errors import InputError
from petlbench.record import Record
from petlbench.store import Store

TINY = str(Path(__file__).parent / "tiny.py")
THREE = [
    *row("hst", day=[90, 91, 92], night=[80, 81, 82], left=[70, 71, 72], right=[60, 61, 62]),
    *row("lora", day=[85, 86, 87], night=[75, 76, 77], left=[70, 71, 72], right=[61, 62, 63]),
    *row("vpt", day=[84, 85, 86], night=[60, 61, 62], left=[50, 51, 52], right=[40, 41, 42]),
]
TASKS = [task.name for task in zoo.suite("mini").tasks]


def of_mini(label: str, *of_seeds: list[float]) -> list[Record]:
    """Records of one method on all eleven tasks; one list of scores per seed."""
    pairs = [(seed, zip(TASKS, scores, strict=True)) for seed, scores in enumerate(of_seeds)]
    return [record(label, task, score, seed, suite="mini") for seed, scores in pairs for task, score in scores]


def eleven(*records: list[Record], reference: str = "") -> ranking.Comparison:
    scores = frame.scores([each for few in records for each in few], zoo.suite("mini")())
    return ranking.compare(scores, reference)


LABELLED = [(label, task) for label in ("lora(rank=4)", "vpt(tokens=5)") for task in ("day", "night", "left", "right")]
LABELLED += [("ssf(init=2)", "day")]
BASE = np.linspace(40, 90, 11)


def test_methods_are_in_the_order_of_their_average_rank() -> None:
    made = ranking.compare(frame.scores(THREE, Tiny()))
    assert made.methods["method"].tolist() == ["hst", "lora", "vpt"]
    assert made.methods["rank"].tolist() == [(1 + 1 + 1.5 + 2) / 4, (2 + 2 + 1.5 + 1) / 4, 3]
    assert made.methods["mean"].tolist() == [76, 73.75, 59.5]
    assert made.methods["seeds"].tolist() == [3, 3, 3]


def test_pairs_count_the_tasks_that_each_is_ahead_on() -> None:
    pairs = ranking.compare(frame.scores(THREE, Tiny())).pairs
    assert pairs[["method", "other", "ahead", "tied", "behind"]].to_numpy().tolist() == [
        ["hst", "lora", 2, 1, 1],
        ["hst", "vpt", 4, 0, 0],
        ["lora", "vpt", 4, 0, 0],
    ]
    assert pairs["improvement"].tolist() == pytest.approx([(1 + 1 + 1 / 2 + 2 / 9) / 4, 1, (7 / 9 + 3) / 4])


def test_four_tasks_are_too_few_for_any_claim_and_it_says_so() -> None:
    made = ranking.compare(frame.scores(THREE, Tiny()))
    assert made.friedman is None
    assert made.pairs[["p", "p_holm"]].isna().all().all()
    assert ranking.sentences(made) == [
        "Whether the ranks differ at all is not tested: 4 tasks, "
        "and Friedman's test needs 11 for its distribution to hold.",
        "No p-value: on 4 tasks Wilcoxon's test cannot get below 0.05 for 3 pairs after Holm's correction, "
        "even if one method is ahead on all of them; 7 are needed.",
        "hst is ahead of lora on 2 of 4 tasks and level on 1; too few tasks for a claim.",
        "hst is ahead of vpt on 4 of 4 tasks; too few tasks for a claim.",
    ]


def test_eleven_tasks_are_enough_and_the_sentences_say_p() -> None:
    made = eleven(of_mini("hst", [*(BASE + 5)]), of_mini("lora", [*BASE]), of_mini("vpt", [*(BASE - 5)]))
    assert ranking.sentences(made) == [
        "The average ranks differ: F infinite, p < 0.001 (Friedman, Iman and Davenport; 3 methods, 11 tasks); "
        "two that are 1.00 or more apart differ (Nemenyi, 0.05).",
        "No interval where it would be too narrow to trust: "
        "all methods have fewer than 3 seeds that every task has (the fewest: 1).",
        "hst is ahead of lora on 11 of 11 tasks, p = 0.003 (Wilcoxon, Holm-corrected).",
        "hst is ahead of vpt on 11 of 11 tasks, p = 0.003 (Wilcoxon, Holm-corrected).",
    ]


def test_what_may_be_chance_is_no_claim() -> None:
    wave = BASE + np.array([3, -2.5, 2, -1.5, 1, -0.8, 0.6, -0.4, 0.3, -0.2, 0.1])
    made = eleven(of_mini("lora", [*BASE]), of_mini("vpt", [*wave]))
    # The positive ranks add up to 36, the negative ones to 30, of 66.
    (_, _, said) = ranking.sentences(made)
    assert said == "vpt is ahead of lora on 6 of 11 tasks, p = 0.83 (Wilcoxon): no claim at 0.05."


def test_a_reference_needs_fewer_tests() -> None:
    many = [of_mini(f"vpt(tokens={number})", [*(BASE - number)]) for number in range(2, 12)]
    assert eleven(of_mini("lora", [*BASE]), *many).pairs["p"].isna().all()  # 55 pairs need 12 tasks
    made = eleven(of_mini("lora", [*BASE]), *many, reference="lora")
    assert made.pairs["method"].unique().tolist() == ["lora"]
    assert made.pairs["p_holm"].tolist() == pytest.approx([10 * 2 / 2**11] * 10)


def test_of_many_pairs_the_table_shows_those_of_the_best() -> None:
    many = [of_mini(f"vpt(tokens={number})", [*(BASE - number)]) for number in range(11)]
    table = ranking.pairs_table(eleven(*many))
    assert len(table.rows) == 10
    assert table.notes == ["45 more pairs, among the others, are in --format csv."]


def test_a_row_without_all_tasks_is_left_out_and_named() -> None:
    made = ranking.compare(frame.scores([*THREE, *row("ssf", day=99, night=99)], Tiny()))
    assert made.methods["method"].tolist() == ["hst", "lora", "vpt"]
    assert ranking.sentences(made)[-1] == "ssf is left out: no score on left, right."


def test_a_single_seed_on_one_task_leaves_no_interval() -> None:
    short = [each for each in THREE if (each.run.label, each.run.task) != ("vpt", "day") or each.run.seed == 0]
    made = ranking.compare(frame.scores(short, Tiny()))
    assert made.methods["iqm_low"].isna().tolist() == [False, False, True]
    assert made.pairs["improvement_low"].isna().tolist() == [False, True, True]
    assert "1 of 3 methods have fewer than 3 seeds that every task has (the fewest: 1)" in " ".join(
        ranking.sentences(made)
    )


def test_two_methods_that_tie_are_said_to() -> None:
    made = ranking.compare(
        frame.scores([*row("lora", day=1, night=2), *row("vpt", day=1, night=2)], Tiny(), tasks=["day", "night"])
    )
    assert ranking.sentences(made)[-1] == "lora and vpt tie on all 2 tasks."


def test_stale_runs_are_mentioned() -> None:
    made = ranking.compare(frame.scores(THREE, Tiny(), is_stale=lambda each: each.run.label == "vpt"))
    assert ranking.sentences(made)[-1] == "12 runs are stale: code that can change the score has changed since."


def test_rows_have_names_that_tell_them_apart() -> None:
    found = frame.scores([*row("lora", day=80), *row("lora(rank=4)", day=90)], Tiny(), tasks=["day"])
    assert frame.names(found).tolist() == ["lora", "lora(rank=4)"]
    alone = frame.scores(row("lora(rank=4)", day=80), Tiny(), tasks=["day"])
    assert frame.names(alone).tolist() == ["lora"]  # its fields tell it from no other row
    cropped = [record("lora", "day", 70, resize="crop")]
    both = frame.scores([*row("lora", day=80), *cropped], Tiny(), tasks=["day"])
    assert sorted(frame.names(both)) == ["lora, crop", "lora, squash"]


@pytest.mark.parametrize(
    ("records", "reference", "message"),
    [
        (row("lora", day=80, night=80, left=80, right=80), "", "1 of 1 methods have a score on every task"),
        (THREE, "vpd", "unknown --reference 'vpd': did you mean vpt?"),
    ],
)
def test_what_cannot_be_compared_is_refused(records: list[Record], reference: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ranking.compare(frame.scores(records, Tiny()), reference)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for each in THREE:
        Store(tmp_path).put(each)
    return tmp_path


def test_the_command_prints_ranks_pairs_and_sentences(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "--suite", TINY, "--results", str(results)]) == 0
    out = capsys.readouterr().out
    first, second = out.split("\n\n")[:2]
    assert first == caption.caption(frame.scores(THREE, Tiny(), is_stale=lambda each: True))  # that of the table
    assert second == "tiny: accuracy in percent, 3 methods on 4 tasks: average rank, and interquartile mean over runs."
    lines = [line.split() for line in out.splitlines()]
    assert ["hst", "1.38", "76.0", "76.0"] in [line[:4] for line in lines]
    assert ["hst", "vpt", "4", "0", "0", "—", "—", "1.00", "1.00", "to", "1.00"] in lines
    assert "- hst is ahead of vpt on 4 of 4 tasks; too few tasks for a claim." in out


@pytest.mark.parametrize("reference", ["lora", "lora(rank=4)"])
def test_rows_are_called_as_in_the_table_and_a_reference_either_way(
    reference: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a row of other fields or of another recipe would pass for the method as it is."""
    made = [record(label, task, 70, overrides="epochs=1") for label, task in LABELLED]
    for each in made:
        Store(tmp_path).put(each)
    assert cli.main(["compare", "--suite", TINY, "--results", str(tmp_path), "--reference", reference]) == 0
    out = capsys.readouterr().out
    assert "; recipe with epochs=1; backbone vit;" in out.splitlines()[0]
    assert "- lora(rank=4) and vpt(tokens=5) tie on all 4 tasks." in out
    assert "- ssf(init=2) is left out: no score on night, left, right." in out
    lines = [line.split()[:2] for line in out.splitlines()]
    assert ["lora(rank=4)", "1.50"] in lines
    assert ["lora(rank=4)", "vpt(tokens=5)"] in lines


def test_markdown_has_two_tables_and_a_list(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "--suite", TINY, "--results", str(results), "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("|:") for line in lines) == 2
    assert sum(line.startswith("- ") for line in lines) == 5


def test_csv_has_methods_first_and_then_pairs(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "--suite", TINY, "--results", str(results), "--format", "csv"]) == 0
    read = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert read["other"].isna().tolist() == [True] * 3 + [False] * 3
    assert read.loc[read["other"] == "vpt", "improvement"].tolist()[0] == 1
    assert read["rank"].notna().sum() == 3
