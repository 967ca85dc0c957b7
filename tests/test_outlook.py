"""What a plan comes to: how long each run will take and how one knows, hours, bytes, and what fits into a budget."""

import json
from collections.abc import Callable
from dataclasses import replace as with_
from pathlib import Path
from typing import Any

import pytest
import recorded

from petlbench import cli, zoo
from petlbench.cost import Cost
from petlbench.errors import InputError
from petlbench.estimate import Estimate, History
from petlbench.glance import Glance, glances
from petlbench.outlook import Outlook, outlook
from petlbench.plan import Planned, plan
from petlbench.recipe import Recipe
from petlbench.record import Record
from petlbench.request import Request
from petlbench.run import Job, Run
from petlbench.store import Store

TINY = str(Path(__file__).parent / "tiny.py")
RequestFor = Callable[..., Request]
Do = Callable[..., list[Record]]

FORWARD = 2 * recorded.counts().flops
STEP = recorded.counts().training_flops


def expect(run: Run, *records: Record, costs: tuple[Cost, ...] = (), root: Path) -> Estimate:
    """What is expected of a run on one thread of the CPU, given these records."""
    for record in records:
        Store(root).put(record)
    history = History(glances(root).values(), costs, "tiny", zoo.suite(TINY)(), "cpu")
    return history.estimate(Job(run=run, data="", results=""))


def test_a_glance_is_a_record_without_its_curve(do: Do, tmp_path: Path) -> None:
    (record,) = do(tasks=("day",))
    found = glances(tmp_path / "results")
    assert list(found) == [record.run.place]
    (glance,) = found.values()
    assert glance.machine.tag == record.machine.tag
    for name in set(Glance.__struct_fields__) - {"machine"}:
        assert getattr(glance, name) == getattr(record, name)
    assert glances(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_record_is_named_at_a_glance_too(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "suite/method").mkdir(parents=True)
    (tmp_path / "suite/method/file.json").write_bytes(content)
    with pytest.raises(InputError, match=r"suite/method/file\.json: not a record of petlbench"):
        glances(tmp_path)


def test_the_same_run_with_another_seed_takes_as_long(tmp_path: Path) -> None:
    done = recorded.record("lora", "day", 80)
    other = with_(done.run, seed=7)
    assert expect(other, done, root=tmp_path) == Estimate(pytest.approx(10.0), "measured")


def test_time_grows_with_what_is_trained_and_what_is_scored(tmp_path: Path) -> None:
    done = recorded.record("lora", "day", 80, recipe=Recipe(epochs=10))
    longer = with_(done.run, task="night", recipe=Recipe(epochs=100))
    work = [STEP * 32 * epochs + FORWARD * 16 for epochs in (10, 100)]  # 32 images to train on, 16 to score
    assert expect(longer, done, root=tmp_path) == Estimate(pytest.approx(10 * work[1] / work[0]), "measured")


def test_a_fixed_encoder_sees_each_image_once_however_many_the_epochs(tmp_path: Path) -> None:
    probe = with_(recorded.counts(), method_parameters=0)
    done = recorded.record("linear", "day", 80, counts=probe, recipe=Recipe(epochs=10))
    assert expect(with_(done.run, recipe=Recipe(epochs=100)), done, root=tmp_path).seconds == pytest.approx(10)


def test_a_method_that_has_not_run_is_scaled_by_its_flops(tmp_path: Path) -> None:
    done = recorded.record("lora", "day", 80)
    dear = with_(recorded.counts(), training_flops=2 * STEP, flops=recorded.counts().flops * 2)
    cost = with_(recorded.cost("hst", timed=False), counts=dear, backbone=done.run.backbone)
    run = with_(done.run, method="hst", label="hst")
    assert expect(run, done, costs=(cost,), root=tmp_path) == Estimate(pytest.approx(20.0), "scaled")
    assert expect(run, done, root=tmp_path) == Estimate(pytest.approx(10.0), "similar")


def test_a_cost_that_was_timed_stands_in_for_runs(tmp_path: Path) -> None:
    run = recorded.record("lora", "day", 80, recipe=Recipe(epochs=100)).run
    cost = with_(recorded.cost("lora"), backbone=run.backbone, counts=recorded.counts())  # 100 images a second
    found = expect(run, costs=(cost,), root=tmp_path)
    assert found.basis == "measured"
    assert found.seconds == pytest.approx(32 * 100 / 100, rel=0.01)


def test_nothing_is_said_where_nothing_is_known(tmp_path: Path) -> None:
    done = recorded.record("lora", "day", 80)
    elsewhere = with_(done.run, backbone=with_(done.run.backbone, name="vit_huge"))
    assert expect(elsewhere, done, root=tmp_path) == Estimate(None, "unknown")


def test_the_times_of_this_machine_count_before_those_of_others(tmp_path: Path) -> None:
    done = recorded.record("lora", "day", 80)
    other = with_(done.machine, tag="Fast-1c")
    fast = with_(recorded.record("lora", "day", 80, seed=1), machine=other, seconds={"total": 1.0})
    run = with_(done.run, seed=2)
    assert expect(run, fast, root=tmp_path).seconds == pytest.approx(1)
    assert expect(run, done, root=tmp_path).seconds == pytest.approx(10)


def test_a_record_that_names_a_suite_by_its_path_never_imports_it(tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    done = recorded.record("lora", "day", 80)
    stranger = with_(done, run=with_(done.run, suite=str(trap), method=str(trap)))
    history = History([], [], "tiny", zoo.suite(TINY)(), "cpu")
    assert history.estimate(Job(run=stranger.run, data="", results="")).basis == "unknown"
    assert not (tmp_path / "sprung").exists()


ADE = zoo.suite("mini_ade20k")()
STEPS = Recipe(steps=300, batch_size=8, decay="poly")


def segmenter(label: str = "lora", task: str = "semantic_fpn", **changes: Any) -> Record:
    return recorded.record(label, task, 0, suite="mini_ade20k", **{"recipe": STEPS, **changes})


def expect_dense(run: Run, *records: Record, processes: int = 1, root: Path) -> Estimate:
    for record in records:
        Store(root).put(record)
    history = History(glances(root).values(), [], "mini_ade20k", ADE, "cpu")
    return history.estimate(Job(run=run, data="", results="", processes=processes))


def test_a_dense_run_takes_as_long_as_its_steps_and_the_views_that_it_is_scored_in(tmp_path: Path) -> None:
    done = segmenter()
    longer = with_(done.run, recipe=with_(STEPS, steps=900))
    views = 1 + 2 * (1 + round(1.25 * 128) ** 2 / 128**2)  # whole, and each of two sizes also mirrored
    scoring = FORWARD * 60 * views
    work = [STEP * steps * 8 * (96 / 128) ** 2 + scoring for steps in (300, 900)]
    assert expect_dense(longer, done, root=tmp_path).seconds == pytest.approx(10 * work[1] / work[0])
    looking = with_(done.run, recipe=with_(STEPS, evaluate_steps=100))  # behind 100, 200 and 300 steps
    assert expect_dense(looking, root=tmp_path).seconds == pytest.approx(10 * (work[0] + 2 * scoring) / work[0])


def test_windows_are_counted_as_often_as_they_are_seen() -> None:
    crop, seen = zoo.suite("ade20k")().task("upernet").areas  # type: ignore[attr-defined]
    windows = {
        0.5: 1,
        0.75: 1,
        1.0: 2,
        1.25: 2 * 2,
        1.5: 2 * 3,
        1.75: 3 * 4,
    }  # of 512 every 341, at 512 x 683 times that
    assert (crop, seen) == (512**2, 512**2 * (windows[1.0] + 2 * sum(windows.values())))


def test_several_processes_share_the_time_of_a_run(tmp_path: Path) -> None:
    done = segmenter()
    assert expect_dense(done.run, done, processes=2, root=tmp_path).seconds == pytest.approx(5)
    (tmp_path / "two").mkdir()
    both = with_(done, processes=2)
    assert expect_dense(done.run, both, root=tmp_path / "two").seconds == pytest.approx(20)


def test_a_classifier_says_nothing_about_a_segmenter_nor_one_head_about_another(tmp_path: Path) -> None:
    small, run = recorded.record("lora", "digits", 0, suite="mini"), segmenter().run
    assert expect_dense(run, small, root=tmp_path).basis == "unknown"
    assert expect_dense(run, segmenter(task="upernet"), root=tmp_path).basis == "unknown"
    assert expect_dense(run, segmenter("hst"), root=tmp_path).basis == "similar"


@pytest.fixture
def planned(request_for: RequestFor) -> list[Planned]:
    """Eight runs of a minute each, of which one is done."""
    found = plan(request_for("linear,lora"))
    return [with_(each, seconds=60.0, basis="scaled", state="new" if n else "done") for n, each in enumerate(found)]


def test_slots_take_the_next_run_as_soon_as_they_are_free(planned: list[Planned]) -> None:
    one, three = (outlook(planned, TINY, slots) for slots in (1, 3))
    assert (one.wall_seconds, three.wall_seconds) == (420, 180)
    assert one.device_seconds == three.device_seconds == 420
    uneven = [with_(each, seconds=300.0 if n == 1 else 60.0) for n, each in enumerate(planned)]
    assert outlook(uneven, TINY, slots=2).wall_seconds == 360  # one long run beside five short ones, and the last


def test_what_fits_is_the_first_part_of_the_plan(planned: list[Planned]) -> None:
    found = outlook(planned, TINY, slots=2, budget=130.0)
    assert (found.fits, found.fit_seconds) == (4, 120.0)
    assert outlook(planned, TINY, slots=2, budget=59.0).fits == 0
    assert outlook(planned, TINY, slots=2, budget=9999.0).fits == 7
    unknown = [with_(each, seconds=None) if n == 3 else each for n, each in enumerate(planned)]
    assert outlook(unknown, TINY, slots=2, budget=9999.0).fits == 2  # nobody knows whether the third does


def test_the_disk_holds_records_decoded_images_and_weights(planned: list[Planned], data: Path) -> None:
    found = outlook(planned, TINY, slots=1)
    assert 7 * 6_000 < found.record_bytes < 7 * 7_000
    assert found.image_bytes == 4 * (32 + 16) * 3 * 64 * 64
    (data / "day/decoded").mkdir()
    (data / "day/decoded/test-64-bicubic-0123.npy").touch()
    assert outlook(planned, TINY, slots=1).image_bytes == found.image_bytes - 16 * 3 * 64 * 64
    assert found.weight_bytes == 0
    keeping = [with_(each, job=with_(each.job, save_weights=True), stored_bytes=1000) for each in planned]
    assert outlook(keeping, TINY, slots=1).weight_bytes == 7000


def test_of_dense_runs_the_disk_holds_the_curves_and_the_pictures(planned: list[Planned]) -> None:
    looking = with_(STEPS, evaluate_steps=30)
    runs = [segmenter(recipe=recipe).run for recipe in (STEPS, looking)]
    dense = [with_(planned[1], job=with_(planned[1].job, run=run)) for run in runs]
    one, both = (outlook(dense[:number], "mini_ade20k", slots=1) for number in (1, 2))
    assert (one.image_bytes, one.picture_bytes) == (0, both.picture_bytes / 2)
    assert one.record_bytes == 6_000 + 50 * 200
    assert both.record_bytes == 2 * one.record_bytes + 10 * 200


@pytest.fixture
def arguments(data: Path, tmp_path: Path, do: Do) -> list[str]:
    """`plan` for a suite of which one task is done."""
    do(tasks=("day",))
    fixed = ["--suite", TINY, "--data-root", str(data), "--weights", "random", "--recipe", "epochs=1,batch_size=8"]
    return ["plan", "--methods", "linear", *fixed, "--results", str(tmp_path / "results"), "--jobs", "1"]


def test_the_plan_says_what_it_comes_to(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*arguments, "--budget", "2d"]) == 0
    printed = capsys.readouterr().out
    assert "4 runs: 1 done, 3 new" in printed
    assert "times are measured here (3)" in printed
    assert "core-hours" in printed
    assert "disk: about" in printed
    assert "in 48:00:00, 3 of 3 runs are over" in printed


def test_a_plan_of_which_no_time_is_known_says_so(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*arguments, "--budget", "2d", "--results", str(tmp_path / "others")]) == 0
    printed = capsys.readouterr().out
    assert "in 48:00:00, nobody knows how many are over" in printed
    assert "runs are over" not in printed


def test_an_unreadable_recipe_names_its_option(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*arguments, "--recipe", "epochs=x"]) == 2
    assert capsys.readouterr().err.startswith("petlbench: --recipe: cannot read 'epochs=x': write field=value")


def test_a_long_plan_is_printed_by_method(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*arguments, "--seeds", ",".join(map(str, range(30)))]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split() == ["method", "runs", "new", "done", "time", "to", "go", "judged", "by"]
    assert rows[1].split()[:4] == ["linear", "120", "119", "1"]


def test_programs_read_the_plan_as_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*arguments, "--json", "--budget", "1s"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in found["runs"]] == ["done", "new", "new", "new"]
    assert [row["task"] for row in found["runs"]] == ["day", "night", "left", "right"]
    assert set(Outlook.__dataclass_fields__) < set(found)
    assert sum(row["fits"] for row in found["runs"]) == found["fits"]
