"""What the killed leave in a store is removed, and nothing else is."""

import dataclasses
import os
import time
from pathlib import Path

import msgspec
import pytest
import recorded

from petlbench import lock, worker
from petlbench.record import Record, Status
from petlbench.run import Job
from petlbench.store import Store
from petlbench.tidy import tidy

DAY = 86400.0


def unexpected() -> None:
    raise AssertionError("the lock was taken over")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def put(store: Store, task: str, status: Status = "done") -> Path:
    """A record, with a log beside it; returns where its lock would be."""
    record: Record = recorded.record("lora", task, 90.0, status=status)
    log = store.root / "logs" / f"{record.run.key}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("last words\n")
    return lock.beside(store.put(record))


def leave(path: Path, age: float = 0.0, **facts: object) -> Path:
    """A lock of a process elsewhere, or of one here that has ended."""
    owner = {"token": "f00d", "host": "elsewhere", "pid": 1, "place": "a boot"}
    path.write_bytes(msgspec.json.encode(owner | facts))
    os.utime(path, (time.time() - age,) * 2)
    return path


def dead_here() -> dict[str, object]:
    return dataclasses.asdict(lock._me()) | {"born": "another process had the same number once"}


def files(store: Store) -> set[Path]:
    return {path for path in store.root.rglob("*") if path.is_file()}


def test_a_store_of_records_is_left_as_it_is(store: Store) -> None:
    put(store, "day", "failed")
    before = files(store)
    tidy(store.root)
    assert files(store) == before
    tidy(store.root / "nowhere")


def test_locks_of_the_dead_go_and_those_of_the_living_stay(store: Store) -> None:
    here, off, orphan, seen, ours = (put(store, task, "failed") for task in ("a", "b", "c", "d", "e"))
    before = files(store)
    leave(here, **dead_here())
    leave(off, 2 * DAY)
    for name in (f"{orphan.name}.beef", f".{orphan.name}-abcd1234.tmp"):
        (orphan.parent / name).touch()
    leave(seen, DAY / 2)
    with lock.hold(ours, unexpected):
        tidy(store.root)
        assert files(store) == before | {seen, ours}


def test_logs_of_runs_that_are_done_go_unless_somebody_is_at_them(store: Store) -> None:
    done, failed, again = put(store, "a"), put(store, "b", "failed"), put(store, "c")
    with lock.hold(again, unexpected):
        tidy(store.root)
        kept = {path.stem for path in (store.root / "logs").iterdir()}
    assert kept == {path.stem.rpartition("-")[2] for path in (failed, again)}
    assert done.with_suffix(".json").exists()


def test_halves_of_files_go_when_nobody_can_be_writing_them(store: Store) -> None:
    put(store, "a", "failed")
    before = files(store)
    for place in ("tiny/lora", "plans", "submitted", "weights/tiny/lora", "checkpoints/1-2", "pictures/tiny/lora/a"):
        (store.root / place).mkdir(parents=True, exist_ok=True)
        for name, age in ((".x.json-old_file.tmp", 2 * DAY), (".x.json-new_file.tmp", DAY / 2)):
            (store.root / place / name).touch()
            os.utime(store.root / place / name, (time.time() - age,) * 2)
    tidy(store.root)
    assert sorted(path.name for path in files(store) - before) == [".x.json-new_file.tmp"] * 6


@pytest.mark.parametrize("name", ["uv.lock", "a/b/poetry.lock", "a/b/lora-day-s0.lock", ".x.tmp", "a/b/.notes.tmp"])
def test_files_that_are_none_of_a_store_stay(store: Store, name: str) -> None:
    path = store.root / name
    path.parent.mkdir(parents=True)
    leave(path, 9 * DAY)
    tidy(store.root)
    assert path.exists()


def test_what_a_worker_left_that_died_with_its_record_written_is_removed(store: Store) -> None:
    for task, status in (("a", "done"), ("b", "failed")):
        record = recorded.record("lora", task, 90.0, status=status)
        leave(put(store, task, status), **dead_here())
        worker.settle(Job(run=record.run, data="", results=str(store.root)), f"logs/{record.run.key}.log")
    assert [path.name for path in (store.root / "logs").iterdir()] == [f"{record.run.key}.log"]  # of the failed one
    assert not list(store.root.rglob("*.lock*"))
