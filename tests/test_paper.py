"""The protocol `paper`: the published settings of each task, and the best test epoch under a name of its own."""

from collections.abc import Callable
from dataclasses import replace as with_
from pathlib import Path

import pytest

from petlbench import frame, spec, worker, zoo
from petlbench.errors import InputError
from petlbench.plan import plan
from petlbench.record import Record
from petlbench.request import Request
from petlbench.selection import axes

RequestFor = Callable[..., Request]
TINY = Path(__file__).parent / "tiny.py"

PUBLISHED = '''"""A method with published settings for the suite of the tests."""
from dataclasses import dataclass
from petlbench import Encoder, Method, Recipe, ViT

@dataclass(frozen=True, kw_only=True)
class Printed(Method):
    recipes = {"tiny": Recipe(source="a paper", lr=1e-2, epochs=4, warmup_epochs=0, batch_size=8)}
    evaluate_every = 2
    size: int = 1
    bias: bool = True
    def attach(self, vit: ViT) -> Encoder:
        vit.blocks[0].requires_grad_()
        return vit
    def published(self, suite, task):
        return {"size": 7} if task == "day" else {}
'''


@pytest.fixture
def paper(request_for: RequestFor, tmp_path: Path) -> RequestFor:
    """Make a request under `paper` for a method with published settings."""
    (tmp_path / "printed.py").write_text(PUBLISHED)

    def make(fields: str = "", **options: object) -> Request:
        options = {"tasks": ("day",), "protocol": "paper", "overrides": {}} | options
        return request_for(f"{tmp_path / 'printed.py'}{fields}", **options)

    return make


def work(request: Request) -> Record:
    (planned,) = plan(request)
    return worker.work(planned.job)


def test_fields_that_were_published_for_a_task_are_used_under_paper_only(paper: RequestFor) -> None:
    def size(**options: object) -> object:
        return plan(paper(**options))[0].job.run.fields["size"]

    assert size() == 7
    assert size(tasks=("night",)) == 1
    assert size(protocol="fixed") == 1
    assert [plan(paper(tasks=(task,)))[0].job.run.label for task in ("day", "night")] == ["printed"] * 2  # one row


def test_best_and_last_epoch_have_names_of_their_own_and_looking_changes_nothing(paper: RequestFor) -> None:
    printed, fixed = work(paper()), work(paper(protocol="fixed"))
    assert set(printed.scores) == {"accuracy", "accuracy_best_test_epoch"}
    assert printed.scores["accuracy_best_test_epoch"] >= printed.scores["accuracy"]
    assert set(fixed.scores) == {"accuracy"}
    assert printed.scores["accuracy"] == fixed.scores["accuracy"]
    assert [epoch.loss for epoch in printed.curve] == [epoch.loss for epoch in fixed.curve]
    assert "evaluate" in printed.seconds
    assert "evaluate" not in fixed.seconds


def test_the_best_is_that_of_the_epochs_that_were_looked_at(paper: RequestFor, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = iter([70.0, 60.0, 50.0])  # epochs 2 and 4, and the final score
    monkeypatch.setattr("petlbench.classification.Classification.score", lambda *_: [("accuracy", next(shown))])
    assert work(paper()).scores == {"accuracy": 50.0, "accuracy_best_test_epoch": 70.0}
    assert list(shown) == []


def test_how_often_the_test_split_is_evaluated_is_part_of_the_identity(paper: RequestFor) -> None:
    assert plan(paper())[0].job.run.evaluate_every == 2
    assert plan(paper(protocol="fixed"))[0].job.run.evaluate_every == 0


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("printed.py(size=3)", "--protocol paper: the paper sets size of printed for tiny/day; leave that out"),
        ("linear", "--protocol paper: linear has no published settings for tiny/day"),
    ],
)
def test_what_is_not_the_papers_is_refused(
    paper: RequestFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refusal:
        plan(with_(paper(), methods=spec.parse(method)))
    assert said in str(refusal.value)


def test_other_fields_may_be_set_and_make_another_row(paper: RequestFor) -> None:
    run = plan(paper("(bias=False)"))[0].job.run
    assert (run.label, run.fields["size"], run.fields["bias"]) == ("printed(bias=False)", 7, False)


def test_paper_and_fixed_are_rows_of_their_own_and_the_best_epoch_is_asked_for_by_name(paper: RequestFor) -> None:
    printed, fixed = work(paper()), work(paper(protocol="fixed"))
    assert axes(printed) != axes(fixed)
    suite = zoo.suite(str(TINY))()
    last = frame.scores([printed, fixed], suite, tasks=["day"])
    assert last.mean.index.get_level_values("protocol").tolist() == ["fixed", "paper"]
    best = frame.scores([printed, fixed], suite, tasks=["day"], metric="accuracy_best_test_epoch").mean[
        "natural", "day"
    ]
    assert best.isna().tolist() == [True, False]


@pytest.mark.parametrize("name", zoo.methods())
def test_published_fields_are_fields_for_every_task_of_vtab(name: str) -> None:
    method = zoo.method(name)()
    for task in zoo.suite("vtab").tasks:
        spec.make(type(method), method.published("vtab", task.name), name)
        assert method.published("mini", task.name) == {}


def test_the_prompts_of_vpt_are_those_of_the_paper_deep_and_shallow() -> None:
    deep, shallow = zoo.method("vpt")(), spec.make(zoo.method("vpt"), {"deep": False}, "vpt")
    tasks = [task.name for task in zoo.suite("vtab").tasks]
    # 0.562 M and 0.072 M weights of prompts on average over the tasks, without the head
    assert sum(deep.published("vtab", task)["tokens"] for task in tasks) * 12 * 768 / 19 == pytest.approx(
        562e3, rel=1e-2
    )
    assert sum(shallow.published("vtab", task)["tokens"] for task in tasks) * 768 / 19 == pytest.approx(72e3, rel=2e-2)
    assert deep.published("vtab", "sun397") == {"tokens": 5}
    assert shallow.published("vtab", "sun397") == {"tokens": 1}
