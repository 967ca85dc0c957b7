"""Kills workers and drivers at random moments and counts what is lost: python tests/kills.py --kills 100 --folder DIR

One life: `petlbench run` is started on tiny runs, some of its workers are killed with -9 in the middle of their runs,
and then the driver, or all processes at once. Then the same command is started again, over one results folder. In the
end it is left to finish, and must have every run done once. Prints the statistics as JSON; exit code 1 if anything was
lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import tiny

METHODS = "linear,full,lora,bitfit,vpt,adaptformer"
COMMAND = """
import signal, sys
from petlbench.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores Ctrl-C
sys.argv[0] = "petlbench"
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@dataclass
class Statistics:
    """What was done to the store, and what became of it."""

    lives: int = 0
    """How often the driver was started, the last time included, when it was left to finish."""
    workers: int = 0
    """Workers killed alone, in the middle of a run."""
    drivers: int = 0
    """Drivers killed alone; their workers have to end by themselves."""
    everything: int = 0
    """Times that all processes were killed at once."""
    orphans: int = 0
    """Processes that were left after their driver had been killed."""
    lost: int = 0
    """Finished records that were gone later."""
    doubled: int = 0
    """Finished runs that were done again."""
    broken: int = 0
    """Records that could not be read, at any moment."""
    records: int = 0
    """Runs in the store at the end, all done."""
    missing: int = 0
    """Runs that were asked for and are not done at the end."""
    leftovers: list[str] = field(default_factory=list)
    """Files at the end that are no records: locks, halves, logs."""

    @property
    def kills(self) -> int:
        return self.workers + self.drivers + self.everything

    @property
    def is_clean(self) -> bool:
        return not (self.orphans or self.lost or self.doubled or self.broken or self.missing or self.leftovers)


def torment(folder: Path, kills: int, seed: int = 0) -> Statistics:
    """Kill so often, then let the command finish.

    With the same seed, the same things are killed after the same times; what they do then depends on the machine.
    """
    moments, found, seen = random.Random(seed), Statistics(), dict[Path, bytes]()
    data, results, seeds = tiny.write(folder / "data"), folder / "results", 1
    while found.kills < kills:
        process = start(folder, results, data, seeds)
        found.lives += 1
        for _ in range(moments.choice((2, 4, 8))):
            if not wait_until(lambda driver=process: driver.poll() is not None or bool(at_work(results))):
                raise TimeoutError("no worker has begun")
            time.sleep(moments.uniform(0, 1.5))
            if kill_a_worker(results, moments):
                found.workers += 1
            look(results, seen, found)
        time.sleep(moments.uniform(0, 1.5))
        if process.poll() is None:
            if moments.random() < 0.5:
                process.kill()
                found.drivers += 1
            else:
                os.killpg(process.pid, signal.SIGKILL)
                found.everything += 1
        process.wait()
        if not wait_until(lambda session=process.pid: not processes(session)):
            found.orphans += len(processes(process.pid))
        look(results, seen, found)
        if len(seen) == 24 * seeds:
            seeds += 1  # more to do
    process = start(folder, results, data, seeds)
    found.lives += 1
    code = process.wait()
    look(results, seen, found)
    found.records = len(seen)
    found.missing = 24 * seeds - len(seen) + (code != 0)
    found.leftovers = [
        str(path.relative_to(results))
        for path in sorted(results.rglob("*"))
        if path.is_file() and path not in seen and path.parent.name != "plans"
    ]
    return found


def start(folder: Path, results: Path, data: Path, seeds: int = 1, methods: str = METHODS) -> Process:
    """Start `petlbench run` as a user does, in a session of its own; what it prints is added to output.txt."""
    script = folder / "petlbench_cli.py"
    script.write_text(COMMAND)
    arguments = ["run", "--methods", methods, "--suite", tiny.__file__, "--data-root", str(data)]
    arguments += ["--weights", "random", "--results", str(results), "--no-cost", "--recipe", "epochs=12,batch_size=4"]
    arguments += ["--seeds", ",".join(map(str, range(seeds))), "--jobs", "2"]
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, str(script), *arguments], start_new_session=True, stdout=output, stderr=output
        )


Process = subprocess.Popen[bytes]


def at_work(results: Path) -> list[int]:
    """The processes of the workers that are in the middle of a run, as their locks tell."""
    found = []
    for path in results.glob("*/*/*.lock*"):
        try:
            pid = json.loads(path.read_bytes())["pid"]
            os.kill(pid, 0)
        except (OSError, ValueError):  # let go, or dead
            continue
        found.append(pid)
    return found


def kill_a_worker(results: Path, moments: random.Random) -> bool:
    for pid in at_work(results)[: moments.choice((1, 2))][-1:]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True
    return False


def look(results: Path, seen: dict[Path, bytes], found: Statistics) -> None:
    """Compare the finished records with those that were there the last time."""
    now = {}
    for path in results.glob("tiny/*/*.json"):
        content = path.read_bytes()
        try:
            if json.loads(content)["status"] == "done":
                now[path] = content
        except ValueError:
            found.broken += 1
    found.lost += sum(path not in now for path in seen)
    found.doubled += sum(path in now and now[path] != content for path, content in seen.items())
    seen |= now


def processes(session: int) -> list[int]:
    """Processes of a session that are alive (Linux)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def wait_until(true: Callable[[], bool], seconds: float = 300) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="is emptied first")
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    found = torment(options.folder, options.kills, options.seed)
    print(json.dumps({"kills": found.kills, **asdict(found)}, indent=1))
    return 0 if found.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
