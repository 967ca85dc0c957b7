"""What petlbench never does: unpickle, evaluate text, unpack archives, listen unless asked, import what a file names,
write where a file says."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import replace as with_
from pathlib import Path

import msgspec
import pytest
import recorded

from petlbench import cli, provenance
from petlbench.errors import InputError
from petlbench.record import Record
from petlbench.repeat import commands
from petlbench.store import Store

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("petlbench", "methods", "benchmarks") for path in (ROOT / folder).rglob("*.py"))

CALLS_CODE = {"eval", "exec", "compile", "__import__"}
UNPICKLES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "joblib",
    "yaml",
    "pandas.read_pickle",
}
UNPACKS = {"zipfile", "tarfile", "shutil.unpack_archive"}
LISTENS = {"socket", "socketserver", "http.server", "asyncio", "xmlrpc"}
SERVES = "petlbench/commands/report.py"
"""The one file that may listen, and only with --serve."""


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call by the text of what is called: ("torch.load", ...)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offences(text: str) -> list[str]:
    """What a source does that it must not, one entry for each."""
    tree, found = ast.parse(text), []
    for name, call in calls(tree):
        options = {each.arg: ast.unparse(each.value) for each in call.keywords}
        if name in CALLS_CODE:
            found.append(f"{name}()")
        if name == "torch.load" and options.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if name in ("np.load", "numpy.load") and options.get("allow_pickle") != "False":
            found.append(f"{name} without allow_pickle=False")
        if name.endswith(("read_pickle", "unpack_archive", "extractall")) or options.get("shell") == "True":
            found.append(name)
        if name == "os.system" or name.endswith("hub.load") or options.get("trust_remote_code") == "True":
            found.append(name)
    for name in imported(tree):
        if {name, name.partition(".")[0]} & (UNPICKLES | UNPACKS):
            found.append(f"imports {name}")
    return found


@pytest.mark.parametrize("file", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_unpickles_evaluates_or_unpacks_anything(file: Path) -> None:
    assert offences(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    ["import pickle", "from pickle import loads", "import yaml", "import tarfile", "eval('1')", "exec(text)",
     "torch.load(path)", "torch.load(path, weights_only=False)", "np.load(path)", "np.load(path, allow_pickle=True)",
     "pd.read_pickle(path)", "shutil.unpack_archive(path)", "subprocess.run(text, shell=True)", "torch.hub.load('x')"],
)  # fmt: skip
def test_the_walk_would_see_it(text: str) -> None:
    assert offences(text) != []


def test_nothing_listens_but_the_report_when_it_is_served_and_that_on_this_machine_only() -> None:
    trees = {file.relative_to(ROOT).as_posix(): ast.parse(file.read_text(encoding="utf-8")) for file in SOURCES}
    listening = {name for name, tree in trees.items() if {*imported(tree)} & LISTENS}
    # A lock asks for the name of the machine, and --engine ray whether somebody answers at the address it was given.
    assert listening <= {SERVES, "petlbench/lock.py", "petlbench/engines/ray.py"}
    waits = ("bind", "listen", "accept", "create_server", "start_server")
    called = {(name, call) for name, tree in trees.items() for call, _ in calls(tree)}
    assert [
        each for each in called if each[1].rpartition(".")[2] in waits
    ] == []  # the report's server is http.server's
    from petlbench.commands import report

    assert report.ADDRESS in ("127.0.0.1", "localhost")
    servers = [call for name, call in calls(ast.parse((ROOT / SERVES).read_text())) if name.endswith("Server")]
    assert [ast.unparse(call.args[0]) for call in servers] == ["(ADDRESS, port)"]


@pytest.fixture
def trapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A results folder whose record names a method and a suite by the path of a file that leaves a mark when it is
    imported."""
    monkeypatch.chdir(tmp_path)
    Path("trap.py").write_text("open('sprung', 'w')")
    honest = recorded.record("lora", "day", 80)
    hostile = with_(honest, run=with_(honest.run, method="./trap.py", suite="./trap.py", label="./trap.py"))
    (tmp_path / "results/x/y").mkdir(parents=True)
    from petlbench import store

    (tmp_path / "results/x/y/day-s0-000000000000.json").write_bytes(store._encode(hostile))
    yield tmp_path / "results"
    assert not Path("sprung").exists()


@pytest.mark.parametrize(
    "read",
    [
        lambda record, results: provenance.changed(record),
        lambda record, results: commands([record]),
        lambda record, results: cli.main(["table", "--results", str(results)]),
        lambda record, results: cli.main(["report", "--results", str(results), "--out", "page.html"]),
        lambda record, results: cli.main(["compare", "--results", str(results)]),
        lambda record, results: cli.main(["cite", "--results", str(results)]),
        lambda record, results: cli.main(["export", "000000000000", "--results", str(results), "--out", "out"]),
        lambda record, results: cli.main(["plan", "--methods", "lora", "--suite", "mini", "--results", str(results)]),
    ],
    ids=["provenance", "repeat", "table", "report", "compare", "cite", "export", "plan"],
)
def test_a_method_that_a_record_names_by_its_path_is_never_imported(
    trapped: Path, read: Callable[[object, Path], object]
) -> None:
    (file,) = trapped.glob("*/*/*.json")
    read(msgspec.json.decode(file.read_bytes(), type=Record), trapped)
    with pytest.raises(InputError, match=r"000000000000\.json: .* these are no names but paths"):
        list(Store(trapped).records())


LEADING_OUT = ["../../evil", "a/../../../evil", "a\\b", "evil\0"]
FOLDERS_ONLY = ["..", ".", ""]  # in the name of a file, more stands around the task


@pytest.mark.parametrize(
    ("field", "name"),
    [
        *((field, name) for field in ("method", "suite") for name in LEADING_OUT + FOLDERS_ONLY),
        *(("task", name) for name in LEADING_OUT),
    ],
)
def test_a_record_is_never_written_outside_of_its_folder(field: str, name: str, tmp_path: Path) -> None:
    """Its path is made of fields of the run, and a record may come from anybody."""
    honest = recorded.record("lora", "day", 80)
    hostile = with_(honest, run=with_(honest.run, **{field: name}))
    with pytest.raises(InputError, match="these are no names but paths"):
        Store(tmp_path / "deep/er/results").put(hostile)
    assert list(tmp_path.rglob("*.json")) == []
