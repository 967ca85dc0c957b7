"""The command line as a person meets it: what it offers, what it prints, and one line for every mistake."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from petlbench import cli, zoo
from petlbench.request import Request
from petlbench.store import Store

TINY = str(Path(__file__).parent / "tiny.py")
RequestFor = Callable[..., Request]

REQUEST = "methods suite tasks data-root backbone weights image-size device threads seeds protocol trials "
REQUEST += "normalization resize interpolation recipe results save-weights processes"
OPTIONS = {
    "run": f"{REQUEST} jobs time-limit memory-limit rerun no-cost engine bundle slurm detach address",
    "plan": f"{REQUEST} jobs budget json",
    "status": "watch json results",
    "why": "results",
    "logs": "follow results",
    "merge": "prefer results",
    "table": "results suite tasks methods metric format cost columns sort caption label ties delta digits head ppt "
    "with out mix-data",
    "report": "results suite tasks methods metric with out mix-data serve port",
    "cite": "results suite tasks methods with out",
    "compare": "results suite tasks methods metric reference format mix-data",
    "figure": "results suite tasks methods metric kind x columns out mix-data",
    "export": "out fold weights files results",
    "cost": "methods backbone weights device threads suite tasks batch-size precision no-time format results",
    "list": "methods results format",
    "show": "backbone",
    "data": "",
    "data list": "data-root",
    "data verify": "data-root tasks",
    "data prepare": "from data-root tasks format tfds-dir",
    "data show": "data-root split images out",
    "data make": "out",
    "data suite": "out",
    "bench": "",
    "bench data": "images source size workers repeats",
    "bench overhead": "backbone device batch-size steps epochs turns",
    "check": "",
    "pretrain": "objective backbone teacher images batch-size lr seed device threads out precision resume",
}


def commands(parser: argparse.ArgumentParser | None = None, above: str = "") -> dict[str, argparse.ArgumentParser]:
    """Every command by its name, and those below it by theirs: "data verify"."""
    found = {}
    for action in (parser or cli.parser())._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                found |= {f"{above}{name}": each, **commands(each, f"{above}{name} ")}
    return found


def test_the_commands_are_these() -> None:
    assert set(commands()) == set(OPTIONS)


@pytest.mark.parametrize("command", OPTIONS)
def test_the_options_are_these_and_each_is_explained(command: str) -> None:
    """An option is a promise: adding one is a decision, so it is written down here."""
    actions = [action for action in commands()[command]._actions if action.option_strings and action.dest != "help"]
    assert {action.option_strings[-1][2:] for action in actions} == set(OPTIONS[command].split())
    assert all(action.help or action.choices for action in actions)


def petlbench(*arguments: str, cwd: Path, code: int = 0) -> str:
    """Run the command as a user does and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "petlbench", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def tiny_options(data: Path) -> list[str]:
    return ["--suite", TINY, "--data-root", str(data), "--weights", "random", "--recipe", "epochs=1,batch_size=8"]


@pytest.mark.slow
def test_from_nothing_to_a_table(tiny_options: list[str], tmp_path: Path) -> None:
    run = ["run", "--methods", "linear,vpt(tokens=2)", *tiny_options]
    first = petlbench(*run, cwd=tmp_path)
    assert "10 done, 0 failed" in first  # two methods on four tasks, and two costs
    assert "tiny/day vpt(tokens=2) seed 0  accuracy" in first
    again = petlbench(*run, cwd=tmp_path)
    assert "8 of 8 runs are done already" in again
    plan = petlbench("plan", *run[1:], "--seeds", "0,1", cwd=tmp_path)
    assert "16 runs: 8 done, 8 new" in plan
    table = petlbench("table", "--suite", TINY, "--format", "markdown", cwd=tmp_path)
    assert "vpt(tokens=2)" in table
    assert "natural" in table
    costs = petlbench("table", "--cost", "--format", "csv", cwd=tmp_path)
    assert "vpt(tokens=2)" in costs
    redone = petlbench(*run, "--rerun", "all", "--no-cost", cwd=tmp_path)
    assert "8 done, 0 failed" in redone


@pytest.mark.slow
def test_a_search_runs_in_two_waves_and_goes_on_where_it_stopped(tiny_options: list[str], tmp_path: Path) -> None:
    options = ["--methods", "linear", "--tasks", "day", *tiny_options, "--protocol", "tuned", "--trials", "3"]
    plan = petlbench("plan", *options, cwd=tmp_path)
    assert "6 runs: 3 new, 3 waiting" in plan
    assert plan.count("after 3 trials") == 3
    run = petlbench("run", *options, "--seeds", "0", "--no-cost", cwd=tmp_path)
    assert run.count("tiny/day linear trial lr=") == 3
    assert "1 done, 0 failed" in run
    again = petlbench("run", *options, "--no-cost", cwd=tmp_path)  # with the three seeds of the default
    assert "3 of 3 trials are done already" in again
    assert "2 done, 0 failed" in again
    table = petlbench("table", "--suite", TINY, "--tasks", "day", cwd=tmp_path)
    assert "up to 3 trials per method and task" in table
    assert "3 runs." in table


@pytest.mark.slow
def test_a_failed_run_ends_the_command_with_code_1_and_is_tried_again(
    tiny_options: list[str], data: Path, tmp_path: Path
) -> None:
    command = ["run", "--methods", "linear", "--tasks", "day,night", "--no-cost", *tiny_options]
    petlbench("plan", *command[1:3], *tiny_options, cwd=tmp_path)  # takes the fingerprints
    image = data / "day/images/train800/000000.png"
    content = image.read_bytes()
    image.write_bytes(content[:40])
    broken = petlbench(*command, cwd=tmp_path, code=1)
    assert "000000.png: not a readable image" in broken
    assert "1 done, 1 failed" in broken
    image.write_bytes(content)
    assert "1 done, 0 failed" in petlbench(*command, cwd=tmp_path)
    assert [record.status for record in Store(tmp_path / "results").records()] == ["done", "done"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--methods", "hts", "--suite", "mini"], "unknown method 'hts': did you mean hst?"),
        (["run", "--methods", "hst", "--suite", "vtap"], "unknown suite 'vtap': did you mean vtab?"),
        (
            ["run", "--methods", "hst", "--suite", "mini", "--tasks", "digit"],
            "unknown task 'digit': did you mean digits?",
        ),
        (
            ["run", "--methods", "vpt(token=3)", "--suite", "mini"],
            "method vpt has no field 'token': did you mean tokens?",
        ),
        (["run", "--methods", "vpt(tokens=", "--suite", "mini"], "cannot read 'vpt(tokens='"),
        (["run", "--methods", "hst", "--suite", "vtab"], "its images do not come with petlbench, say where they are"),
        (["run", "--methods", "hst", "--suite", "mini", "--backbone", "vit"], "unknown backbone 'vit'"),
        (["run", "--methods", "hst", "--suite", "mini", "--seeds", "a"], "--seeds a: expected whole numbers"),
        (["run", "--methods", "hst", "--suite", "mini", "--jobs", "0"], "--jobs 0: expected at least 1"),
        (["run", "--methods", "hst", "--suite", "mini", "--time-limit", "2"], "--time-limit 2: expected a number and"),
        (
            ["run", "--methods", "hst", "--suite", "mini", "--memory-limit", "0G"],
            "--memory-limit 0G: expected a number",
        ),
        (
            ["run", "--methods", "hst", "--suite", "mini", "--memory-limit", "100M"],
            "--memory-limit 100M: expected at least 1G",
        ),
        (["run", "--methods", "hst", "--suite", "mini", "--detach"], "--detach: only with --engine slurm"),
        (["run", "--methods", "hst", "--suite", "mini", "--bundle", "5"], "--bundle: only with --engine slurm or ray"),
        (
            ["run", "--methods", "hst", "--suite", "mini", "--engine", "slurm", "--address", "x:1"],
            "--address: only with --engine ray",
        ),
        (
            ["run", "--methods", "hst", "--suite", "mini", "--engine", "slurm", "--bundle", "-1"],
            "--bundle -1: expected minutes, more than 0",
        ),
        (
            ["run", "--methods", "hst", "--suite", "mini", "--engine", "ray", "--device", "cuda:1"],
            "--device cuda:1: valid: cpu, cuda",
        ),
        (["plan", "--methods", "hst", "--suite", "mini", "--jobs", "0"], "--jobs 0: expected at least 1"),
        (
            ["plan", "--methods", "hst", "--suite", "mini", "--budget", "20"],
            "--budget 20: expected a number and s, m, h",
        ),
        (
            ["plan", "--methods", "hst", "--suite", "mini", "--budget", "0h"],
            "--budget 0h: expected a number and s, m, h",
        ),
        (["run", "--methods", "hst", "--suite", "mini", "--trials", "3"], "--trials 3: nothing is searched under"),
        (
            ["plan", "--methods", "hst", "--suite", "mini", "--protocol", "tuned", "--trials", "0"],
            "--trials 0: expected at least 1",
        ),
        (
            ["plan", "--methods", "hst", "--suite", "mini", "--protocol", "paper"],
            "--protocol paper: hst has no published settings for mini/",
        ),
        (["run", "--methods", "hst", "--suite", "mini", "--threads", "0"], "--threads 0: expected 1 to"),
        (["run", "--methods", "hst", "--suite", "mini", "--image-size", "0"], "--image-size 0: expected at least 1"),
        (["run", "--methods", "hst", "--suite", "mini", "--device", "tpu"], "--device tpu: valid: cpu"),
        (
            ["run", "--methods", "hst", "--suite", "mini", "--results", "/proc/x"],
            "--results /proc/x: cannot be written",
        ),
        *[
            (["plan", "--methods", "hst", "--suite", "mini", option, value], said)
            for option, value, said in [
                ("--tasks", "", "--tasks '': is empty; write names"),
                ("--seeds", "", "--seeds '': expected whole numbers"),
                ("--recipe", "", "--recipe '': is empty; write field=value"),
                ("--weights", "", "--weights '': is empty; valid: a file, 'random', 'pretrained'"),
                ("--weights", "words.txt", "--weights words.txt: cannot be read: UnpicklingError"),
                ("--backbone", "", "--backbone '': expected one name, found 0"),
                ("--backbone", "mini,hst", "--backbone 'mini,hst': expected one name, found 2"),
                ("--backbone", "mini(depth=0)", "not weights of this backbone"),
                ("--results", "words.txt", "--results words.txt: is a file, expected a folder"),
                ("--recipe", "lr=1e400", "--recipe: lr=inf is not valid: expected a finite number"),
                ("--recipe", "lr=-1", "--recipe lr=-1.0: must be above 0"),
                ("--recipe", "weight_decay=-5", "--recipe weight_decay=-5.0: must not be negative"),
                ("--recipe", "momentum=9", "--recipe momentum=9.0: must be at least 0 and below 1"),
                ("--recipe", "clip_norm=-1", "--recipe clip_norm=-1.0: must be above 0, or None"),
                ("--recipe", "epochs=2,warmup_epochs=9", "--recipe warmup_epochs=9: must not exceed epochs=2"),
                ("--recipe", "steps=10", "--recipe steps: for dense suites only"),
                ("--recipe", "accumulate=2", "--recipe accumulate=2: method hst has BatchNorm"),
            ]
        ],
        (["plan", "--methods", "./lora.py", "--suite", "mini"], "lora is a method of the zoo too; rename the file"),
        (["table", "--results", "nowhere"], "nowhere"),
        (
            ["export", "results/linear-s0-abc.json", "--out", "o", "--results", "there"],
            "lies outside of --results there",
        ),
        (["cost", "--methods", "hst", "--batch-size", "0"], "--batch-size 0: expected at least 1"),
        (["check", "nothing.py"], "method 'nothing.py': no such file"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.txt").write_text("no weights")
    Path("results").mkdir()
    Path("results/linear-s0-abc.json").write_text("{}")
    Path("lora.py").write_bytes(Path(str(sys.modules[zoo.method("lora").__module__].__file__)).read_bytes())
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("petlbench: ")
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_the_contract_is_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "lora(rank=2)"]) == 0
    assert "every promise kept" in capsys.readouterr().out
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom petlbench import Method\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Mine(Method):\n"
        "    def attach(self, vit):\n        return None\n"
    )
    assert cli.main(["check", str(tmp_path / "mine.py")]) == 1
    assert "FAILED  gives one vector per image" in capsys.readouterr().out


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "petlbench", "list"], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert b"Traceback" not in done.stderr


def test_all_methods_are_those_that_can_be_built_into_the_backbone() -> None:
    from petlbench.commands import options

    on_vit = {each.name for each in options.methods("all", "mini")}
    on_swin = {each.name for each in options.methods("all", "swin_tiny_patch4_window7_224")}
    assert on_vit == set(zoo.methods())
    assert {"lora", "full"} <= on_swin < on_vit
    assert "hst" not in on_swin


def test_the_list_of_methods_says_what_each_is_and_how_many_weights_it_trains(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["list", "--methods"]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert set(zoo.methods()) <= set(lines)
    assert lines["lora"][1:9] == ["reparameterization", "Hu", "2022", "ViT,", "Swin", "yes", "294,912", "0.29"]
    assert lines["hst"][1:6] == ["side", "Lin", "2023", "ViT", "764,840"]
    assert lines["linear"][1:5] == ["reference", "ViT,", "Swin", "0"]
