"""Two stores become one: nothing is lost, and nothing is overwritten that nobody has decided."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import recorded

from petlbench import cli, lock
from petlbench.record import Record
from petlbench.store import Store


@pytest.fixture
def ours(tmp_path: Path) -> Store:
    return Store(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Store:
    (tmp_path / "their results").mkdir()
    return Store(tmp_path / "their results")


def merge(ours: Store, theirs: Store, *options: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert cli.main(["merge", str(theirs.root), "--results", str(ours.root), *options]) == code
    printed = capsys.readouterr()
    return printed.out + printed.err


def files(store: Store) -> set[str]:
    return {str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file()}


A, B = recorded.record("lora", "a", 80), recorded.record("vpt", "b", 70)
LATER = "2026-01-01T00:00:00+00:00"


def test_what_is_missing_is_copied_and_what_is_equal_is_fine(
    ours: Store, theirs: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = recorded.record("hst", "c", 0, status="failed")
    for store, records in ((ours, (A,)), (theirs, (A, B, failed))):
        for record in records:
            store.put(record)
    theirs.put_cost(Path("cost/machine/lora-0123456789ab.json"), recorded.cost("lora"))
    (theirs.root / "logs").mkdir()
    (theirs.root / "logs" / f"{failed.run.key}.log").write_text("last words")
    said = merge(ours, theirs, capsys=capsys)
    assert said == "1 cost, 2 records, 1 log copied, 1 equal, 0 decided, 0 in conflict\n"
    assert files(ours) == files(theirs)
    assert merge(ours, theirs, capsys=capsys) == "nothing copied, 4 equal, 0 decided, 0 in conflict\n"


def leave(store: Store, record: Record, content: str) -> list[Path]:
    """What a run leaves beside its record."""
    stem = record.run.path.with_suffix("")
    left = [Path("weights", stem).with_suffix(".safetensors"), Path("pictures", stem, "0.png")]
    for path in left:
        (store.root / path).parent.mkdir(parents=True, exist_ok=True)
        (store.root / path).write_text(content)
    return left


def test_a_run_that_is_done_while_it_is_merged_is_not_replaced(
    ours: Store, theirs: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs.put(A)
    done = dataclasses.replace(A, started=LATER)
    hold = lock.hold

    @contextmanager
    def late(*arguments: Any) -> Iterator[None]:
        ours.put(done)  # by a worker that ends just before the lock is ours
        with hold(*arguments):
            yield

    monkeypatch.setattr(lock, "hold", late)
    said = merge(ours, theirs, capsys=capsys)
    assert f"{A.run.path}: has changed meanwhile; merge again" in said
    assert list(ours.records()) == [done]


@pytest.mark.parametrize(("prefer", "kept"), [("ours", "ours"), ("theirs", "theirs")])
def test_weights_and_pictures_go_with_the_record_that_is_kept(
    ours: Store, theirs: Store, prefer: str, kept: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ours.put(A)
    theirs.put(dataclasses.replace(A, scores={"top1": 60.0}))
    theirs.put(B)
    left = leave(ours, A, "ours")
    leave(theirs, A, "theirs")
    missing = leave(theirs, B, "theirs")
    leave(theirs, recorded.record("hst", "c", 0), "of a run without a record")
    assert " weights file" in merge(ours, theirs, "--prefer", prefer, capsys=capsys)
    assert {(ours.root / path).read_text() for path in left} == {kept}
    assert {(ours.root / path).read_text() for path in missing} == {"theirs"}
    assert not list(ours.root.rglob("c-*.safetensors"))


@pytest.mark.parametrize(
    ("options", "kept", "code"),
    [((), 80, 1), (("--prefer", "ours"), 80, 0), (("--prefer", "theirs"), 60, 0), (("--prefer", "newer"), 60, 0)],
)
def test_two_records_of_one_run_that_differ_are_a_conflict_that_a_person_decides(
    ours: Store, theirs: Store, options: tuple[str, ...], kept: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    ours.put(A)
    theirs.put(dataclasses.replace(recorded.record("lora", "a", 60), started=LATER))
    said = merge(ours, theirs, *options, capsys=capsys, code=code)
    assert "ours done accuracy 80.00 %, f1 40.00 % (" in said
    assert f"theirs done accuracy 60.00 %, f1 30.00 % ({A.machine.tag}, {LATER})" in said
    assert ("conflict  " in said) == bool(code)
    found = ours.get(A.run)
    assert found is not None
    assert found.scores["accuracy"] == kept


@pytest.mark.parametrize("options", [(), ("--prefer", "ours"), ("--prefer", "newer")])
def test_what_is_done_beats_what_failed_whoever_has_it(
    ours: Store, theirs: Store, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    def failed(record: Record) -> Record:
        return dataclasses.replace(record, status="failed", reason="no more", scores={}, started=LATER)

    for record, has, fails in ((A, ours, theirs), (B, theirs, ours)):
        has.put(record)
        fails.put(failed(record))
    merge(ours, theirs, *options, capsys=capsys)
    assert list(ours.records()) == [A, B]


def test_costs_that_differ_are_conflicts_too(ours: Store, theirs: Store, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("cost/machine/lora-0123456789ab.json")
    ours.put_cost(path, recorded.cost("lora"))
    theirs.put_cost(path, recorded.cost("lora", faster=2))
    said = merge(ours, theirs, capsys=capsys, code=1)
    assert "100.0 images/s" in said.split("theirs")[0]
    assert "200.0 images/s" in said.split("theirs")[1]


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff\xfe", b'{"format": 99}'])
def test_files_that_are_no_records_are_named_and_left_out(
    ours: Store, theirs: Store, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs.put(A)
    for name in ("tiny/lora/x-s0-0123456789ab.json", "cost/machine/x-0123456789ab.json", "plans/0123456789ab.json"):
        (theirs.root / name).parent.mkdir(parents=True, exist_ok=True)
        (theirs.root / name).write_bytes(content)
    said = merge(ours, theirs, capsys=capsys)
    assert said.count("skipped   ") == 3
    assert files(ours) == {str(A.run.path)}


def test_a_record_in_the_place_of_another_run_is_left_out(
    ours: Store, theirs: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    path = theirs.put(A)
    content = json.loads(path.read_text())
    content["run"]["task"] = "another"
    path.write_text(json.dumps(content))
    content["run"]["task"] = "../../../outside"
    path.with_name("outside.json").write_text(json.dumps(content))
    newer = theirs.put(B)
    newer.write_bytes(newer.read_bytes().replace(b'"format": 1', b'"format": 2'))
    said = merge(ours, theirs, capsys=capsys)
    assert "is the record of another run" in said
    assert f"{path.with_name('outside.json')}: run of 'lora' on " in said
    assert "written by a newer petlbench (format 2, this one reads 1)" in said
    assert files(ours) == set()


def test_links_that_lead_out_of_the_folder_are_not_followed(
    ours: Store, theirs: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("private")
    (theirs.root / "logs").mkdir()
    (theirs.root / "logs" / "0123456789ab.log").symlink_to(secret)
    (theirs.root / "logs" / "..log").write_text("no key")
    assert merge(ours, theirs, capsys=capsys).startswith("nothing copied")
    assert files(ours) == set()


def test_a_run_under_way_is_not_touched(ours: Store, theirs: Store, capsys: pytest.CaptureFixture[str]) -> None:
    theirs.put(A)
    with lock.hold(lock.beside(ours.root / A.run.path), lambda: None):
        assert "merge again when it has ended" in merge(ours, theirs, capsys=capsys)
    assert list(ours.records()) == []
    merge(ours, theirs, capsys=capsys)
    assert list(ours.records()) == [A]


def test_a_folder_that_is_not_there_or_is_the_same_is_a_mistake(
    ours: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such folder" in merge(ours, Store(Path("nowhere")), capsys=capsys, code=2)
    ours.put(A)
    assert "is --results itself" in merge(ours, ours, capsys=capsys, code=2)
