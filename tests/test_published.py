"""Published numbers: every file parses, means follow from the tasks but for known misprints, names are the zoo's."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from petlbench import frame, published, spec, zoo
from petlbench.errors import InputError
from petlbench.method import Paper
from petlbench.suite import Suite

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "results" / "published"
TOLERANCE = 0.08


@pytest.fixture(scope="module")
def numbers() -> pd.DataFrame:
    return published.load()


def vtab() -> Suite:
    return zoo.suite("vtab")()


def test_every_file_has_a_source_and_every_source_a_file() -> None:
    files = {file.stem for file in FOLDER.glob("*.csv")} - {"misprints"}
    assert files == set(published.sources())
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 1_500_000


def test_every_number_is_there_and_in_range(numbers: pd.DataFrame) -> None:
    assert len(numbers) == 5_043
    assert numbers["value"].notna().all()
    assert numbers["suite"].ne("").all()
    percent = numbers[numbers["metric"].str.contains("accuracy|acc_or_recall|ap|miou|pct|tuned_over_total")]
    shares = percent[~percent["metric"].str.contains("gain|change")]
    assert shares["value"].between(0, 100).all()
    assert len(shares) > 4_800
    assert numbers["parameters"].dropna().between(0, 2_000).all()
    assert set(numbers["checkpoint"]) == {"", "last_epoch", "best_test_epoch"}


def test_a_row_of_a_source_has_one_value_per_task(numbers: pd.DataFrame) -> None:
    cells = numbers.groupby([*published.ROW, "suite", "task", "metric"])["value"].nunique()
    twice = cells[cells > 1].reset_index()
    assert set(twice["suite"]) & {"vtab", "fgvc"} == set()


def test_means_follow_from_the_19_tasks_but_for_the_flagged_ones(numbers: pd.DataFrame) -> None:
    tasks = vtab().tasks
    scores = numbers[(numbers["suite"] == "vtab") & (numbers["metric"] == "accuracy")]
    wide = scores.groupby([*published.ROW, "task"])[["value", "misprint"]].first().unstack("task")
    wide = wide[wide["value"][[task.name for task in tasks]].notna().all(axis=1)]
    computed = frame.with_means(
        wide["value"][[task.name for task in tasks]], tasks, lambda part: part.mean(axis=1, skipna=False)
    )
    titles = {column: f"mean_{column[0] if column[1] == 'mean' else column[1]}" for column in computed.columns}
    off, checked = {}, 0
    for column, title in titles.items():
        if title in wide["value"]:
            difference = (computed[column] - wide["value"][title]).abs()
            checked += int(difference.notna().sum())
            for row in difference.index[difference > TOLERANCE]:
                off[row[0], row[2], title] = wide["misprint"][title][row]
    assert checked == 314
    assert set(off) == {
        ("convpass", "linear", "mean_groups"),
        ("convpass", "lora_noah", "mean_groups"),
        ("elephant", "full", "mean_specialized"),
        ("hydra", "linear", "mean_groups"),
        ("hydra", "lora_noah", "mean_groups"),
        ("noah", "full", "mean_groups"),
        ("noah", "linear", "mean_groups"),
        ("noah", "lora_noah", "mean_groups"),
    }
    assert all(off.values())


def test_every_listed_misprint_is_found_and_keeps_its_value(numbers: pd.DataFrame) -> None:
    listed = pd.read_csv(FOLDER / "misprints.csv")
    flagged = numbers[numbers["misprint"] != ""]
    assert set(flagged["misprint"]) == set(listed["reason"])
    assert len(flagged.drop_duplicates([*published.ROW, "suite", "task", "metric"])) == 32
    flowers = flagged[(flagged["source"] == "noah") & (flagged["task"] == "flowers102")]
    assert flowers["value"].unique().tolist() == [87.2]


@pytest.mark.parametrize("name", ["vtab", "fgvc"])
def test_the_tasks_of_a_suite_have_its_names(name: str, numbers: pd.DataFrame) -> None:
    tasks = {task.name for task in zoo.suite(name).tasks}
    means = {f"mean_{group}" for group in ("natural", "specialized", "structured", "tasks", "groups")}
    others = {"all", "params", "ppt_score", "average"}  # counts, costs, and averages of an unknown kind
    assert set(numbers.loc[numbers["suite"] == name, "task"]) <= tasks | means | others


def test_methods_of_the_zoo_have_its_names_and_fields(numbers: pd.DataFrame) -> None:
    for text in {*published.SPECS.values(), *published.NOAHS.values()}:
        (each,) = spec.parse(text)
        assert spec.make(zoo.method(each.name), each.fields, text)
    found = {spec.parse(text)[0].name for text in numbers["method"].unique()} & set(zoo.methods())
    assert {"hst", "vpt", "lora", "lora_noah", "full", "linear", "ssf", "mona", "pfeiffer", "houlsby", "heat"} <= found


@pytest.mark.parametrize(
    ("asked", "method", "id", "is_meant"),
    [
        ("vpt", "vpt(deep=False)", "vpt_shallow", True),
        ("vpt(deep=True)", "vpt(deep=False)", "vpt_shallow", False),
        ("vpt_shallow", "vpt(deep=False)", "vpt_shallow", True),
        ("lora", "lora_noah", "lora", True),
        ("lora_noah", "lora_noah", "lora", True),
        ("vpt(tokens=50)", "vpt(deep=True)", "vpt_deep", True),
        ("hst", "hst_s", "hst_s", False),
    ],
)
def test_a_method_is_asked_for_by_either_name(asked: str, method: str, id: str, is_meant: bool) -> None:
    assert published.means(spec.parse(asked)[0], method, id) is is_meant


@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        ("vit_base_patch16_224.augreg_in21k", "ViT-B/16"),
        ("vit_large_patch16_224", "ViT-L/16"),
        ("deit_small_patch16_224", "ViT-S/16"),
        ("swin_base_patch4_window7_224.ms_in22k", "Swin-B"),
        ("vit_base_patch16_clip_224.openai", ""),
        ("mini", ""),
    ],
)
def test_a_backbone_has_the_name_that_papers_give_its_architecture(backbone: str, name: str) -> None:
    assert published.architecture(backbone) == name


def test_a_row_has_the_columns_of_a_table_of_scores_and_its_printed_means() -> None:
    found = published.rows("vtab", vtab(), ["noah"])
    assert found.axes["label"].tolist() == ["Full", "Linear", "VPT-Deep", "Adapter", "LoRA", "NOAH"]  # each once
    assert found.columns[-3:] == [("structured", "mean"), ("average", "tasks"), ("average", "groups")]
    full = found.values.iloc[0]
    assert full["natural", "flowers102"] == 87.2
    assert full["average", "groups"] == 68.9  # as printed
    assert full["natural", "mean"] == pytest.approx((68.9 + 87.7 + 64.3 + 87.2 + 86.9 + 87.4 + 38.8) / 7)  # computed
    told = found.misprints.iloc[0]
    assert told["natural", "flowers102"].startswith("87.2 is a misprint of 97.2")
    assert told["natural", "mean"].startswith("computed with a misprint: 87.2")
    assert told["average", "groups"].startswith("follows from 97.2")
    assert told["specialized", "mean"] == ""


def test_fewer_tasks_have_computed_means() -> None:
    found = published.rows("vtab", vtab(), ["hst"], ["cifar100", "dtd"], spec.parse("hst,hst_s"))
    assert found.axes["label"].tolist() == ["HST-S", "HST-B"]
    assert found.columns == [("natural", "cifar100"), ("natural", "dtd"), ("average", "tasks")]
    assert found.values["average", "tasks"].tolist() == [pytest.approx(75.2), pytest.approx(75.95)]
    assert found.left_out == 0


def test_a_suite_that_the_zoo_does_not_have_is_shown_by_task_and_metric() -> None:
    found = published.rows("ade20k", None, ["hst"], ["upernet"], spec.parse("hst"))
    assert {group for group, _ in found.columns} == {"upernet"}
    assert found.axes["label"].tolist() == ["HST"]


@pytest.mark.parametrize(
    ("suite", "sources", "methods", "message"),
    [
        ("vtab", ["hts"], "hst", "unknown source of published numbers 'hts': did you mean hta or hst?"),
        (
            "vtab",
            ["mona"],
            "mona",
            "no published number of vtab with mona in mona; sources with numbers of vtab: bi_adapter, ",
        ),
        ("vtab", [], "nonsense", "no published number of vtab with nonsense in any source; "),
    ],
)
def test_what_is_not_there_is_said_in_one_line(suite: str, sources: list[str], methods: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        published.rows(suite, vtab(), sources, (), spec.parse(methods))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_every_paper_has_a_key_of_its_own() -> None:
    suites = [zoo.suite(name).paper for name in zoo.suites()]
    papers = [*(zoo.method(name).paper for name in zoo.methods()), *suites]
    papers += [source.paper for source in published.sources().values()]
    titles: dict[str, set[str]] = {}
    for paper in papers:
        if paper:
            titles.setdefault(published.key(paper), set()).add(paper.title)
    assert {name: found for name, found in titles.items() if len(found) > 1} == {}
    assert published.sources()["hst"].key == published.key(found_paper("hst"))
    assert [name for name, source in published.sources().items() if not source.key] == ["dense"]  # many repositories


def found_paper(method: str) -> Paper:
    paper = zoo.method(method).paper
    assert paper is not None
    return paper


@pytest.mark.slow
def test_the_numbers_travel_with_the_wheel(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    build = f"import setuptools.build_meta as b; print(b.build_wheel({str(tmp_path)!r}))"
    copy = tmp_path / "copy"
    for name in ("petlbench", "methods", "benchmarks", "results/published"):
        files = [file for file in (ROOT / name).rglob("*") if file.is_file() and "__pycache__" not in file.parts]
        for file in files:
            there = copy / file.relative_to(ROOT)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(file.read_bytes())
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-W", "ignore", "-c", build], cwd=copy, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "from petlbench import published; print(published._folder(), len(published.load()))"
    # -P: neither this folder nor the checkout is on the path, only what the wheel holds.
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [str(tmp_path / "site" / "petlbench" / "numbers"), "5043"], done.stderr
