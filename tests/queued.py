"""What the tests of engines that run elsewhere share: a method that waits, and a display that remembers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from petlbench.plan import Planned, plan
from petlbench.request import Request
from petlbench.store import Store

RequestFor = Callable[..., Request]

WAITS = '''"""Linear probing that begins when it is told to."""
import os, time
from dataclasses import dataclass
from pathlib import Path
from petlbench import Encoder, Method, Trial, ViT

@dataclass(frozen=True, kw_only=True)
class Waits(Method):
    """Says which process it is in `begun`, once per try, and waits for the file `go`."""
    folder: str
    def attach(self, vit: ViT) -> Encoder:
        return vit
    def fit(self, trial: Trial) -> None:
        with Path(self.folder, "begun").open("a") as file:
            file.write(f"{os.getpid()}\\n")
        while not Path(self.folder, "go").exists():
            time.sleep(0.05)
        trial.fit()
'''


class Bench:
    """Runs on the tiny suite, in a folder whose name has a space, a percent sign and an umlaut."""

    def __init__(self, request_for: RequestFor, folder: Path) -> None:
        self.request_for, self.folder = request_for, folder / "tür 50% offen"
        self.folder.mkdir()
        (self.folder / "waits.py").write_text(WAITS)
        self.results = self.folder / "results"
        self.waits = f"{self.folder}/waits.py(folder={str(self.folder)!r})"
        self.said: list[str] = []

    def plan(self, methods: str, **options: Any) -> list[Planned]:
        return plan(self.request_for(methods, results=self.results, **{"tasks": ("day",)} | options))

    def command(self, methods: str, *options: str) -> list[str]:
        """The arguments of `petlbench run` for the same runs."""
        request = self.request_for()
        arguments = ["run", "--methods", methods, "--suite", request.suite, "--data-root", str(request.data_root)]
        arguments += ["--tasks", "day", "--weights", "random", "--recipe", "epochs=1,batch_size=8"]
        return [*arguments, "--results", str(self.results), *options]

    def go(self) -> None:
        (self.folder / "go").touch()

    def begun(self) -> list[int]:
        """The process of every try of the method that waits."""
        try:
            return [int(line) for line in (self.folder / "begun").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def statuses(self) -> list[str]:
        return sorted(record.status for record in Store(self.results).records())

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.results.glob("tiny/*/*.json")}

    def left(self) -> list[Path]:
        """What is there besides records: logs are kept for runs that failed, submissions until they are over."""
        return [file for name in ("logs", "submitted") for file in (self.results / name).iterdir()]


class Display:
    """Remembers how far each run was, and how it ended."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.steps: list[tuple[str, int, int, float | None]] = []
        self.results: list[str] = []

    def start(self, work: object) -> None:
        self.started.append(str(work))

    def wait(self, work: object, why: str) -> None: ...

    def step(self, work: object, *, epoch: int, epochs: int, loss: float | None) -> None:
        assert str(work) in self.started
        self.steps.append((str(work), epoch, epochs, loss))

    def finish(self, work: object, result: object, seconds: float) -> None:
        assert str(work) in self.started
        self.results.append(getattr(result, "status", "no record"))


def todo(planned: list[Planned]) -> list[Planned]:
    """What `petlbench run` would do of a plan."""
    return [each for each in planned if each.state in ("new", "failed")]


def parent(process: int) -> int:
    """The process that has started another one."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
