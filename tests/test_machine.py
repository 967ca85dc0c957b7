"""The machine: what a record says about where it was measured, and what it never says."""

import os
import subprocess
from pathlib import Path

import msgspec
import pytest
import torch

import petlbench.machine
from petlbench.machine import Machine, git_state, machine, short_name


@pytest.mark.parametrize(
    ("model", "short"),
    [
        ("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", "Intel-Xeon-Platinum-8375C"),
        ("AMD EPYC 7763 64-Core Processor", "AMD-EPYC-7763"),
        ("AMD Ryzen Threadripper PRO 5995WX 64-Cores", "AMD-Ryzen-Threadripper-PRO-5995WX"),
        ("Apple M2 Pro", "Apple-M2-Pro"),
        ("NVIDIA H200", "NVIDIA-H200"),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA-A100-SXM4-80GB"),
        ("../ /", "unknown"),
    ],
)
def test_a_model_becomes_a_short_name_fit_for_a_folder(model: str, short: str) -> None:
    assert short_name(model) == short


def test_a_cpu_is_tagged_with_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("petlbench.machine._cpu", lambda: "AMD EPYC 7763 64-Core Processor")
    monkeypatch.setattr("petlbench.machine._cores", lambda: 16)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert machine.__wrapped__().tag == "AMD-EPYC-7763-16c"


def test_a_gpu_gives_its_name_unless_the_cpu_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda index: "NVIDIA H200")
    assert machine.__wrapped__().gpus == ("NVIDIA H200", "NVIDIA H200")
    assert machine.__wrapped__().tag == machine.__wrapped__("cuda:1").tag == "NVIDIA-H200"
    assert machine.__wrapped__("cpu").tag.endswith("c")


def test_software_is_named_with_its_versions() -> None:
    assert list(machine().versions) == ["python", "torch", "timm", "petlbench"]
    assert machine().versions["torch"] == torch.__version__
    assert machine().memory_bytes > 2**28
    assert machine().cores >= 1


def test_host_user_and_paths_stay_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "secret-host")
    for name in ("HOME", "USER", "LOGNAME", "HOSTNAME"):
        monkeypatch.setenv(name, "/home/secret")
    text = msgspec.json.encode(machine.__wrapped__()).decode()
    assert "secret" not in text
    assert str(Path(petlbench.machine.__file__).parents[1]) not in text


def test_a_machine_survives_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(machine()), type=Machine) == machine()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit of one method."""
    method = tmp_path / "methods" / "mine.py"
    method.parent.mkdir()
    method.write_text("rank = 8\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--no-verify", "-m", "one")
    return tmp_path


def test_a_clean_checkout_gives_its_commit(checkout: Path) -> None:
    commit, dirty = git_state(checkout)
    assert commit == git(checkout, "rev-parse", "HEAD").strip()
    assert len(commit) == 40
    assert dirty is False


def test_a_changed_or_new_method_makes_the_checkout_dirty(checkout: Path) -> None:
    (checkout / "methods" / "new.py").write_text("rank = 4\n")
    assert git_state(checkout)[1] is True


def test_results_do_not_make_the_checkout_dirty(checkout: Path) -> None:
    (checkout / "results").mkdir()
    (checkout / "results" / "run.json").write_text("{}")
    assert git_state(checkout)[1] is False


def test_an_installation_inside_somebody_elses_repository_has_no_commit(checkout: Path) -> None:
    installed = checkout / ".venv" / "site-packages"
    installed.mkdir(parents=True)
    assert git_state(installed) == (None, None)


def test_a_repository_without_a_commit_has_no_state(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert git_state(tmp_path) == (None, None)


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_state(checkout) == (None, None)


def git(folder: Path, *arguments: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], env=clean, check=True, capture_output=True, text=True
    ).stdout
