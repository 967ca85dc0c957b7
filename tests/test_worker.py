"""One run from a job to its record, the honest way and with everything that can go wrong."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace as with_
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from petlbench import measure, worker
from petlbench.folder import Images
from petlbench.plan import Planned, plan
from petlbench.record import Record
from petlbench.request import Request
from petlbench.store import Store
from petlbench.trial import Trial

Do = Callable[..., list[Record]]
RequestFor = Callable[..., Request]


def test_a_record_holds_all_it_takes_to_trust_and_repeat_a_number(do: Do) -> None:
    record = do("vpt(tokens=2)", tasks=("day",))[0]
    assert record.status == "done"
    assert 0 <= record.scores["accuracy"] <= 100
    assert record.run.label == "vpt(tokens=2)"
    assert record.run.fields["tokens"] == 2
    assert record.run.fields["deep"] is True
    assert record.run.recipe.epochs == len(record.curve) == 1
    assert record.counts is not None
    assert record.counts.method_parameters == 6 * 2 * 128
    assert record.counts.head_parameters == 129 * 2
    assert set(record.seconds) == {"build", "data", "fit", "score", "count", "total"}
    assert {"petlbench.methods.vpt", "petlbench.trial", "petlbench_file.tiny"} <= set(record.code)
    assert record.machine.versions["torch"] == torch.__version__
    assert record.machine.versions["numpy"] == np.__version__  # which the file of the suite imports
    assert record.peak_memory_bytes is not None
    assert record.peak_memory_bytes > 50e6


def test_the_same_seed_gives_bit_equal_results(do: Do) -> None:
    first, second = do("bitfit", tasks=("day",)), do("bitfit", tasks=("day",))
    assert [epoch.loss for epoch in first[0].curve] == [epoch.loss for epoch in second[0].curve]
    assert first[0].scores == second[0].scores
    assert do("bitfit", tasks=("day",), seeds=(1,))[0].curve[0].loss != first[0].curve[0].loss


@pytest.mark.slow
def test_two_processes_give_bit_equal_results(request_for: RequestFor, tmp_path: Path) -> None:
    records = []
    for name in ("first", "second"):
        (planned,) = plan(request_for("lora", tasks=("day",), seeds=(1,), results=tmp_path / name))
        job = tmp_path / f"{name}.json"
        job.write_bytes(msgspec.json.encode(planned.job))
        subprocess.run([sys.executable, "-m", "petlbench.worker", str(job)], check=True)
        records.append(Store(tmp_path / name).get(planned.job.run))
    first, second = records
    assert first is not None
    assert second is not None
    assert [epoch.loss for epoch in first.curve] == [epoch.loss for epoch in second.curve]
    assert first.scores == second.scores


@pytest.mark.parametrize(("step", "code", "files"), [("sweep", worker.Exit.ENDED, 0), ("_clear", worker.Exit.DONE, 1)])
def test_sigterm_before_the_first_step_or_behind_the_last_leaves_no_lock(
    request_for: RequestFor, monkeypatch: pytest.MonkeyPatch, step: str, code: worker.Exit, files: int
) -> None:
    (job,) = (each.job for each in plan(request_for("linear", tasks=("day",))))
    monkeypatch.setattr(worker, step, lambda *_: signal.raise_signal(signal.SIGTERM))
    assert worker.do(job) is code
    assert len([path for path in Path(job.results).rglob("*") if path.is_file()]) == files


def test_nothing_but_the_final_score_reads_a_test_image(
    request_for: RequestFor, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = (each.job for each in plan(request_for("full", tasks=("day",))))
    test_images = sorted((data / "day/images/test").iterdir())
    hidden = {path: path.read_bytes() for path in test_images}
    for path in test_images:
        path.write_bytes(b"unreadable until the network is trained")

    def uncover(trial: Trial, split: Images) -> object:
        assert len(trial.curve) == trial.recipe.total_epochs  # training is over
        for path, content in hidden.items():
            path.write_bytes(content)
        return outputs(trial, split)

    outputs = Trial.outputs
    monkeypatch.setattr(Trial, "outputs", uncover)
    record = worker.work(job)
    assert record.status == "done", record.reason


def _image_truncated(data: Path) -> None:
    path = data / "day/images/train800/000003.png"
    path.write_bytes(path.read_bytes()[:50])


def _image_changed(data: Path) -> None:
    Image.new("RGB", (8, 8), (1, 2, 3)).save(data / "day/images/test/000000.png")


def _list_damaged(data: Path) -> None:
    (data / "day/test.txt").write_text("images/test/000000.png 7\n")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_image_truncated, "000003.png: not a readable image"),
        (_image_changed, "day: the data differ from their fingerprint.json; delete that file if the change was meant"),
        (_list_damaged, "test.txt:1: label 7 is outside 0..1"),
    ],
)
def test_data_that_change_under_a_plan_make_a_failed_record(
    request_for: RequestFor, data: Path, damage: Callable[[Path], None], said: str
) -> None:
    planned = plan(request_for("linear", tasks=("day", "night")))
    damage(data)
    first, second = (worker.work(each.job) for each in planned)
    assert first.status == "failed"
    assert said in first.reason
    assert first.scores == {}
    assert second.status == "done"  # the others go on


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("something broke\nwith details"), "failed"),
        (MemoryError(), "oom"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), "oom"),
    ],
)
def test_an_error_becomes_a_record_with_its_reason_in_one_line(
    request_for: RequestFor,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: Exception,
    status: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(measure, "count", fail)
    (planned,) = plan(request_for("linear", tasks=("day",)))
    record = worker.work(planned.job)
    assert record.status == status
    assert type(error).__name__ in record.reason
    assert "\n" not in record.reason
    assert "Traceback" in capfd.readouterr().err  # the log has the details
    assert Store(Path(planned.job.results)).get(planned.job.run) == record


def test_a_worker_that_died_is_recorded_in_its_stead(request_for: RequestFor) -> None:
    (planned,) = plan(request_for("linear", tasks=("day",)))
    record = worker.lost(planned.job, "the worker was killed by SIGKILL", "logs/x.log")
    assert record is not None
    assert (record.status, record.reason, record.log) == ("failed", "the worker was killed by SIGKILL", "logs/x.log")
    (again,) = plan(request_for("linear", tasks=("day",)))
    assert again.state == "failed"


def test_the_worker_is_a_command_for_any_engine(request_for: RequestFor, tmp_path: Path) -> None:
    (planned,) = plan(request_for("linear", tasks=("day",)))
    job = tmp_path / "job.json"
    job.write_bytes(msgspec.json.encode(planned.job))
    subprocess.run([sys.executable, "-m", "petlbench.worker", str(job)], check=True, cwd="/")
    record = Store(Path(planned.job.results)).get(planned.job.run)
    assert record is not None
    assert record.status == "done"


@pytest.mark.parametrize("content", ["", "{}", '{"run": 3}'])
def test_a_worker_without_a_job_says_so(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    job = tmp_path / "job.json"
    job.write_text(content)
    assert worker.main([str(job)]) == 2
    assert "needs the file of a job" in capsys.readouterr().err


def test_the_weights_of_a_checkpoint_change_the_identity_of_a_run(request_for: RequestFor, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from petlbench import backbone

    def planned(seed: int) -> Planned:
        torch.manual_seed(seed)
        file = tmp_path / "my weights.safetensors"
        save_file(dict(backbone.build("mini").model.state_dict()), file)
        return plan(request_for("linear", tasks=("day",), weights=str(file)))[0]

    first, second = planned(0), planned(1)
    assert first.job.run.key != second.job.run.key
    assert first.job.run.backbone.weights == "my weights.safetensors"
    assert worker.work(second.job).status == "done"


def test_a_record_is_plain_json(do: Do, tmp_path: Path) -> None:
    record = do(tasks=("day",))[0]
    content = json.loads((tmp_path / "results" / record.run.path).read_text())
    assert content["run"]["task"] == "day"
    assert content["format"] == 1
    assert with_(record) == msgspec.convert(content, Record)
