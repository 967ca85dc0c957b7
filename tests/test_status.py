"""What a store tells of itself: status, why and logs, from files alone."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import recorded

from petlbench import agenda, cli, lock, overview, provenance, zoo
from petlbench.plan import Planned
from petlbench.record import Record
from petlbench.run import Job
from petlbench.store import Store


def unexpected() -> None:
    raise AssertionError("the lock was taken over")


def current(label: str, task: str, score: float = 90.0, **changes: object) -> Record:
    """A record of the suite mini by the code as it is now."""
    made = recorded.record(label, task, score, suite="mini", **changes)
    return dataclasses.replace(made, code=provenance.fingerprint(made.run.method, "mini"))


def planned(record: Record, results: Path) -> Planned:
    return Planned(job=Job(run=record.run, data="", results=str(results)), state="new", seconds=None)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Five runs: done, stale, failed with a log, out of memory, and one that is planned only."""
    store = Store(tmp_path / "results")
    done, new = current("lora", "digits"), current("lora", "fields")
    stale = dataclasses.replace(current("lora", "count"), code=done.code | {"petlbench.trial": "0" * 64, "gone.py": ""})
    failed = current("vpt", "digits", status="failed", reason="OSError: no more")
    small = current("vpt", "count", status="oom", reason="MemoryError")
    for record in (done, stale, failed, small):
        store.put(record)
    (store.root / "logs").mkdir()
    (store.root / "logs" / f"{failed.run.key}.log").write_text("epoch 1\n\x1b[31mred\n")
    agenda.put(store.root, [planned(record, store.root) for record in (done, stale, failed, small, new)])
    return store.root


def petlbench(*arguments: str | Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert cli.main([str(each) for each in arguments]) == code
    printed = capsys.readouterr()
    return printed.out + printed.err


def test_status_counts_runs_by_what_became_of_them(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = petlbench("status", "--results", results, capsys=capsys)
    lines = [line.split() for line in text.splitlines()]
    assert ["mini", "lora", "1", "1"] in lines
    assert ["mini", "vpt", "1", "1"] in lines
    assert "4 runs: 1 done, 1 stale, 1 failed, 1 oom" in text
    assert "mini, fixed, vit: lora, vpt: 3 of 5 left, 0 under way" in text


def test_status_shows_what_is_under_way_and_where(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = current("lora", "fields").run
    with lock.hold(lock.beside(results / run.path), unexpected):
        text = petlbench("status", "--results", results, capsys=capsys)
        facts = json.loads(petlbench("status", "--json", "--results", results, capsys=capsys))
    assert f"running  {run.key}  mini/lora/fields-s0-{run.key}  " in text
    assert "3 of 5 left, 1 under way" in text
    assert [each["key"] for each in facts["running"]] == [run.key]
    assert "running" not in petlbench("status", "--results", results, capsys=capsys).split("5 left")[1]


def test_status_for_programs(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(petlbench("status", "--json", "--results", results, capsys=capsys))
    nothing = dict.fromkeys(("done", "running", "stale", "failed", "oom", "diverged"), 0)
    assert facts["counts"] == [
        {"suite": "mini", "method": "lora", **nothing, "done": 1, "stale": 1},
        {"suite": "mini", "method": "vpt", **nothing, "failed": 1, "oom": 1},
    ]
    assert facts["plans"][0]["left"] == ["mini/digits vpt seed 0", "mini/count vpt seed 0", "mini/fields lora seed 0"]
    assert facts["unreadable"] == {}


def test_trials_are_counted_apart_and_one_that_diverged_is_answered(results: Path) -> None:
    trial = current("lora", "digits", status="diverged", train="train800", overrides="lr=9")
    trial = dataclasses.replace(trial, run=dataclasses.replace(trial.run, score="val200"))
    Store(results).put(trial)
    agenda.put(results, [planned(trial, results)])
    found = overview.read(results)
    assert found.counts()["mini (trials)", "lora"] == {"diverged": 1}
    assert sorted(len(found.left(plan)) for plan in found.plans) == [0, 3]


def test_the_same_wish_is_the_same_plan_whatever_is_known_of_its_settings_by_then(results: Path) -> None:
    first = planned(current("lora", "fields"), results)
    settled = dataclasses.replace(first.job.run, fields={"rank": 4})
    paths = {
        agenda.put(results, [dataclasses.replace(first, state="waiting")]),
        agenda.put(results, [dataclasses.replace(first, job=dataclasses.replace(first.job, run=settled))]),
    }
    assert len(paths) == 1
    (plan,) = (plan for plan in agenda.read(results) if len(plan.items) == 1)
    assert plan.items[0].record == settled.path.as_posix()


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 10_000, b"\xff", b'{"run": 3}'])
def test_a_file_that_is_no_record_is_named_and_the_rest_is_counted(
    results: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / "mini/lora/broken-s0-aaaaaaaaaaaa.json").write_bytes(content)
    (results / "plans/broken.json").write_bytes(content)
    text = petlbench("status", "--results", results, capsys=capsys)
    assert "4 runs: " in text
    assert "cannot be read: mini/lora/broken-s0-aaaaaaaaaaaa.json: " in text


def test_a_store_that_is_not_there_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such folder" in petlbench("status", "--results", tmp_path / "no", capsys=capsys, code=2)
    (tmp_path / "empty").mkdir()
    assert "no runs" in petlbench("status", "--results", tmp_path / "empty", capsys=capsys)


def why(record: Record, results: Path, capsys: pytest.CaptureFixture[str]) -> str:
    return petlbench("why", record.run.key, "--results", results, capsys=capsys)


def test_why_says_that_a_run_is_current(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = why(current("lora", "digits"), results, capsys)
    assert text.startswith("mini/digits lora seed 0\n")
    assert "done and current: accuracy 90.0 %" in text


def test_why_names_the_code_that_has_changed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = why(current("lora", "count"), results, capsys)
    assert "stale: done, but by code that has changed since:" in text
    assert "petlbench.trial has changed" in text
    assert "gone.py counts no more, or is gone" in text
    assert "--rerun stale does it again" in text


def test_why_gives_the_reason_of_a_failure_and_where_its_log_is(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = current("vpt", "digits").run
    text = why(current("vpt", "digits"), results, capsys)
    assert "failed: OSError: no more (tried 2025-01-01" in text
    assert f"petlbench logs {run.key}" in text
    assert "tries it again" in text
    assert "log" not in why(current("vpt", "count"), results, capsys)


def test_why_knows_runs_that_wait_and_runs_under_way(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waits = current("lora", "fields")
    assert "new: planned and not begun" in why(waits, results, capsys)
    with lock.hold(lock.beside(results / waits.run.path), unexpected):
        assert "running: in hand on " in why(waits, results, capsys)


def test_a_run_is_named_by_its_key_the_beginning_of_that_or_its_path(results: Path) -> None:
    run = current("lora", "digits").run
    for name in (run.key, run.key[:9], str(run.path), str(results / run.path)):
        assert overview.find(results, name).key == run.key


@pytest.mark.parametrize("command", ["why", "logs"])
def test_a_run_that_nobody_knows_is_one_line_with_the_nearest(
    results: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = current("lora", "digits").run.key
    text = petlbench(command, f"{key[:7]}zzzzz", "--results", results, capsys=capsys, code=2)
    assert f"nearest: {key} (mini/lora/digits-s0-{key}.json)" in text
    assert text.count("\n") == 1
    (results / f"mini/lora/other-s0-{key[:5]}0000000.json").write_text("{}")
    assert "2 runs begin so" in petlbench(command, key[:5], "--results", results, capsys=capsys, code=2)


def test_logs_print_what_the_worker_has_printed_and_steer_no_terminal(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = current("vpt", "digits").run.key
    assert petlbench("logs", key, "--results", results, capsys=capsys) == "epoch 1\n\\x1b[31mred\n"
    gone = petlbench("logs", current("lora", "digits").run.key, "--results", results, capsys=capsys, code=2)
    assert "has no log (done): logs are there while a run is under way, and after it failed" in gone


def test_logs_follow_a_run_until_it_ends(results: Path) -> None:
    run = current("vpt", "digits").run
    command = [sys.executable, "-m", "petlbench", "logs", run.key, "-f", "--results", str(results)]
    with lock.hold(lock.beside(results / run.path), unexpected):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"epoch 1\n"
        with (results / "logs" / f"{run.key}.log").open("a") as file:
            file.write("epoch 2\n")
    rest, _ = process.communicate(timeout=60)
    assert rest.endswith(b"epoch 2\n")
    assert process.returncode == 0


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["why", "KEY"], ["logs", "KEY"]])
def test_they_answer_without_importing_torch(results: Path, command: list[str]) -> None:
    key = current("vpt", "digits").run.key
    arguments = [*(key if word == "KEY" else word for word in command), "--results", str(results)]
    code = f"""if True:
        import sys
        from petlbench.cli import main
        assert main({arguments!r}) == 0
        loaded = [name for name in ("torch", "timm", "numpy", "pandas", "matplotlib") if name in sys.modules]
        assert not loaded, loaded
    """
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_what_is_read_of_a_record_is_called_as_in_the_whole_of_it() -> None:
    for part, whole in (
        (overview.Run, recorded.record("lora", "a", 1).run),
        (overview.Kept, recorded.record("a", "b", 1)),
    ):
        assert set(part.__struct_fields__) <= set(whole.__dataclass_fields__)
    assert zoo.home(zoo.METHODS, "lora") == zoo.method("lora").__module__
