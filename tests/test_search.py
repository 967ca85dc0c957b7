"""The protocol `tuned`: the same budget for every method, val200 decides, and the final runs tell the price."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as with_
from pathlib import Path

import pytest
from recorded import counts, record

from petlbench import search, worker
from petlbench.encoder import Encoder, ViT
from petlbench.errors import InputError
from petlbench.folder import Images
from petlbench.method import Method
from petlbench.plan import Planned, cost_jobs, plan
from petlbench.recipe import Recipe
from petlbench.record import Record
from petlbench.request import Request
from petlbench.run import Budget
from petlbench.store import Store
from petlbench.trial import Trial

RequestFor = Callable[..., Request]

GRID = '''"""A method with a grid."""
from dataclasses import dataclass
from petlbench import Encoder, Method, ViT

@dataclass(frozen=True, kw_only=True)
class Searched(Method):
    grid = {"lr": (1e-4, 1e-3, 1e-2), "size": (1, 2)}
    size: int = 1
    def attach(self, vit: ViT) -> Encoder:
        vit.blocks[0].norm1.requires_grad_()
        return vit
'''


@pytest.fixture
def tuned(request_for: RequestFor, tmp_path: Path) -> RequestFor:
    """Make a request under `tuned` for a method with a grid of 3 x 2, its default among them."""
    (tmp_path / "searched.py").write_text(GRID)

    def make(fields: str = "", **options: object) -> Request:
        options = {"tasks": ("day",), "protocol": "tuned", "overrides": {"epochs": 1, "batch_size": 8}} | options
        return request_for(f"{tmp_path / 'searched.py'}{fields}", **options)

    return make


def do(planned: list[Planned]) -> list[Record]:
    return [worker.work(each.job) for each in planned if each.state in ("new", "failed")]


def test_a_grid_within_the_budget_is_tried_whole_and_the_default_first() -> None:
    found = search.settings({"lr": [1, 2, 3], "size": [4, 5]}, {"lr": 2, "size": 4}, trials=6)
    assert found[0] == {"lr": 2, "size": 4}
    assert sorted((each["lr"], each["size"]) for each in found) == [(1, 4), (1, 5), (2, 4), (2, 5), (3, 4), (3, 5)]


def test_a_default_outside_of_the_grid_is_one_of_the_trials() -> None:
    assert search.settings({"lr": [1, 2]}, {"lr": 7}, trials=12)[0] == {"lr": 7}
    assert len(search.settings({"lr": [1, 2]}, {"lr": 7}, trials=12)) == 3


def test_a_larger_grid_is_sampled_without_repetition_and_a_larger_sample_keeps_the_smaller() -> None:
    space = {"lr": list(range(10)), "size": list(range(10))}
    small, large = (search.settings(space, {"lr": 0, "size": 0}, trials) for trials in (12, 24))
    assert len({tuple(each.values()) for each in large}) == 24
    assert large[:12] == small
    assert small != [{"lr": 0, "size": number} for number in range(12)]


def test_without_a_grid_there_is_the_default_only() -> None:
    assert search.settings({}, {}, trials=12) == [{}]


@dataclass(frozen=True, kw_only=True)
class Mistaken(Method):
    grid = {"learning_rate": (1, 2)}

    def attach(self, vit: ViT) -> Encoder:
        return vit


def test_a_grid_of_fields_that_do_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="the grid of Mistaken has 'learning_rate', which is no field"):
        search.space(Mistaken(), [])


def tried(score: float, *, lr: float = 1e-3, weights: int = 10, flops: int = 100, **changes: object) -> Record:
    cost = with_(counts(), trainable_parameters=weights, flops=flops)
    return record("lora", "day", score, recipe=Recipe(lr=lr), counts=cost, **changes)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (tried(80), tried(81, weights=99)),
        (tried(80), tried(80, weights=9, flops=999)),
        (tried(80), tried(80, flops=99, lr=1)),
        (tried(80), tried(80, lr=1e-4)),
        (tried(80, status="diverged"), tried(1)),
    ],
    ids=["score", "fewer weights", "fewer FLOPs", "smaller rate", "did not diverge"],
)
def test_the_highest_score_is_taken_and_of_equal_ones_the_cheaper(first: Record, second: Record) -> None:
    assert search.best([first, second], "accuracy") is second
    assert search.best([second, first], "accuracy") is second


def test_nothing_is_chosen_where_all_diverged_nor_between_different_images() -> None:
    assert search.best([tried(80, status="diverged")], "accuracy") is None
    with pytest.raises(InputError, match="the images of these trials differ"):
        search.best([tried(80, digests={"val200": "a"}), tried(81, digests={"val200": "b"})], "accuracy")


def test_the_trials_come_first_and_the_final_runs_wait_for_them(tuned: RequestFor) -> None:
    planned = plan(tuned(seeds=(0, 1)))
    trials, finals = planned[:6], planned[6:]
    assert {(each.job.run.train, each.job.run.score, each.job.run.seed) for each in trials} == {
        ("train800", "val200", 0)
    }
    assert {(each.job.run.fields["size"], each.job.run.recipe.lr) for each in trials} == {
        (size, lr) for size in (1, 2) for lr in (1e-4, 1e-3, 1e-2)
    }
    assert [(each.state, each.waits_for, each.job.run.seed) for each in finals] == [
        ("waiting", "after 6 trials", 0),
        ("waiting", "after 6 trials", 1),
    ]
    assert cost_jobs(planned) == []


def test_every_method_has_the_same_budget_and_a_smaller_grid_is_tried_whole(request_for: RequestFor) -> None:
    planned = plan(request_for("hst,lora,vpt", tasks=("day",), protocol="tuned", trials=5))
    trials = [each.job.run.method for each in planned if each.job.run.is_trial]
    assert {name: trials.count(name) for name in trials} == {"hst": 5, "lora": 5, "vpt": 5}
    small = plan(request_for("linear", tasks=("day",), protocol="tuned", trials=5))
    assert sum(each.job.run.is_trial for each in small) == 4  # two rates, two decays, the default among them


def test_what_is_set_is_not_searched_and_stands_in_the_label(tuned: RequestFor) -> None:
    runs = [each.job.run for each in plan(tuned("(size=1)"))]
    assert [run.fields["size"] for run in runs] == [1] * 4
    assert runs[-1].label == "searched(size=1)"  # though it is the default: it was not searched
    rate = [each.job.run for each in plan(tuned(overrides={"lr": 0.5, "epochs": 1}))]
    assert {run.recipe.lr for run in rate} == {0.5}
    assert rate[-1].search is not None
    assert rate[-1].search.space == {"size": [1, 2]}


def test_the_best_setting_is_trained_again_on_all_images_and_tells_what_it_cost(
    tuned: RequestFor, tmp_path: Path
) -> None:
    request = tuned(seeds=(0, 1))
    trials = do(plan(request))
    best = search.best(trials, "accuracy")
    assert best is not None
    planned = plan(request)
    assert [each.state for each in planned] == ["done"] * 6 + ["new"] * 2
    finals = do(planned)
    for seed, final in enumerate(finals):
        assert (final.run.train, final.run.score, final.run.seed) == ("train800val200", "test", seed)
        assert (final.run.fields, final.run.recipe) == (best.run.fields, best.run.recipe)
        assert final.run.search is not None
        assert (final.run.search.trials, final.run.search.space["size"]) == (12, [1, 2])
        assert final.budget == Budget(trials=6, seconds=round(sum(each.seconds["total"] for each in trials), 3))
        assert set(final.digests) == {"train800val200", "test"}
    assert {tuple(each.digests) for each in trials} == {("train800", "val200")}
    assert [each.state for each in plan(request)] == ["done"] * 8
    content = json.loads((tmp_path / "results" / finals[0].run.path).read_text())
    assert content["budget"]["trials"] == 6
    assert Store(tmp_path / "results").get(finals[0].run) == finals[0]


def test_another_budget_is_another_final_run_but_the_same_trials(tuned: RequestFor) -> None:
    do(plan(tuned(trials=3)))
    small, large = plan(tuned(trials=3)), plan(tuned(trials=6))
    assert [each.state for each in large] == ["done"] * 3 + ["new"] * 3 + ["waiting"]
    assert small[-1].state == "new"
    do(large)
    assert plan(tuned(trials=6))[-1].job.run.key != small[-1].job.run.key


def test_no_trial_reads_a_test_image(tuned: RequestFor, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = plan(tuned())
    for path in (data / "day/images/test").iterdir():
        path.unlink()
    (data / "day/test.txt").unlink()
    trained_on: list[int] = []
    outputs = Trial.outputs

    def watch(trial: Trial, split: Images) -> object:
        trained_on.append(len(trial.labels))
        return outputs(trial, split)

    monkeypatch.setattr(Trial, "outputs", watch)
    assert [each.status for each in do(planned)] == ["done"] * 6
    assert trained_on == [24] * 6  # train800 of the tiny suite


def test_a_trial_that_diverged_counts_and_one_that_failed_is_tried_again(tuned: RequestFor, tmp_path: Path) -> None:
    records = do(plan(tuned()))
    store = Store(tmp_path / "results")
    store.put(with_(records[0], status="diverged", scores={}))
    assert [each.state for each in plan(tuned())] == ["done"] * 6 + ["new"]
    store.put(with_(records[0], status="failed", scores={}))
    again = plan(tuned())
    assert (again[0].state, again[-1].state, again[-1].waits_for) == ("failed", "waiting", "after 1 trial")
    for each in records:
        store.put(with_(each, status="diverged", scores={}))
    assert plan(tuned())[-1].waits_for == "all trials diverged"


def test_the_loss_of_a_run_that_is_not_finite_makes_it_diverged(request_for: RequestFor) -> None:
    rate = {"optimizer": "sgd", "lr": 1e30, "warmup_epochs": 0, "epochs": 2, "batch_size": 8}
    (planned,) = plan(request_for("full", tasks=("day",), overrides=rate))
    made = worker.work(planned.job)
    assert (made.status, made.scores) == ("diverged", {})
    assert made.reason.startswith("the loss is not finite any more (epoch")


def test_the_cost_of_a_searched_method_is_named_by_what_was_chosen(tuned: RequestFor, tmp_path: Path) -> None:
    request = tuned()
    for trial in do(plan(request)):
        score = 90.0 if trial.run.fields["size"] == 2 else 10.0
        Store(tmp_path / "results").put(with_(trial, scores={"accuracy": score}))
    planned = plan(request)
    assert planned[-1].job.run.label == "searched"
    assert [job.label for job in cost_jobs(planned)] == ["searched(size=2)"]
