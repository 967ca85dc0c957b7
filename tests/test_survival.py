"""What a store survives: kills, a full disk, signals, two drivers, clocks and odd names. Each is really done."""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import kills
import msgspec
import pytest
import tiny

from petlbench import cli, overview, worker
from petlbench.plan import plan
from petlbench.record import Record
from petlbench.request import Request
from petlbench.store import Store

RequestFor = Callable[..., Request]

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc (Linux)")

WAITS = '''"""A method that writes down that it has begun, and then waits for an end."""
import time
from dataclasses import dataclass
from pathlib import Path
from petlbench import Encoder, Method, Trial, ViT
from petlbench.errors import Ended

@dataclass(frozen=True, kw_only=True)
class Waits(Method):
    def attach(self, vit: ViT) -> Encoder:
        return vit
    def fit(self, trial: Trial) -> None:
        Path(__file__).with_suffix(".begun").touch()
        try:
            time.sleep(600)
        except Ended:
            Path(__file__).with_suffix(".checkpoint").write_text("saved")
            raise
'''

COUNTED = '''"""Linear probing that keeps a list of who has begun."""
import os
from dataclasses import dataclass
from pathlib import Path
from petlbench import Encoder, Method, Trial, ViT

@dataclass(frozen=True, kw_only=True)
class Counted(Method):
    number: int = 0
    def attach(self, vit: ViT) -> Encoder:
        return vit
    def fit(self, trial: Trial) -> None:
        list_ = os.open(Path(__file__).with_suffix(".list"), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.write(list_, f"{self.number} {trial.labels.sum()} {trial.images.float().sum()}\\n".encode())
        os.close(list_)
        trial.fit()
'''


@linux
@pytest.mark.slow
def test_killing_workers_and_drivers_at_random_moments_loses_and_doubles_nothing(tmp_path: Path) -> None:
    found = kills.torment(tmp_path, kills=20)
    assert found.kills >= 20
    assert found.is_clean, found
    assert found.records >= 24


@linux
@pytest.mark.slow
def test_two_drivers_on_one_store_do_every_run_once(tmp_path: Path) -> None:
    data, results, counted = tiny.write(tmp_path / "data"), tmp_path / "results", tmp_path / "counted.py"
    counted.write_text(COUNTED)
    methods = ",".join(f"{counted}(number={number})" for number in range(3))
    drivers = [kills.start(tmp_path, results, data, methods=methods) for _ in range(2)]
    assert [driver.wait(timeout=500) for driver in drivers] == [0, 0]
    begun = counted.with_suffix(".list").read_text().splitlines()
    assert len(begun) == len(set(begun)) == 12
    assert [record.status for record in Store(results).records()] == ["done"] * 12
    assert not list(results.rglob("*.lock*"))


@pytest.fixture
def waits(tmp_path: Path) -> Path:
    file = tmp_path / "waits.py"
    file.write_text(WAITS)
    return file


@linux
def test_a_worker_that_is_asked_to_end_may_save_and_leaves_its_run_new(
    request_for: RequestFor, waits: Path, tmp_path: Path
) -> None:
    request = request_for(str(waits), tasks=("day",))
    (planned,) = plan(request)
    file = tmp_path / "job.json"
    file.write_bytes(msgspec.json.encode(planned.job))
    process = subprocess.Popen([sys.executable, "-m", "petlbench.worker", str(file)], stdout=subprocess.PIPE)
    assert kills.wait_until(waits.with_suffix(".begun").exists)
    held = Path(planned.job.results, planned.job.path).with_suffix(".lock")
    assert held.exists()
    again = subprocess.run([sys.executable, "-m", "petlbench.worker", str(file)], capture_output=True, check=False)
    assert again.returncode == worker.Exit.ELSEWHERE
    assert f"left alone, in hand on {overview.read(request.results).running[0].owner}" in again.stdout.decode()
    process.terminate()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == worker.Exit.ENDED == 75
    assert output == b"ended by SIGTERM; the run can be started again\n"
    assert waits.with_suffix(".checkpoint").read_text() == "saved"
    assert not [path for path in request.results.rglob("*") if path.is_file()]
    assert plan(request)[0].state == "new"


@linux
def test_a_driver_that_is_asked_to_end_ends_its_workers_and_says_how_to_go_on(
    data: Path, waits: Path, tmp_path: Path
) -> None:
    process = kills.start(tmp_path, tmp_path / "results", data, methods=str(waits))
    assert kills.wait_until(waits.with_suffix(".begun").exists)
    process.terminate()
    assert process.wait(timeout=300) == 143
    assert "the same command goes on from here" in (tmp_path / "output.txt").read_text()
    assert waits.with_suffix(".checkpoint").read_text() == "saved"
    assert kills.wait_until(lambda: not kills.processes(process.pid))
    left = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert {path.parent.name for path in left} <= {"plans", "logs"}


@linux
def test_workers_end_with_a_driver_that_was_killed_and_their_locks_are_as_good_as_gone(
    data: Path, waits: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    process = kills.start(tmp_path, results, data, methods=str(waits))
    assert kills.wait_until(waits.with_suffix(".begun").exists)
    process.kill()
    process.wait()
    assert kills.wait_until(lambda: not kills.processes(process.pid))
    assert list(results.rglob("*.lock"))
    assert overview.read(results).running == []


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(options, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    file = folder / "filling"
    with file.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(4096))
        except OSError:
            return file


def test_a_full_disk_leaves_no_half_of_a_record_and_the_run_repeats_when_there_is_room(
    request_for: RequestFor, small: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results = small / "results"
    (planned,) = plan(request_for("linear", tasks=("day",), results=results))
    filling: list[Path] = []

    def late(*, epoch: int, epochs: int, loss: float | None) -> None:
        filling.append(fill(small))

    assert worker.do(planned.job, late) is worker.Exit.FAILED
    said = capfd.readouterr().err
    assert said.startswith("petlbench.worker: tiny/day linear seed 0: ")
    assert "cannot be written: No space left on device" in said
    assert said.count("\n") == 1
    assert [path for path in results.rglob("*") if path.is_file()] == []
    assert worker.do(planned.job) is worker.Exit.FAILED  # not even its lock can be written
    filling[0].unlink()
    assert worker.do(planned.job) is worker.Exit.DONE
    assert [path.name for path in results.rglob("*") if path.is_file()] == [planned.job.path.name]


@linux
@pytest.mark.slow
def test_a_driver_whose_disk_is_full_says_so_in_one_line(small: Path, data: Path, tmp_path: Path) -> None:
    (small / "results").mkdir()
    filling = fill(small)
    assert kills.start(tmp_path, small / "results", data, methods="linear").wait(timeout=300) == 2
    said = (tmp_path / "output.txt").read_text()
    assert "cannot be written: No space left on device" in said.splitlines()[-1]
    assert "Traceback" not in said
    filling.unlink()
    assert kills.start(tmp_path, small / "results", data, methods="linear").wait(timeout=300) == 0


def test_a_store_that_was_mounted_to_be_read_is_refused_before_any_work_and_can_be_read(
    small: Path, request_for: RequestFor, capsys: pytest.CaptureFixture[str]
) -> None:
    (planned,) = plan(request_for("linear", tasks=("day",), results=small))
    assert worker.do(planned.job) is worker.Exit.DONE
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    arguments = ["run", "--methods", "linear", "--suite", "mini", "--results", str(small)]
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == f"petlbench: --results {small}: cannot be written: Read-only file system\n"
    assert cli.main(["status", "--results", str(small)]) == 0
    assert "1 runs: 1 done" in capsys.readouterr().out


def test_clocks_that_jump_change_no_duration(do: Callable[..., list[Record]], monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: jumps.uniform(0, 4e9))
    monkeypatch.setattr(time, "time_ns", lambda: jumps.randrange(4 * 10**18))
    began = time.perf_counter()
    (record,) = do("linear", tasks=("day",))
    took = time.perf_counter() - began
    assert record.status == "done"
    assert all(0 <= seconds <= took for seconds in record.seconds.values())
    assert all(0 <= epoch.seconds <= took for epoch in record.curve)


def test_paths_may_hold_spaces_and_any_letters(
    request_for: RequestFor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "мои данные/结果 é"
    data, method, results = tiny.write(odd / "data root"), odd / "mein verfahren ü.py", odd / "results [1]"
    method.write_text(COUNTED)
    (planned,) = plan(request_for(f"{method}(number=3)", tasks=("day",), data_root=data, results=results))
    assert worker.do(planned.job) is worker.Exit.DONE
    assert [path.name for path in (results / "tiny/mein verfahren ü").iterdir()] == [planned.job.path.name]
    for command in (["status"], ["why", planned.job.key]):
        assert cli.main([*command, "--results", str(results)]) == 0
        assert "mein verfahren ü(number=3)" in capsys.readouterr().out
    assert cli.main(["merge", str(results), "--results", str(odd / "другие")]) == 0
    assert [record.run for record in Store(odd / "другие").records()] == [planned.job.run]
