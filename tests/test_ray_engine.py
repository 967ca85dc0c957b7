"""The Ray engine on a real cluster of two nodes: nothing is tried again in silence, nothing that was done is lost."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from queued import Bench, Display, RequestFor, lives, parent, todo
from slurm_cluster import wait_until

from petlbench import cli
from petlbench.engines import ray as engines
from petlbench.errors import InputError
from petlbench.plan import Planned

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    """The library, made to keep to the loopback and to itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # nodes on 127.0.0.1, which is all that others may have
        yield pytest.importorskip("ray")


@pytest.fixture
def cluster(ray: Any) -> Iterator[Any]:
    """Two nodes with a core each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def bench(request_for: RequestFor, tmp_path: Any) -> Bench:
    return Bench(request_for, tmp_path)


def run(bench: Bench, planned: list[Planned], address: str, slots: int = 9) -> list[str]:
    """Do what is not done; say how each ended."""
    display = Display()
    expected = dict.fromkeys([each.job.key for each in planned])  # so that every run is a task of its own
    engine = engines.Ray(results=bench.results, expected=expected, address=address, say=bench.said.append)
    engine.run((each.job for each in todo(planned)), slots, display)
    return sorted(display.results)


def meanwhile(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_a_lost_worker_and_a_lost_node_cost_the_run_in_hand_and_the_same_command_does_it(
    bench: Bench, cluster: Any
) -> None:
    both = bench.plan(bench.waits, seeds=(0, 1))

    def kill(victim: Callable[[int], int]) -> Callable[[], None]:
        def act() -> None:
            try:
                wait_until(lambda: len(bench.begun()) == 2, "there is no run in hand on each node")
                process = next(each for each in bench.begun() if raylet(each) == second)
                os.kill(victim(process), signal.SIGKILL)
                wait_until(lambda: not lives(process), "the run has outlived those who have started it")
            finally:
                bench.go()

        return act

    def raylet(process: int) -> int:
        """A run is started by a server, an element, a worker of Ray and its node."""
        return parent(parent(parent(parent(process))))

    (node,) = cluster.worker_nodes
    second = node.all_processes["raylet"][0].process.pid
    thread = meanwhile(kill(lambda process: parent(parent(parent(process)))))
    assert run(bench, both, cluster.address) == ["done", "no record"]
    thread.join()
    assert bench.statuses() == ["done"]
    assert len(bench.begun()) == 2  # Ray has not tried it again
    assert any(said.startswith("a task of Ray was lost: ") for said in bench.said)
    kept = bench.files()

    (bench.folder / "begun").unlink()
    (bench.folder / "go").unlink()
    more = bench.plan(bench.waits, seeds=(0, 1, 2))
    thread = meanwhile(kill(lambda process: second))
    assert run(bench, more, cluster.address) == ["done", "no record"]
    thread.join()
    assert "2 runs on a Ray cluster with 2 nodes, at most 2 at a time" in bench.said
    assert bench.statuses() == ["done", "done"]

    assert run(bench, bench.plan(bench.waits, seeds=(0, 1, 2)), cluster.address) == ["done"]
    assert bench.statuses() == ["done"] * 3
    assert kept.items() <= bench.files().items()


def test_the_command_can_start_a_cluster_for_its_runs(
    bench: Bench, ray: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command = bench.command("linear,bitfit", "--engine", "ray", "--address", "local")
    assert cli.main(command) == 0
    assert "2 done, 0 failed" in capsys.readouterr().err
    assert bench.statuses() == ["done", "done"]
    assert bench.left() == []
    assert not ray.is_initialized()


def test_what_no_cluster_can_do_is_refused_in_one_line(bench: Bench, ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^--engine ray: no Ray cluster to be reached; valid: HOST:PORT of one, lo"):
        run(bench, bench.plan("linear"), address="")
    with pytest.raises(InputError, match=r"^--engine ray: the cluster has no room for 99999 CPU and 0 GPU$"):
        run(bench, bench.plan("linear", threads=99999), "local")
    for address in ("127.0.0.1:9", "nowhere", "127.0.0.1:99999", "127.0.0.1:x", ":"):
        with pytest.raises(InputError, match=rf"^--address {address}: no Ray cluster to be reached; valid: HOST:PORT"):
            engines.check(address)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"^--engine ray: needs Ray, pip install 'petlbench\[ray\]'$"):
        run(bench, bench.plan("linear"), address="")
