"""Whatever comes: a value, or one line that says what is wrong. Never another exception, and nothing else is touched.

Each reader meets inputs of three kinds: noise, what is nearly right, and a right file with a few bytes changed. By
default some dozens a reader; with HYPOTHESIS_PROFILE=many, thousands (FUZZ_EXAMPLES).
"""

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded import record
from safetensors.torch import save

from petlbench import backbone, contract, folder, glance, kept, layouts, spec, worker
from petlbench.errors import InputError
from petlbench.export import export, restore
from petlbench.plan import plan
from petlbench.request import Request
from petlbench.store import Store

TINY = str(Path(__file__).parent / "tiny.py")

COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}
settings.register_profile("default", max_examples=40, database=None, **COMMON)
settings.register_profile("many", max_examples=int(os.environ.get("FUZZ_EXAMPLES", "20000")), **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

TRIED: dict[str, list[int]] = {}
"""By reader: how many inputs it met, and how many of them it could read."""


@pytest.fixture(scope="module", autouse=True)
def counted(request: pytest.FixtureRequest) -> Any:
    """Say at the end how many inputs were tried, where many were."""
    yield
    if os.environ.get("HYPOTHESIS_PROFILE") == "many":
        for name, (tried, read) in TRIED.items():
            print(f"\nfuzz {name}: {tried} inputs, {read} of them readable", end="")


def survives(name: str, read: Callable[[], object]) -> None:
    """Read, and allow no other exception than InputError, in one line."""
    counts = TRIED.setdefault(name, [0, 0])
    counts[0] += 1
    refused = None
    try:
        read()
        counts[1] += 1
    except InputError as error:
        refused = str(error)
    assert refused is None or len(refused.splitlines()) == 1


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A right file of which some bytes are other ones, cut off or repeated."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        if not found:
            break
        at = draw(st.integers(0, len(found) - 1) | st.integers(0, min(len(found) - 1, 400)))
        kind = draw(st.sampled_from(["set", "cut", "insert", "drop"]))
        if kind == "set":
            found[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del found[at:]
        elif kind == "insert":
            found[at:at] = draw(st.binary(max_size=12))
        else:
            del found[at : at + draw(st.integers(1, 30))]
    return bytes(found)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below, max_size=4),
    max_leaves=8,
)


@st.composite
def replaced(draw: st.DrawFn, right: Any) -> Any:
    """A right JSON value with one part of it replaced by any other, or by a neighbour of the same type."""
    found = json.loads(json.dumps(right))
    at, path = found, []
    while isinstance(at, dict | list) and at and (not path or draw(st.booleans())):
        path.append(draw(st.sampled_from(list(at) if isinstance(at, dict) else range(len(at)))))
        at = at[path[-1]]
    above = found
    for step in path[:-1]:
        above = above[step]
    if path:
        above[path[-1]] = draw(HOSTILE | JSON)
    return found


HOSTILE: st.SearchStrategy[Any] = st.sampled_from(
    ["../../../etc/passwd", "/etc/passwd", "./trap.py", "trap:variant", "peft:lora", "peft:", "\0", "a" * 5000, "é\n"]
) | st.sampled_from(
    [10**9, -1, 10**30, 1e308, 0, "mini(depth=3)", "mini(num_heads=0)", "resnet50", "random", "noah", "hst"]
)

LETTERS = st.sampled_from("abvpt_./:()[]{}=,'\"\\ 019-+*e\n\0é#TrueFalsNon")
METHOD_TEXT = st.text(LETTERS, max_size=40) | st.text(max_size=40)
BRACKETS = st.sampled_from(["(", "[", "{1:", "-", "not ", "a.", "1+", "'", "f(", "**"])


@given(text=METHOD_TEXT | METHOD_TEXT.map("vpt({})".format))
def test_the_spec_parser(text: str) -> None:
    survives("spec.parse", lambda: spec.parse(text))
    survives("spec.fields", lambda: spec.fields(text))


@given(
    depth=st.integers(0, 20_000), bracket=st.sampled_from(["(", "[", "{1:", "-", "not ", "a.", "1+", "'", "f(", "**"])
)
def test_the_spec_parser_however_deep_the_nesting(depth: int, bracket: str) -> None:
    survives("spec.parse, deep", lambda: spec.parse(f"vpt(tokens={bracket * depth})"))


@given(values=st.dictionaries(st.sampled_from(["rank", "scale", "targets", "strange"]), JSON, max_size=3))
def test_fields_of_a_method(values: dict[str, Any]) -> None:
    from petlbench import zoo

    survives("spec.make", lambda: spec.make(zoo.method("lora"), values, "method lora"))


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with right files of every kind, and a trap that leaves a mark if anybody imports it."""
    root = tmp_path_factory.mktemp("right")
    request = Request(
        methods=spec.parse("lora"),
        suite=TINY,
        tasks=("day",),
        data_root=tiny.write(root / "data"),
        results=root / "results",
        overrides={"epochs": 1, "batch_size": 8},
        save_weights=True,
    )
    done = worker.work(plan(request)[0].job)
    export(done, root / "results", root / "out", files=[TINY])
    (root / "trap.py").write_text(f"open({str(root / 'sprung')!r}, 'w')")
    Store(root / "store").put(record("lora", "day", 80))
    return root


@pytest.fixture
def nothing_else(right: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Works in a folder beside the trap, and holds that nobody walked into it or wrote beside what was asked for."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(right / "trap.py", "trap.py")
    before = {path for path in right.rglob("*") if "__pycache__" not in path.parts}
    yield
    assert {path for path in right.rglob("*") if "__pycache__" not in path.parts} == before
    assert {path.name for path in tmp_path.iterdir()} <= {"trap.py", "store", "task", "file", "out"}


def _records(content: bytes, store: Path) -> None:
    place = store / "tiny/lora/day-s0-0123456789ab.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    survives("Store.records", lambda: list(Store(store).records()))
    survives("glances", lambda: glance.glances(store))
    survives("Store.find", lambda: Store(store).find("0123456789ab"))


@given(data=st.data())
def test_the_record_reader(data: st.DataObject, right: Path, tmp_path: Path, nothing_else: None) -> None:
    content = next((right / "store").glob("*/*/*.json")).read_bytes()
    whole = replaced(json.loads(content)).map(lambda value: json.dumps(value).encode())
    _records(data.draw(st.binary(max_size=200) | damaged(content) | whole), tmp_path / "store")


LINE = st.text(st.sampled_from("images/test0123456789.png \t-é\0\r\x85\u2028"), max_size=40)


@given(content=st.lists(LINE | st.just("images/test/000000.png 1")).map("\n".join) | st.binary(max_size=100))
def test_the_list_file_reader(content: str | bytes, right: Path, tmp_path: Path, nothing_else: None) -> None:
    task = tmp_path / "task"
    if not task.exists():
        shutil.copytree(right / "data/day", task)
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    (task / "test.txt").write_bytes(raw)
    seen: list[InputError] = []
    survives("folder.read_list", lambda: folder.read_list(task, "test", 2))
    survives("folder.read_list, all mistakes", lambda: folder.read_list(task, "test", 2, seen.append))
    assert not any("\n" in str(error) for error in seen)


@given(content=st.dictionaries(st.text(max_size=12), JSON, max_size=4) | JSON | st.binary(max_size=100))
def test_the_reader_of_json_lists(content: Any, tmp_path: Path, nothing_else: None) -> None:
    task = tmp_path / "task"
    task.mkdir(exist_ok=True)
    for part in ("train", "val", "test"):
        (task / f"{part}.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    survives("layouts.read", lambda: layouts.read(task, "test", 2))


@given(content=st.dictionaries(st.sampled_from(["train800val200", "test"]), JSON) | JSON | st.binary(max_size=50))
def test_the_reader_of_fingerprints(content: Any, tmp_path: Path, nothing_else: None) -> None:
    task = tmp_path / "task"
    task.mkdir(exist_ok=True)
    (task / "fingerprint.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    survives("folder.known_digests", lambda: folder.known_digests(task))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Weights of a small backbone in the formats that are read; of Google's, the first array."""
    state = contract.tiny_vit().model.state_dict()
    file = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save({"model": state}, file)
    packed = io.BytesIO()
    np.savez(packed, **{"embedding/kernel": np.zeros((8, 8, 3, 48), np.float32)})
    return {"safetensors": save(state), "pth": file.read_bytes(), "npz": packed.getvalue()}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # numpy leaves a damaged .npz open
@pytest.mark.parametrize("kind", ["safetensors", "pth", "npz"])
@given(data=st.data())
def test_the_weights_loader(
    data: st.DataObject, kind: str, weights: dict[str, bytes], tmp_path: Path, nothing_else: None
) -> None:
    file = tmp_path / "file"
    file.write_bytes(data.draw(st.binary(max_size=200) | damaged(weights[kind])))
    model = contract.tiny_vit().model
    named = file.rename(file.with_suffix(f".{kind}"))
    try:
        survives(f"backbone, .{kind}", lambda: backbone._load(model, named))
    finally:
        named.rename(file)


@given(data=st.data())
def test_the_reader_of_kept_weights(data: st.DataObject, right: Path, tmp_path: Path, nothing_else: None) -> None:
    content = (right / "out/weights.safetensors").read_bytes()
    file = tmp_path / "file"
    file.write_bytes(data.draw(st.binary(max_size=200) | damaged(content)))
    survives("kept.read", lambda: kept.read(file))


@given(data=st.data())
def test_restore(data: st.DataObject, right: Path, tmp_path: Path, nothing_else: None) -> None:
    out = tmp_path / "out"
    if not out.exists():
        shutil.copytree(right / "out", out)
    card = (right / "out/card.json").read_bytes()
    whole = replaced(json.loads(card)).map(lambda value: json.dumps(value).encode())
    (out / "card.json").write_bytes(data.draw(damaged(card) | whole | whole))
    survives("restore", lambda: restore(out, files=[TINY]))
