"""The SLURM engine on a real SLURM: arrays, bundles, and nothing lost however a job ends."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_cluster
from queued import Bench, Display, RequestFor, lives, parent, todo
from slurm_cluster import ask, wait_until

from petlbench import cli, worker
from petlbench.engines import slurm
from petlbench.errors import InputError
from petlbench.plan import Planned

real = pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing() or "there is a SLURM")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which SLURM's commands find the SLURM of these tests."""
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def run(bench: Bench, planned: list[Planned], slots: int = 9, detach: bool = False, **settings: str) -> list[str]:
    """Do what is not done; say how each ended."""
    display = Display()
    engine = slurm.Slurm(
        results=bench.results,
        expected={each.job.key: each.seconds for each in planned},
        settings=settings,
        detach=detach,
        say=bench.said.append,
    )
    engine.run((each.job for each in todo(planned)), slots, display)
    return sorted(display.results)


def both(bench: Bench) -> str:
    """A method that ends at once, and one that waits."""
    return f"linear,{bench.waits}"


def queue(environment: dict[str, str]) -> list[tuple[str, str]]:
    """Identity and state of the elements in the queue."""
    rows = ask(environment, "squeue", "--noheader", "--array", "--format=%i %T").splitlines()
    return [(row.split()[0], row.split()[1]) for row in rows]


@pytest.fixture
def bench(
    cluster: dict[str, str], request_for: RequestFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, cluster[name])
    yield Bench(request_for, tmp_path)
    slurm_cluster.clear(cluster)


@real
@pytest.mark.slow
def test_an_array_runs_under_its_cap_and_leaves_nothing_but_records(bench: Bench, cluster: dict[str, str]) -> None:
    planned = bench.plan("linear", tasks=("day", "night", "left"))
    run(bench, planned, slots=2, detach=True)
    assert re.search(r"job \d+, petlbench-\S+: 3 runs in 3 array elements, at most 2 at a time", bench.said[0])
    together = [0]
    while elements := queue(cluster):
        together.append(sum(state == "RUNNING" for _, state in elements))
    assert max(together) == 2
    assert bench.statuses() == ["done"] * 3
    assert run(bench, bench.plan("linear", tasks=("day", "night", "left"))) == []
    assert bench.left() == []


@real
@pytest.mark.slow
def test_an_element_that_is_requeued_does_what_is_missing_and_nothing_twice(
    bench: Bench, cluster: dict[str, str]
) -> None:
    for each in bench.plan("linear"):
        worker.work(each.job)  # how long a run takes is known from now on, so what follows is one bundle
    planned = bench.plan(both(bench), seeds=(1,))
    run(bench, planned, detach=True)
    assert "2 runs in 1 array element, at most 1 at a time" in bench.said[0]
    wait_until(lambda: len(bench.begun()) == 1, "the second run has not begun")
    before = bench.files()
    ((element, _),) = queue(cluster)
    assert ask(cluster, "scontrol", "requeue", element) == ""
    wait_until(lambda: len(bench.begun()) == 2, "the element was not started again")
    assert bench.files() == before  # no record says that the run has failed
    bench.go()
    assert run(bench, planned) == ["done", "done"]
    assert bench.statuses() == ["done"] * 3
    assert before.items() <= bench.files().items()


@real
@pytest.mark.slow
def test_a_cancelled_array_loses_the_run_in_hand_and_the_same_command_does_the_rest(
    bench: Bench, cluster: dict[str, str]
) -> None:
    run(bench, bench.plan(both(bench)), detach=True)
    wait_until(lambda: bench.begun() and bench.files(), "one run is done and one in hand")
    before = bench.files()
    slurm_cluster.clear(cluster)
    assert bench.statuses() == ["done"]
    bench.go()
    assert run(bench, bench.plan(both(bench))) == ["done"]
    assert bench.statuses() == ["done"] * 2
    assert before.items() <= bench.files().items()


@real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "ended"), [("the worker", ["done", "failed"]), ("the element", ["done", "no record"])]
)
def test_kill_9_costs_the_run_in_hand_and_no_other(
    bench: Bench, cluster: dict[str, str], victim: str, ended: list[str]
) -> None:
    planned = bench.plan(both(bench))
    run(bench, planned, detach=True)
    wait_until(lambda: bench.begun() and bench.files(), "one run is done and one in hand")
    before = bench.files()
    (process,) = bench.begun()
    os.kill(process if victim == "the worker" else parent(parent(process)), signal.SIGKILL)
    assert run(bench, planned) == ended
    wait_until(lambda: not lives(process), "the worker has outlived its element")
    bench.go()
    assert run(bench, bench.plan(both(bench))) == ["done"]
    assert bench.statuses() == ["done"] * 2
    assert before.items() <= bench.files().items()


@real
@pytest.mark.slow
def test_the_command_submits_returns_and_comes_back_to_the_same_array(
    bench: Bench, cluster: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = bench.command(both(bench), "--engine", "slurm")

    def petlbench(*options: str) -> str:
        return f"exit code {cli.main([*command, *options])}\n{capsys.readouterr().err}"

    said = petlbench("--detach", "--slurm", "time=5,comment=a b")
    assert "2 runs in 2 array elements" in said
    assert said.startswith("exit code 0")
    assert "a b" in ask(cluster, "squeue", "--noheader", "--format=%k|%l")
    assert "5:00" in ask(cluster, "squeue", "--noheader", "--format=%k|%l")
    wait_until(lambda: bench.begun() and bench.files(), "one run is done and one in hand")
    again = petlbench("--detach")
    assert "1 of 2 runs are done already" in again
    assert "in the queue already: 1 run" in again
    assert "submitted" not in again
    bench.go()
    assert "1 done, 0 failed" in petlbench()
    assert "2 of 2 runs are done already" in petlbench()
    assert bench.statuses() == ["done"] * 2
    assert len(bench.begun()) == 1


@real
@pytest.mark.slow
def test_more_runs_than_an_array_may_have_elements_are_bundled(bench: Bench, cluster: dict[str, str]) -> None:
    run(bench, bench.plan("linear", seeds=range(12)), detach=True, hold="")
    assert "12 runs in 8 array elements" in bench.said[0]  # MaxArraySize of the SLURM of these tests
    assert {state for _, state in queue(cluster)} == {"PENDING"}


@real
@pytest.mark.slow
def test_what_slurm_refuses_is_one_line_and_leaves_nothing_behind(bench: Bench, cluster: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"^--engine slurm: sbatch says: error: invalid partition specified: nowhere"):
        run(bench, bench.plan("linear"), partition="nowhere")
    assert bench.left() == []


@real
@pytest.mark.slow
def test_the_slurm_of_these_tests_listens_on_the_loopback_only(cluster: dict[str, str]) -> None:
    configuration = Path(cluster["SLURM_CONF"]).read_text()
    ports = {int(port) for port in re.findall(r"^Slurm(?:ctld|d)Port=(\d+)", configuration, re.MULTILINE)}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1].split(":") for row in rows if row[3] == "0A"]
    assert [address for address, port in listening if int(port, 16) in ports] == ["0100007F"] * 2


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["partition=gpu,account=me"], {"partition": "gpu", "account": "me"}),
        (["gres=gpu:1,shard:2,exclusive=,time=1:00"], {"gres": "gpu:1,shard:2", "exclusive": "", "time": "1:00"}),
        (["partition=cpu", "partition=gpu"], {"partition": "gpu"}),
        ([], {}),
    ],
)
def test_settings_of_sbatch_are_names_with_values(texts: list[str], found: dict[str, str]) -> None:
    assert slurm.settings(texts) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("partition", "--slurm partition: expected NAME=VALUE"),
        ("--partition=gpu", "--slurm --partition=gpu: expected NAME=VALUE"),
        ("output=x", "--slurm output=x: petlbench sets output itself"),
    ],
)
def test_what_is_no_setting_of_sbatch_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        slurm.settings([text])


def test_without_slurm_a_run_there_is_refused_in_one_line(
    request_for: RequestFor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    request = request_for()
    monkeypatch.setenv("PATH", "/nowhere")
    arguments = ["run", "--methods", "linear", "--suite", request.suite, "--data-root", str(request.data_root)]
    assert cli.main([*arguments, "--engine", "slurm", "--results", str(request.results)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("petlbench: --engine slurm: no sbatch and squeue here")
    assert not request.results.exists()
