"""The report: what is in the page, and that nothing a record holds can do harm there."""

import base64
import dataclasses
import gzip
import io
import json
import re
import shlex
import urllib.request
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from random import Random
from threading import Thread
from typing import Any

import pytest
from PIL import Image
from recorded import BACKBONE, cost, record, row
from test_comparison import measured
from tiny import Tiny

from petlbench import cli, provenance, repeat, report, zoo
from petlbench.commands import options as shared
from petlbench.commands import report as command
from petlbench.errors import InputError
from petlbench.machine import machine
from petlbench.plan import plan
from petlbench.recipe import Recipe
from petlbench.record import Epoch, Record
from petlbench.report import details
from petlbench.request import Request
from petlbench.store import Store

TINY = str(Path(__file__).parent / "tiny.py")
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def page(records: list[Record], root: Path = Path("nowhere"), costs: Any = (), changed: Any = lambda record: []) -> str:
    """The report on records of the suite in tiny.py."""
    choice = {"is_stale": lambda record: bool(changed(record))}
    part = report.Part(name="tiny", suite=Tiny(), records=records, choice=choice)
    return report.page([part], costs, root, changed=changed)


def data(text: str) -> Any:
    """What is packed into a page for its script."""
    (packed,) = re.findall(r'<script type="application/octet-stream" id="data">([A-Za-z0-9+/=]*)</script>', text)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


class Elements(HTMLParser):
    """Every element with its attributes, and every name of an attribute."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


BOTH = [*row("lora", day=[80, 82], night=[60, 61]), *row("vpt(tokens=5)", day=[70, 71], night=50)]


def test_every_score_is_a_button_that_leads_to_its_records() -> None:
    text = page(BOTH)
    buttons = re.findall(r'<button type="button" data-cell="(\d+)">(.*?)</button>', text)
    shown = [(re.sub("<.*?>", "", said), data(text)["cells"][int(cell)]["title"]) for cell, said in buttons]
    assert shown == [
        ("81.0 ± 1.4", "lora on day"),
        ("60.5 ± 0.7", "lora on night"),
        ("70.8 ± 1.1", "lora: natural mean"),
        ("70.5 ± 0.7", "vpt(tokens=5) on day"),
        ("50.0", "vpt(tokens=5) on night"),
        ("60.2", "vpt(tokens=5): natural mean"),
    ]


def test_a_mean_leads_to_the_tasks_and_the_seeds_that_it_is_made_of() -> None:
    cells = data(page(BOTH))["cells"]
    (mean,) = [each for each in cells if each["title"] == "lora: natural mean"]
    assert mean["seeds"] == [[0, 70.0], [1, 71.5]]
    assert [(group, cells[number]["title"]) for group, number in mean["tasks"]] == [
        ("natural", "lora on day"),
        ("natural", "lora on night"),
    ]
    assert [cells[number]["text"] for _, number in mean["tasks"]] == ["81.0 ± 1.4", "60.5 ± 0.7"]


def test_a_cell_has_its_seeds_its_settings_its_curve_and_its_command() -> None:
    curve = [Epoch(loss=2.0, lr=0.1, seconds=1), Epoch(loss=None, lr=0.05, seconds=1)]
    found = data(
        page([record("vpt(tokens=5)", "day", 70, seed, curve=curve, peak_memory_bytes=2**30) for seed in (0, 3)])
    )
    (cell,) = found["cells"]
    assert [run["seed"] for run in cell["runs"]] == [0, 3]
    assert cell["runs"][0]["scores"] == {"accuracy": 70, "f1": 35}
    curves = {"loss": ["training loss", [2.0, None]], "lr": ["learning rate", [0.1, 0.05]]}
    assert cell["runs"][0] | {"unit": "epoch", "at": [1, 2], "curves": curves} == cell["runs"][0]
    sections = {
        found["sections"][number][0]: dict(found["sections"][number][1]) for number in cell["runs"][0]["sections"]
    }
    assert sections["Method"] == {"name": "vpt", "tokens": "5"}
    assert sections["Protocol"]["protocol"] == "fixed"
    assert sections["Machine"]["tag"] == machine("cpu").tag
    assert sections["Versions"]["torch"] == machine("cpu").versions["torch"]
    assert sections["Code"]["state"] == "current"
    assert "--seeds 0,3" in cell["commands"][0]
    assert cell["runs"][0]["sections"] == cell["runs"][1]["sections"]  # what seeds share is there once


def test_a_stale_cell_names_the_modules_that_have_changed() -> None:
    text = page(BOTH, changed=lambda record: ["petlbench.trial"])
    assert "†" in text
    sections = dict(map(tuple, dict(map(tuple, data(text)["sections"]))["Code"]))
    assert sections["state"] == "changed since: these scores are stale"
    assert sections["changed modules"] == "petlbench.trial"


def test_a_failed_cell_says_why_and_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "1.log").write_text("\n".join(f"line {number}" for number in range(100)))
    failed = record("lora", "night", 0, status="oom", reason="CUDA ran out", log="logs/1.log")
    text = page([*row("lora", day=80), failed], tmp_path)
    (cell,) = re.findall(r'data-cell="(\d+)">out of memory</button>', text)
    (run,) = data(text)["cells"][int(cell)]["runs"]
    assert (run["state"], run["reason"]) == ("oom", "CUDA ran out")
    assert run["log"].splitlines() == [f"line {number}" for number in range(60, 100)]


@pytest.mark.parametrize(
    "log", ["../secret.log", "/etc/passwd", "logs/link.log", "logs/../../secret.log", "logs", "\0"]
)
def test_a_log_outside_of_the_logs_is_not_read(log: str, tmp_path: Path) -> None:
    (tmp_path / "secret.log").write_text("secret")
    (tmp_path / "results" / "logs").mkdir(parents=True)
    (tmp_path / "results" / "logs" / "link.log").symlink_to(tmp_path / "secret.log")
    assert details.log_tail(tmp_path / "results", log) == ""


def test_no_text_of_a_record_becomes_an_element() -> None:
    """Names, reasons and machines may come from anybody: they are escaped or packed, wherever they stand."""
    here = dataclasses.replace(machine("cpu"), tag=EVIL)
    backbone = dataclasses.replace(BACKBONE, name=EVIL)
    evil = dataclasses.replace(
        record("lora", "day", 70, reason=EVIL, backbone=backbone, found={EVIL: EVIL}), machine=here
    )
    evil = dataclasses.replace(
        evil, run=dataclasses.replace(evil.run, label=EVIL, overrides=EVIL), scores={"accuracy": 1}
    )
    bad_cost = dataclasses.replace(cost("lora", tag=EVIL), label=EVIL)
    text = page([*row("lora", day=80), evil], costs=[bad_cost])
    elements = Elements(text)
    assert len(elements.all("script")) == 2
    assert elements.all("img") == []
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert unescape(text).count(EVIL) >= 3  # so it was there to be escaped


def test_the_policy_lets_nothing_in_but_the_page_itself() -> None:
    text = page(BOTH)
    elements = Elements(text)
    (policy,) = [meta["content"] for meta in elements.all("meta") if "http-equiv" in meta]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    (script,) = re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    assert report._policy("", script).split("; ")[1] == policy.split("; ")[1]
    addresses = [value for _, each in elements.found for name, value in each.items() if name in ("src", "href")]
    assert all(str(address).startswith(("#", "data:,")) for address in addresses)
    assert "innerHTML" not in script
    assert not any("style" in attributes for _, attributes in elements.found)


def test_equal_records_give_an_equal_page() -> None:
    assert page(BOTH) == page(BOTH)


def test_a_large_study_stays_below_three_megabytes() -> None:
    """As many runs as sixty methods on the nineteen tasks of VTAB-1K with three seeds; a hundred epochs each."""
    random = Random(0)
    records = [
        record(f"lora(rank={rank})", task, random.uniform(20, 90), seed, curve=curve)
        for rank in range(1, 61)
        for task in ("day", "night", "left", "right")
        for seed in range(14)
        for curve in [[Epoch(loss=random.random(), lr=1e-3 / (epoch + 1), seconds=1.0) for epoch in range(100)]]
    ]
    assert len(page(records)) < 3e6


def test_a_curve_is_thinned_but_keeps_its_last_epoch() -> None:
    curve = [Epoch(loss=float(epoch), lr=1e-3, seconds=1.0) for epoch in range(1, 1001)]
    kept = details.outcome(record("lora", "day", 1, curve=curve), "done", Path())
    assert len(kept["at"]) <= details.POINTS + 1
    assert (kept["at"][0], kept["at"][-1], kept["curves"]["loss"][1][-1]) == (1, 1000, 1000)


STEPS = Recipe(steps=40, batch_size=8, decay="poly", evaluate_steps=10)
PARTS = {"segmentation": 1.5, "auxiliary": 0.5}


def segmenter(seed: int = 0, **changes: Any) -> Record:
    """A record of a dense suite, with the curve of 40 steps that were scored in between."""
    rows = [
        Epoch(loss=2.0, lr=0.1, seconds=1, step=step, parts=PARTS, images_per_second=9.5) for step in (10, 20, 30, 40)
    ]
    rows[1] = dataclasses.replace(rows[1], scores={"miou": 30.0, "aacc": 70.0})
    settings = {"suite": "mini_ade20k", "recipe": STEPS, "curve": rows} | changes
    made = record("lora", "upernet", 0, seed, **settings)
    made.scores.clear()
    made.scores.update({"miou": 40.0, "miou_ms": 42.0, "aacc": 80.0})
    return made


def dense_page(records: list[Record], root: Path) -> str:
    part = report.Part(name="mini_ade20k", suite=zoo.suite("mini_ade20k")(), records=records)
    return report.page([part], [], root, changed=lambda record: [])


def drawn(made: Record, root: Path, number: int = 0, size: tuple[int, int] = (1168, 310)) -> Path:
    """A picture as a run leaves it."""
    file = root / "pictures" / made.run.path.with_suffix("") / f"{number}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 40).save(file)
    return file


def test_a_dense_run_shows_its_losses_by_part_its_speed_and_its_score_in_between(tmp_path: Path) -> None:
    kept = details.outcome(segmenter(), "done", tmp_path)
    assert (kept["unit"], kept["at"]) == ("step", [10, 20, 30, 40])
    assert kept["curves"] == {
        "loss": ["training loss", [2.0] * 4],
        "loss segmentation": ["loss: segmentation", [1.5] * 4],
        "loss auxiliary": ["loss: auxiliary", [0.5] * 4],
        "score": ["miou (%)", [None, 30.0, None, 40.0]],
        "lr": ["learning rate", [0.1] * 4],
        "speed": ["images per second", [9.5] * 4],
    }


def test_phases_of_a_training_follow_on_each_other() -> None:
    rows = [Epoch(loss=1.0, lr=0.1, seconds=1, step=step) for step in (10, 20, 10, 20, 5)]
    assert details.outcome(segmenter(curve=rows), "done", Path())["at"] == [10, 20, 30, 40, 45]


def test_the_pictures_of_one_seed_are_in_the_page(tmp_path: Path) -> None:
    both = [segmenter(0), segmenter(1)]
    for number in range(6):
        drawn(both[1], tmp_path, number, (2400, 100))
    (cell,) = data(dense_page(both, tmp_path))["cells"]
    found = cell["pictures"]
    assert (found["seed"], found["panels"]) == (1, "image, truth, answer")
    assert found["folder"] == f"pictures/{both[1].run.path.with_suffix('')}"
    assert [image[1:] for image in found["images"]] == [[1200, 50]] * 6
    kind, _, content = found["images"][0][0].partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert picture.size == (1200, 50)


def test_a_run_without_pictures_says_nothing_of_them(tmp_path: Path) -> None:
    assert data(dense_page([segmenter()], tmp_path))["cells"][0]["pictures"] is None
    made = record("lora", "day", 80)
    drawn(made, tmp_path)
    assert data(page([made], tmp_path))["cells"][0]["pictures"] is None  # no suite that draws has such a task


def test_what_is_no_picture_or_lies_elsewhere_is_left_out(tmp_path: Path) -> None:
    made = segmenter()
    files = [drawn(made, tmp_path / "results", number) for number in range(4)]
    files[0].write_text(EVIL)
    files[1].write_bytes(files[1].read_bytes()[:200])
    files[2].unlink()
    files[2].symlink_to(drawn(made, tmp_path / "elsewhere"))
    (cell,) = data(dense_page([made], tmp_path / "results"))["cells"]
    assert len(cell["pictures"]["images"]) == 1


def test_a_page_has_room_for_so_many_pictures_and_names_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = segmenter()
    for number in range(6):
        drawn(made, tmp_path, number, (300, 200))
    (cell,) = data(dense_page([made], tmp_path))["cells"]
    one = max(len(address) for address, *_ in cell["pictures"]["images"])
    monkeypatch.setattr("petlbench.report.pictures.BUDGET", 2.5 * one)
    (cell,) = data(dense_page([made], tmp_path))["cells"]
    assert len(cell["pictures"]["images"]) == 2
    monkeypatch.setattr("petlbench.report.pictures.BUDGET", 0)
    (cell,) = data(dense_page([made], tmp_path))["cells"]
    assert (cell["pictures"]["images"], cell["pictures"]["seed"]) == ([], 0)


def test_a_dense_record_says_nothing_of_a_size_that_its_images_do_not_have() -> None:
    sections = dict(details.sections(segmenter(), []))
    assert {"size", "resize", "interpolation"}.isdisjoint(dict(sections["Images"]))
    assert dict(sections["Recipe"])["steps"] == "40"


def test_rows_can_be_compared_by_what_was_counted_and_what_was_measured() -> None:
    timed = dataclasses.replace(cost("lora", tag="a-16c"))
    (figure,) = data(page(BOTH, costs=[timed]))["figures"]
    axes = {name: (more, values) for name, more, values in figure["axes"]}
    assert axes["trained weights of the method (M)"] == (False, [0.29491, 0.29491])
    assert axes["GFLOPs, folded"] == (False, [16.87, 16.87])
    assert axes["training (images/s), a-16c, fp32, batch 32"] == (True, [100, None])
    assert axes["day (%)"] == (True, [81, 70.5])
    assert axes["left (%)"] == (True, [None, None])
    assert [each["family"] for each in figure["rows"]] == ["reparameterization", "prompt"]


def test_a_path_that_a_record_calls_its_method_is_not_imported(tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'sprung')!r}).touch()\n")
    made = record("lora", "day", 70)
    made = dataclasses.replace(made, run=dataclasses.replace(made.run, method=str(trap), label=str(trap)))
    with pytest.raises(InputError, match="these are no names but paths"):
        page([made])
    assert not (tmp_path / "sprung").exists()


# ---- the command that repeats a run


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("linear", {}),
        ("vpt(tokens=2)", {"seeds": (0, 2)}),
        ("lora(rank=2)", {"resize": "crop", "interpolation": "bilinear", "normalization": "half"}),
        ("linear", {"overrides": {"epochs": 1, "batch_size": 8, "optimizer": "sgd", "crop_scale": (0.5, 1.0)}}),
        ("linear", {"protocol": "tuned", "trials": 2, "seeds": (1,)}),
    ],
)
def test_the_command_of_a_record_plans_that_very_run(
    method: str, options: dict[str, Any], request_for: Callable[..., Request], do: Callable[..., list[Record]]
) -> None:
    do(method, tasks=["day"], **options)
    if options.get("protocol") == "tuned":
        do(method, tasks=["day"], **options)  # the trials are done, the rest follows
    made = request_for(method)
    records = [each for each in Store(made.results).records() if not each.run.is_trial]
    assert len(records) == len(options.get("seeds", (0,)))
    (line,) = repeat.commands(records)
    line = line.replace("./tiny.py", TINY).replace("--data-root DATA", f"--data-root {made.data_root}")
    asked = shared.request(cli.parser().parse_args(shlex.split(line)[1:]))
    asked = dataclasses.replace(asked, results=made.results)  # where the trials of a search are
    again = [each.job.run for each in plan(asked) if not each.job.run.is_trial]
    assert {run.key for run in again} == {each.run.key for each in records}


def test_what_the_paper_sets_for_a_task_is_not_asked_for_again() -> None:
    made = record("lora", "cifar100", 70, protocol="paper", suite="vtab")
    fields = {"tokens": 100}
    run = dataclasses.replace(made.run, method="vpt", label="vpt(tokens=100)", fields=fields)
    (line,) = repeat.commands([dataclasses.replace(made, run=run)])
    assert "--methods vpt --suite vtab --tasks cifar100 --data-root DATA" in line


def test_a_command_is_quoted_whatever_the_record_holds() -> None:
    made = record("lora", "day", 70)
    made = dataclasses.replace(made, run=dataclasses.replace(made.run, label="$(rm -rf ~); lora", task="a`b`'c"))
    (line,) = repeat.commands([made])
    words = shlex.split(line)
    assert words[words.index("--methods") + 1] == "$(rm -rf ~); lora"
    assert words[words.index("--tasks") + 1] == "a`b`'c"


# ---- the command line


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for each in BOTH:
        Store(tmp_path / "results").put(each)
    Store(tmp_path / "results").put_cost(Path("cost", "here", "lora-0.json"), cost("lora"))
    return tmp_path / "results"


def test_the_command_writes_one_file(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "report.html"
    assert cli.main(["report", "--results", str(results), "--suite", TINY, "--out", str(out)]) == 0
    assert "wrote" in capsys.readouterr().err
    text = out.read_text()
    assert text.startswith("<!doctype html>")
    assert "Costs on" in text
    assert str(tmp_path) not in text


def test_a_port_is_for_a_server(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    arguments = ["report", "--results", str(results), "--suite", TINY, "--out", str(out), "--port", "0"]
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == "petlbench: --port 0: only with --serve\n"
    assert not out.exists()


def test_published_numbers_need_no_run(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    arguments = ["report", "--results", "nowhere", "--suite", "vtab", "--with", "published=hst,noah", "--out", str(out)]
    assert cli.main(arguments) == 0
    text = out.read_text()
    assert "published numbers; no runs" in text
    assert text.count('data-source="hst"') == 11
    assert "Trade-offs" not in text
    assert "<li>noah: Yuanhan Zhang et al., Neural Prompt Search, 2022; arXiv 2206.04673; read from " in text


def test_published_rows_stand_below_measured_ones_without_records_and_take_no_part_in_the_figure(
    tmp_path: Path,
) -> None:
    for each in measured("hst", 10):
        Store(tmp_path / "results").put(each)
    out = tmp_path / "report.html"
    arguments = ["report", "--results", str(tmp_path / "results"), "--with", "published=noah", "--out", str(out)]
    assert cli.main(arguments) == 0
    own, apart = out.read_text().split('<tbody class="apart">')
    assert "<strong>" not in own  # one measured row alone has no rank
    apart = apart.split("</tbody>")[0]
    assert apart.count("<tr") == 6
    assert "data-cell" not in apart
    (figure,) = data(out.read_text())["figures"]
    assert [each["label"] for each in figure["rows"]] == ["hst"]


def test_a_suite_without_published_numbers_is_shown_without(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    arguments = ["report", "--results", str(results), "--suite", TINY, "--with", "published", "--out", str(out)]
    assert cli.main(arguments) == 0
    assert 'class="apart"' not in out.read_text()


def test_several_suites_stand_one_below_the_other(results: Path, tmp_path: Path) -> None:
    code = provenance.fingerprint("linear", "mini")
    Store(results).put(record("linear", "digits", 80, suite="mini", code=code))
    out = tmp_path / "report.html"
    assert cli.main(["report", "--results", str(results), "--suite", f"mini,{TINY}", "--out", str(out)]) == 0
    assert re.findall(r'<section class="suite" aria-label="(\w+)">', out.read_text()) == ["mini", "tiny"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--results", "nowhere"], "--results nowhere: no records there yet; `petlbench run` makes them"),
        ([], "--suite tiny: not in the zoo, so name its file, such as --suite ./tiny.py"),
        (["--suite", TINY, "--out", "."], "--out .: cannot be written: "),
        (["--suite", TINY, "--methods", "hst"], "unknown method 'hst'"),
        (["--suite", TINY, "--serve", "--port", "99999", "--out", "a.html"], "--port 99999: cannot be used"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    message: str,
    results: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "--results", str(results), *arguments]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_it_is_served_to_this_machine_only_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    servers: Queue[ThreadingHTTPServer] = Queue()
    serve = ThreadingHTTPServer.serve_forever
    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", lambda self: (servers.put(self), serve(self)))
    thread = Thread(target=command._serve, args=(b"<!doctype html>", 0))
    thread.start()
    server = servers.get()
    address, port = server.server_address[:2]
    assert address == "127.0.0.1"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
        assert answer.read() == b"<!doctype html>"
    refused = HTTPConnection("127.0.0.1", int(port))
    refused.request("GET", "/../etc/passwd")
    assert refused.getresponse().status == 404
    refused.close()
    server.shutdown()
    thread.join()
