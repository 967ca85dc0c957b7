"""One run trained by several processes: the losses and weights of one process, one record, and nobody left behind."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace as with_
from pathlib import Path
from typing import Any

import msgspec
import pytest
import recorded
import torch
from torch import Tensor, nn

from petlbench import backbone, contract, crew, plan, repeat, worker, zoo
from petlbench.dense.ranks import ALONE, Ranks
from petlbench.drawing import annotated
from petlbench.engines import local
from petlbench.engines.limits import Limits
from petlbench.errors import InputError
from petlbench.framing import Framing
from petlbench.recipe import Recipe
from petlbench.request import Request
from petlbench.run import Job
from petlbench.spec import Spec
from petlbench.store import Store

RECIPE = Recipe(source="test", steps=4, batch_size=4, decay="poly", lr=0.1, warmup_steps=1, min_lr=0.0, flip=0.5)
RECIPE = with_(RECIPE, optimizer="sgd")  # AdamW divides by the gradient's size, and makes much of a rounded one
EMPTY = Job(run=None, data="", results="")  # type: ignore[arg-type]
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "mini-ade20k"
    annotated.make("mini-ade20k", folder, {"train": 8, "val": 3})
    return folder


def train(tree: str, head: str, method: str, recipe: Recipe, keep: str, stop: int, is_phased: bool) -> dict[str, Any]:
    """Train in this process, as one of however many there are: weights, losses and images per step."""
    from petlbench.dense.trial import DenseTrial

    suite: Any = zoo.suite("mini-ade20k")()
    task = suite.task(head)
    torch.manual_seed(0)
    encoder = zoo.method(method)().attach(contract.tiny_vit(dynamic_img_size=True))
    networks = encoder, suite.head(encoder, task)
    for network in networks:  # what is drawn for a batch cannot be what is drawn for its parts
        for module in network.modules():
            if isinstance(module, nn.Dropout | nn.Dropout2d):
                module.p = 0.0
    examples = suite.data(task, "train800val200", suite.prepare(task, Path(tree)), Framing(32))
    trial = DenseTrial(
        *networks, suite, task, recipe, examples, with_(backbone.describe("mini", "random"), image_size=32)
    )
    sizes: list[int] = []
    step = trial._step

    def counted(batch: Any, *rest: Any) -> dict[str, Tensor]:
        sizes.append(len(batch.targets))
        if len(sizes) == stop:
            raise KeyboardInterrupt
        return step(batch, *rest)

    trial._step = counted  # type: ignore[method-assign]
    if keep:
        trial.minutes = 0.0
        trial.keep_in(Path(keep))
    try:
        phases(trial) if is_phased else trial.fit()
    except KeyboardInterrupt:
        assert stop
    weights = {
        f"{number}.{name}": value for number, each in enumerate(networks) for name, value in each.state_dict().items()
    }
    return {"weights": weights, "curve": [row.parts for row in trial.curve], "sizes": sizes, "found": trial.found}


def phases(trial: Any) -> None:
    """As E2VPT and others do: train, look at gradients and scores, freeze something, train on."""
    trial.fit()
    train, held_out = trial.split()
    weights = [weight for weight in trial.encoder.parameters() if weight.requires_grad]
    total = [torch.zeros_like(weight) for weight in weights]
    for batch in train.batches():
        for sum_, gradient in zip(total, torch.autograd.grad(train.loss(batch), weights), strict=True):
            sum_ += gradient.abs()
    least = min(range(len(weights)), key=lambda number: float(total[number].mean()))
    weights[least].requires_grad = False
    trial.found |= {"frozen": least, "score": held_out.score()}
    trial.fit()


def member(rank: int, size: int, folder: str, *arguments: Any) -> None:
    """One of several processes that train together; leaves what it has in the folder."""
    torch.set_num_threads(1)
    job: Any = with_(EMPTY, processes=size)
    crew._join(job, rank, folder)
    torch.save(train(*arguments), Path(folder, f"{rank}.pt"))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture
def together(tmp_path: Path, tree: Path) -> Callable[..., list[dict[str, Any]]]:
    def together(
        size: int,
        head: str = "semantic_fpn",
        method: str = "lora",
        recipe: Recipe = RECIPE,
        keep: str = "",
        stop: int = 0,
        is_phased: bool = False,
    ) -> list[dict[str, Any]]:
        if size == 1:
            return [train(str(tree), head, method, recipe, keep, stop, is_phased)]
        folder = tmp_path / f"met-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        arguments = (size, str(folder), str(tree), head, method, recipe, keep, stop, is_phased)
        processes = [local.context().Process(target=member, args=(rank, *arguments)) for rank in range(size)]
        for each in processes:
            each.start()
        for each in processes:
            each.join()
        assert [each.exitcode for each in processes] == [0] * size
        return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]

    return together


Together = Callable[..., list[dict[str, Any]]]


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert [sorted(row) for row in one["curve"]] == [sorted(row) for row in other["curve"]]
    for row, same in zip(one["curve"], other["curve"], strict=True):
        assert same == pytest.approx(row, rel=1e-5)
    torch.testing.assert_close(one["weights"], other["weights"], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["semantic_fpn", "upernet"])
def test_two_processes_have_the_losses_and_weights_of_one(together: Together, head: str) -> None:
    recipe = with_(RECIPE, clip_norm=0.5)
    (alone,) = together(1, head, recipe=recipe)
    first, second = together(2, head, recipe=recipe)
    assert (alone["sizes"], first["sizes"], second["sizes"]) == ([4] * 4, [2] * 4, [2] * 4)
    assert len(alone["curve"]) == 4
    assert_same(alone, first)
    assert first["curve"] == second["curve"]
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])


@pytest.mark.slow
def test_a_training_goes_on_with_another_number_of_processes(together: Together, tmp_path: Path) -> None:
    (alone,) = together(1)
    together(2, keep=str(tmp_path / "kept"), stop=3)
    (gone_on,) = together(1, keep=str(tmp_path / "kept"))
    assert gone_on["sizes"] == [4, 4]
    assert_same(alone, gone_on)


@pytest.mark.slow
def test_phases_in_which_a_method_decides_something_come_to_the_same(together: Together) -> None:
    (alone,) = together(1, is_phased=True, recipe=with_(RECIPE, steps=2))
    first, second = together(2, is_phased=True, recipe=with_(RECIPE, steps=2))
    assert (alone["sizes"], first["sizes"]) == ([4] * 4, [2] * 4)
    assert alone["found"] == first["found"] == second["found"]
    assert_same(alone, first)
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])


def test_the_parts_of_a_batch_are_the_batch() -> None:
    for images in (4, 5, 7):
        parts = [place for rank in range(3) for place in Ranks(rank, 3).own(images)]
        assert parts == list(range(images))
    assert ALONE.own(5) == range(5)


Ask = Callable[..., Request]


@pytest.fixture
def ask(tree: Path, tmp_path: Path) -> Ask:
    def ask(suite: str = "mini-ade20k", steps: int = 3, batch_size: int = 4, **fields: Any) -> Request:
        overrides = {"steps": steps, "batch_size": batch_size} if "ade20k" in suite else {}
        fields = {"processes": 2, "results": tmp_path / "results", "tasks": ("semantic_fpn",), **fields}
        fields |= {"data_root": tree} if "ade20k" in suite else {"tasks": ()}
        return Request(methods=[Spec("bitfit", {})], suite=suite, weights="random", overrides=overrides, **fields)

    return ask


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"suite": "mini"}, "--processes 2: for dense suites only, a run of mini is trained by one; valid"),
        (
            {"batch_size": 9},
            "--processes 2: the 9 images of a batch of task semantic_fpn cannot be shared equally; valid: 1, 3, 9",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused_before_anything_starts(ask: Ask, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        plan.plan(ask(**asked))
    assert str(raised.value).startswith(message)


def job(request: Request) -> Job:
    (planned,) = plan.plan(request)
    return planned.job


def test_the_number_of_processes_is_not_part_of_what_a_run_is(ask: Ask) -> None:
    assert job(ask()).key == job(ask(processes=1)).key
    assert job(ask()).processes == 2


def test_a_run_takes_as_many_gpus_as_it_has_processes(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    Limits(gpus=("3", "5", "7")).apply(["5", "7"])
    two = with_(EMPTY, processes=2, device="cuda")
    assert crew._gpus(two) == ["5", "7"]
    with pytest.raises(RuntimeError, match="3 processes need as many GPUs, and 2 can be seen"):
        crew._gpus(with_(two, processes=3))


@pytest.mark.slow
def test_petlbench_run_trains_one_run_with_two_processes(ask: Ask, tree: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    command = [sys.executable, "-m", "petlbench", "run", "--methods", "bitfit", "--suite", "mini-ade20k"]
    command += ["--tasks", "semantic_fpn", "--data-root", str(tree), "--weights", "random", "--device", "cpu"]
    command += ["--recipe", "steps=3,batch_size=4", "--no-cost", "--processes", "2", "--results", str(results)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = Store(results).records()
    assert (record.status, record.processes, record.run.recipe.batch_size) == ("done", 2, 4)
    assert record.counts is not None
    assert len(record.curve) == 3
    assert 0 <= record.scores["miou"] <= 100
    assert not list(results.rglob("*.lock"))
    assert not list(results.rglob("*.pt"))


@pytest.mark.slow
def test_a_process_that_is_killed_fails_the_run_and_is_named(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[crew.Crew] = []
    enter = crew.Crew.__enter__

    def noted(self: crew.Crew) -> crew.Crew:
        called.append(self)
        return enter(self)

    monkeypatch.setattr(crew.Crew, "__enter__", noted)

    def kill(**_: Any) -> None:
        os.kill(called[0]._others[0].pid, signal.SIGKILL)

    record = worker.work(job(ask(steps=1000)), kill)
    assert (record.status, record.reason) == ("failed", "process 2 of 2 was killed by SIGKILL")
    assert record.processes == 2
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
def test_a_process_says_why_it_fails_and_who_waits_for_it_is_ended(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[crew.Loss] = []
    ended = threading.Event()
    monkeypatch.setattr(crew, "GRACE", 0.0)
    monkeypatch.setattr(crew.os, "_exit", lambda code: ended.set())
    missing = with_(job(ask()), data=str(tmp_path / "missing"))
    with crew.Crew(missing, told.append):  # and waits for a process that will never come
        assert ended.wait(120)
    (loss,) = told
    assert loss.status == "failed"
    assert loss.reason.startswith("process 2 of 2: ")
    assert "missing" in loss.reason


SCRIPT = """
import sys
from pathlib import Path
import msgspec
from petlbench import worker
from petlbench.run import Job

def report(*, epoch, epochs, loss):
    print("step", epoch, flush=True)

sys.exit(worker.do(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job), report))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "kept"),
    [(signal.SIGKILL, -signal.SIGKILL, 0), (signal.SIGTERM, worker.Exit.ENDED, 1)],
    ids=["killed", "asked to end"],
)
def test_the_others_end_with_the_worker(ask: Ask, tmp_path: Path, number: int, code: int, kept: int) -> None:
    file = tmp_path / "job.json"
    file.write_bytes(msgspec.json.encode(job(ask(steps=1000))))
    command = [sys.executable, "-c", SCRIPT, str(file)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"step")
        process.send_signal(number)
        process.stdout.read()  # ends once every process that could write to it is gone
    assert process.returncode == code
    assert not list(Store(tmp_path / "results").records())
    assert len(list((tmp_path / "results").rglob("*.pt"))) == kept


def test_the_command_that_repeats_a_run_says_how_many_processes_it_takes() -> None:
    several, one = (repeat.commands([recorded.record("lora", "day", 50.0, processes=number)]) for number in (2, 1))
    assert "--processes 2" in several[0]
    assert "--processes" not in one[0]
