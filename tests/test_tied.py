"""What an engine has started elsewhere ends with those who have started it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from queued import lives
from slurm_cluster import wait_until

CHILD = """
import os, time
from pathlib import Path
from petlbench.engines import tied
tied.end_with_parent()
Path("child").write_text(str(os.getpid()))
while True:
    time.sleep(0.1)
"""
MIDDLE = """
import os
from pathlib import Path
from petlbench.engines import tied
Path("middle").write_text(str(os.getpid()))
tied.call("child_module", [], "log")
"""
OUTER = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {MIDDLE!r}])"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc (Linux)")
@pytest.mark.parametrize("victim", ["the one that started it", "the one before that"])
def test_a_tied_process_ends_however_those_end_who_have_started_it(tmp_path: Path, victim: str) -> None:
    (tmp_path / "child_module.py").write_text(CHILD)
    with subprocess.Popen(
        [sys.executable, "-c", OUTER], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}
    ) as outer:
        wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text(), "it has not begun")
        child, middle = (int((tmp_path / name).read_text()) for name in ("child", "middle"))
        os.kill(middle if victim == "the one that started it" else outer.pid, signal.SIGKILL)
        wait_until(lambda: not lives(child), "it goes on")
        wait_until(lambda: not lives(middle), "the one that started it goes on")
