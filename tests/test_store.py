"""The results folder: whole files, found by their run, read with suspicion."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from petlbench import files
from petlbench.errors import InputError
from petlbench.record import Record
from petlbench.store import Store

Do = Callable[..., list[Record]]


def test_a_record_is_found_by_its_run(do: Do, tmp_path: Path) -> None:
    (record,) = do(tasks=("day",))
    store = Store(tmp_path / "results")
    assert store.get(record.run) == record
    assert list(store.records()) == [record]
    assert Store(tmp_path / "empty").get(record.run) is None
    assert list(Store(tmp_path / "empty").records()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a record of petlbench: Input data was truncated"),
        (b"{}", "not a record of petlbench: Object missing required field"),
        (b"\xff\xfe", "not a record of petlbench"),
        (b"[" * 100_000, "not a record of petlbench"),
        (None, "written by a newer petlbench (format 99, this one reads 1)"),
    ],
)
def test_a_file_that_is_no_record_is_named(do: Do, tmp_path: Path, content: bytes | None, said: str) -> None:
    (record,) = do(tasks=("day",))
    path = tmp_path / "results" / record.run.path
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 99') if content is None else content)
    with pytest.raises(InputError) as refusal:
        list(Store(tmp_path / "results").records())
    assert str(path) in str(refusal.value)
    assert said in str(refusal.value)


def test_a_results_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--results .*file/results: cannot be written: Not a directory"):
        Store(tmp_path / "file" / "results").check_writable()


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    contents = [bytes([letter]) * 100_000 for letter in b"abcdef"]
    files.write(path, contents[0])
    threads = [threading.Thread(target=files.write, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
        assert path.read_bytes() in contents
    for thread in threads:
        thread.join()
        assert path.read_bytes() in contents
    assert [file.name for file in path.parent.iterdir()] == ["file.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.json"
    files.write(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file.json"]
