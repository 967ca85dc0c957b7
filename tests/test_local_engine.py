"""The local engine: fresh processes, contained crashes, and nothing lost however it ends."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import kills
import pytest

from petlbench.engines import limits, local
from petlbench.engines.limits import Limits
from petlbench.errors import Ended
from petlbench.plan import plan
from petlbench.request import Request
from petlbench.store import Store

RequestFor = Callable[..., Request]

CRASHES = '''"""A method that ends its process in a way of its choice."""
import os, signal, time
from dataclasses import dataclass
from pathlib import Path
import torch
from petlbench import Encoder, Method, Trial, ViT
from petlbench.errors import Ended

@dataclass(frozen=True, kw_only=True)
class Crashes(Method):
    how: str
    def attach(self, vit: ViT) -> Encoder:
        return vit
    def fit(self, trial: Trial) -> None:
        print("last words")
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "exit":
            os._exit(7)
        if self.how == "raise":
            raise RuntimeError("no more")
        if self.how in ("hang", "wait"):
            if self.how == "hang":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            try:
                Path(__file__).with_name("under way").touch()
                trial._report(epoch=1, epochs=2, loss=None)
                time.sleep(600)
            except Ended:
                print("a checkpoint is saved")
                raise
        if self.how == "eat":
            bytearray(2**40)
        if self.how == "allocate":
            torch.zeros(2**38)
        if self.how == "gpu":
            trial.found["gpu"] = os.environ["CUDA_VISIBLE_DEVICES"]
        trial.fit()
'''


class Silent:
    """A display that remembers."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.results: list[object] = []
        self.waits: list[str] = []

    def start(self, work: object) -> None: ...

    def wait(self, work: object, why: str) -> None:
        self.waits.append(why)

    def step(self, work: object, *, epoch: int, epochs: int, loss: float | None) -> None:
        self.steps.append((epoch, epochs))

    def finish(self, work: object, result: object, seconds: float) -> None:
        self.results.append(result)


def test_every_run_has_a_fresh_process_and_reports_its_epochs(request_for: RequestFor, tmp_path: Path) -> None:
    display = Silent()
    jobs = [each.job for each in plan(request_for("linear", overrides={"epochs": 2}))]
    local.run(jobs, 2, display)
    records = list(Store(tmp_path / "results").records())
    assert [record.status for record in records] == ["done"] * 4
    assert sorted(display.steps) == [(1, 2)] * 4 + [(2, 2)] * 4
    assert not list((tmp_path / "results/logs").iterdir())  # logs are kept for runs that failed


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("kill", "the worker was killed by SIGKILL, by a person or because memory ran out"),
        ("exit", "the worker ended with exit code 7 before it could write its record"),
        ("raise", "RuntimeError: no more"),
    ],
)
def test_a_crash_becomes_a_failed_record_and_the_others_go_on(
    request_for: RequestFor, tmp_path: Path, how: str, reason: str
) -> None:
    (tmp_path / "crashes.py").write_text(CRASHES)
    file = tmp_path / "crashes.py"
    jobs = [each.job for each in plan(request_for(f"{file}(how={how!r}),{file}(how='not'),linear", tasks=("day",)))]
    local.run(jobs, 2, Silent())
    store = Store(tmp_path / "results")
    first, second, third = (store.get(job.run) for job in jobs)
    assert first is not None
    assert second is not None
    assert third is not None
    assert (first.status, first.reason) == ("failed", reason)
    assert (second.status, third.status) == ("done", "done")
    assert (tmp_path / "results" / first.log).read_text().startswith("last words")


@pytest.fixture
def crashes(tmp_path: Path) -> Path:
    """The method above as a file."""
    file = tmp_path / "crashes.py"
    file.write_text(CRASHES)
    return file


class Clock:
    """A clock that stands until a file appears, and then is an hour later and goes on."""

    def __init__(self, file: Path) -> None:
        self.file, self.began, self.seen = file, time.perf_counter(), 0.0

    def perf_counter(self) -> float:
        if not self.file.exists():
            return self.began
        self.seen = self.seen or time.perf_counter()
        return self.began + 3600 + time.perf_counter() - self.seen

    monotonic = staticmethod(time.monotonic)


@pytest.mark.parametrize(
    ("how", "grace", "log"), [("wait", 60.0, "a checkpoint is saved"), ("hang", 0.5, "last words")]
)
def test_a_run_is_ended_at_its_limit_of_time_whether_it_listens_or_not(
    request_for: RequestFor, crashes: Path, monkeypatch: pytest.MonkeyPatch, how: str, grace: float, log: str
) -> None:
    (job,) = (each.job for each in plan(request_for(f"{crashes}(how={how!r})", tasks=("day",))))
    monkeypatch.setattr(local, "GRACE", grace)
    monkeypatch.setattr(local, "time", Clock(crashes.with_name("under way")))
    local.run([job], 1, Silent(), Limits(seconds=3600))
    store = Store(Path(job.results))
    record = store.get(job.run)
    assert record is not None
    assert (record.status, record.reason) == ("failed", "ended at its limit of 3600 s (--time-limit)")
    assert log in (store.root / record.log).read_text()


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere the limit is one of addresses, which torch needs many of"
)
@pytest.mark.parametrize(("how", "reason"), [("eat", "MemoryError"), ("allocate", "RuntimeError: [enforce fail at")])
def test_a_run_that_wants_more_memory_than_its_limit_is_out_of_memory(
    request_for: RequestFor, crashes: Path, how: str, reason: str
) -> None:
    (job,) = (each.job for each in plan(request_for(f"{crashes}(how={how!r})", tasks=("day",))))
    local.run([job], 1, Silent(), Limits(memory_bytes=4 * 2**30))
    record = Store(Path(job.results)).get(job.run)
    assert record is not None
    assert record.status == "oom"
    assert record.reason.startswith(reason)


def test_a_worker_that_the_kernel_killed_for_memory_is_out_of_memory(
    request_for: RequestFor, crashes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter((7, 8))
    monkeypatch.setattr(local, "killed_for_memory", lambda: next(counts))
    (job,) = (each.job for each in plan(request_for(f"{crashes}(how='kill')", tasks=("day",))))
    local.run([job], 1, Silent())
    record = Store(Path(job.results)).get(job.run)
    assert record is not None
    assert (record.status, record.reason) == ("oom", "killed by the system, whose memory ran out")


def test_each_worker_sees_one_gpu_and_they_are_shared_evenly(request_for: RequestFor, crashes: Path) -> None:
    jobs = [each.job for each in plan(request_for(f"{crashes}(how='gpu')", tasks=("day",)))]
    local.run(jobs, 1, Silent(), Limits(gpus=("5", "7")))
    assert {record.found["gpu"] for record in Store(Path(jobs[0].results)).records()} == {"5"}
    workers = [local._Child.__new__(local._Child) for _ in range(5)]
    for number, worker in enumerate(workers):
        worker.gpus = local._free(("5", "7", "9"), workers[:number])
    assert [worker.gpus for worker in workers] == [["5"], ["7"], ["9"], ["5"], ["7"]]
    workers[4].gpus = local._free(("5", "7", "9"), workers[:4], 2)
    assert workers[4].gpus == ["7", "9"]


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cpu", None, []),
        ("cuda", None, ["0", "1", "2", "3"]),
        ("cuda", "2, 3", ["2", "3"]),
        ("cuda", "GPU-1c0f,GPU-77ab", ["GPU-1c0f", "GPU-77ab"]),
        ("cuda", "", []),
        ("cuda:1", None, []),
    ],
)
def test_the_gpus_are_those_that_cuda_shows_us(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: str | None, expected: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert limits.gpus(device, lambda: 4) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90), ("1.5h", 5400), ("2d", 172800), ("2", None), ("", None), ("-1h", None), ("1e3s", None), ("0m", None)],
)
def test_durations_are_a_number_and_a_unit(text: str, expected: float | None) -> None:
    assert limits.seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("8G", 2**33), ("8GiB", 2**33), ("500mb", 500 * 2**20), ("8", None), ("G", None)]
)
def test_sizes_are_a_number_and_a_unit(text: str, expected: int | None) -> None:
    assert limits.size(text) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_until_a_worker_that_is_started_is_known(number: int) -> None:
    done = []

    def start() -> None:
        with local.undisturbed():
            signal.raise_signal(number)
            done.append("it is known")
        done.append("it goes on")

    with pytest.raises((KeyboardInterrupt, Ended)), local.interruptible():
        start()
    assert done == ["it is known"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc (Linux)")
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    process = kills.start(tmp_path, results, data, methods="linear,full,lora,bitfit")
    assert kills.wait_until(lambda: any(results.glob("tiny/*/*.json")))
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    assert process.wait(timeout=300) == 130
    output = (tmp_path / "output.txt").read_text()
    assert "the same command goes on from here" in output
    assert "Traceback" not in output
    assert kills.wait_until(lambda: not kills.processes(process.pid))
    assert not list(results.rglob("*.lock*"))
    finished = list(Store(results).records())
    assert all(record.status == "done" for record in finished)
    assert 1 <= len(finished) < 16
