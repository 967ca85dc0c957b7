"""The local engine: fresh processes, contained crashes, and nothing lost however it ends."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from petlbench.engines import local
from petlbench.plan import plan
from petlbench.request import Request
from petlbench.store import Store

RequestFor = Callable[..., Request]

CRASHES = '''"""A method that ends its process in a way of its choice."""
import os, signal, time
from dataclasses import dataclass
from petlbench import Encoder, Method, Trial, ViT

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
        trial.fit()
'''


class Silent:
    """A display that remembers."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.results: list[object] = []

    def start(self, work: object) -> None: ...

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
        ("kill", "the worker was killed by SIGKILL, often because the machine ran out of memory"),
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


COMMAND = """
import signal, sys
from petlbench.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores Ctrl-C
sys.argv[0] = "petlbench"
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def start(request: Request, tmp_path: Path, methods: str) -> subprocess.Popen[bytes]:
    """Start `petlbench run` as a user does, in a process group of its own."""
    script = tmp_path / "petlbench_cli.py"
    script.write_text(COMMAND)
    arguments = [
        "run",
        "--methods",
        methods,
        "--suite",
        request.suite,
        "--data-root",
        str(request.data_root),
        "--no-cost",
    ]
    arguments += ["--weights", "random", "--results", str(request.results), "--recipe", "epochs=12,batch_size=4"]
    return subprocess.Popen(
        [sys.executable, str(script), *arguments],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def processes(group: int) -> list[int]:
    """Processes of a session that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            if int(fields[3]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def wait_until(true: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc (Linux)")


@linux
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(request_for: RequestFor, tmp_path: Path) -> None:
    request = request_for()
    process = start(request, tmp_path, "linear,full,lora,bitfit")
    assert wait_until(lambda: any(request.results.glob("tiny/*/*.json")))
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130
    assert "the same command goes on from here" in output
    assert "Traceback" not in output
    assert wait_until(lambda: not processes(process.pid))
    finished = list(Store(request.results).records())
    assert all(record.status == "done" for record in finished)
    assert 1 <= len(finished) < 16


@linux
@pytest.mark.slow
def test_killing_everything_at_twenty_random_moments_loses_nothing_that_was_finished(
    request_for: RequestFor, tmp_path: Path
) -> None:
    request = request_for()
    methods = "linear,full,lora,bitfit,vpt,adaptformer"
    finished: dict[Path, bytes] = {}
    moments = random.Random(0)
    for _ in range(20):
        kill_at_some_moment(start(request, tmp_path, methods), request.results, len(finished), moments)
        now = {path: path.read_bytes() for path in request.results.glob("tiny/*/*.json")}
        for path, content in finished.items():
            assert now[path] == content, "a finished record has changed"
        for content in now.values():
            json.loads(content)
        finished = now
    process = start(request, tmp_path, methods)
    process.communicate()
    assert process.returncode == 0
    assert [record.status for record in Store(request.results).records()] == ["done"] * 24
    for path, content in finished.items():
        if json.loads(content)["status"] == "done":
            assert path.read_bytes() == content, "a finished run was done again"


def kill_at_some_moment(process: subprocess.Popen[bytes], results: Path, known: int, moments: random.Random) -> None:
    """Kill the driver, or all of its processes, some time after it has added a record; nobody may be left."""
    wait_until(lambda: process.poll() is not None or len(list(results.glob("tiny/*/*.json"))) > known)
    time.sleep(moments.uniform(0, 0.7))
    victims = processes(process.pid)
    if moments.random() < 0.5:  # half of the time only the driver: its workers must end by themselves
        process.kill()
    else:
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
    process.communicate()
    assert wait_until(lambda: not processes(process.pid)), "orphans are left"
