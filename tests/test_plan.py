"""From a request to runs: what they hold, what identifies them, and what is known before they start."""

from collections.abc import Callable
from dataclasses import replace as with_
from pathlib import Path

import pytest
import tiny

from petlbench import provenance
from petlbench.errors import InputError
from petlbench.plan import cost_jobs, plan
from petlbench.record import Record
from petlbench.request import Request
from petlbench.store import Store

RequestFor = Callable[..., Request]
Do = Callable[..., list[Record]]


def test_a_plan_is_every_method_on_every_task_with_every_seed_task_by_task(request_for: RequestFor) -> None:
    runs = [each.job.run for each in plan(request_for("linear,vpt(tokens=2)", tasks=("day", "left"), seeds=(0, 1)))]
    assert [(run.seed, run.task, run.label) for run in runs] == [
        (0, "day", "linear"), (0, "day", "vpt(tokens=2)"), (0, "left", "linear"), (0, "left", "vpt(tokens=2)"),
        (1, "day", "linear"), (1, "day", "vpt(tokens=2)"), (1, "left", "linear"), (1, "left", "vpt(tokens=2)"),
    ]  # fmt: skip


def test_without_names_a_plan_has_all_tasks(request_for: RequestFor) -> None:
    assert [each.job.run.task for each in plan(request_for())] == ["day", "night", "left", "right"]


def test_a_default_written_out_is_the_same_run(request_for: RequestFor) -> None:
    assert len(plan(request_for("vpt,vpt(tokens=10),vpt(tokens=9)", tasks=("day",)))) == 2


def test_one_number_written_in_two_ways_is_the_same_run(request_for: RequestFor) -> None:
    first, second = (plan(request_for(tasks=("day",), overrides={"lr": lr}))[0].job.run for lr in (1, 1.0))
    assert first.key == second.key
    assert first.overrides == second.overrides == "lr=1.0"


def test_a_run_is_fully_resolved(request_for: RequestFor) -> None:
    run = plan(request_for("lora(rank=2)", tasks=("day",), overrides={"epochs": 50}))[0].job.run
    assert run.fields["rank"] == 2
    assert set(run.fields) > {"scale", "targets"}
    assert run.recipe.epochs == 50
    assert run.recipe.warmup_epochs == 5  # of the default's 10 in 100: the overrides stretch the schedule as a whole
    assert run.overrides == "epochs=50"
    assert len(run.data) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"methods": "lora(rank=2)"},
        {"seeds": (1,)},
        {"overrides": {"epochs": 2}},
        {"tasks": ("night",)},
        {"backbone": "test_vit"},
        {"normalization": "imagenet"},
        {"image_size": 32},
        {"resize": "crop"},
        {"interpolation": "bilinear"},
    ],
)
def test_whatever_decides_a_number_changes_the_identity(request_for: RequestFor, change: dict[str, object]) -> None:
    base: dict[str, object] = {"methods": "lora", "tasks": ("day",), "overrides": {"epochs": 1}}
    first, second = (plan(request_for(**options))[0].job.run for options in (base, base | change))  # type: ignore[arg-type]
    assert first.key != second.key
    assert first.path != second.path


def test_images_have_the_size_of_the_backbone_unless_another_is_asked_for(request_for: RequestFor) -> None:
    own, other = (plan(request_for(tasks=("day",), image_size=size))[0].job.run for size in (None, 96))
    assert (own.backbone.image_size, other.backbone.image_size) == (64, 96)
    assert other.framing.size == 96
    assert plan(request_for(tasks=("day",), image_size=64))[0].job.run == own


def test_other_pixels_change_the_identity(request_for: RequestFor, data: Path) -> None:
    before = plan(request_for(tasks=("day",)))[0].job.run
    (data / "day/fingerprint.json").unlink()
    (data / "day/images/test/000000.png").write_bytes((data / "day/images/test/000001.png").read_bytes())
    assert plan(request_for(tasks=("day",)))[0].job.run.key != before.key


def test_where_things_lie_does_not_change_the_identity(request_for: RequestFor, tmp_path: Path) -> None:
    elsewhere = tiny.write(tmp_path / "elsewhere")
    first = plan(request_for(tasks=("day",)))[0].job
    second = plan(request_for(tasks=("day",), data_root=elsewhere, results=tmp_path / "other"))[0].job
    assert first.data != second.data
    assert first.run.key == second.run.key


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("backbone", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("half", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("none", (0, 0, 0), (1, 1, 1)),
    ],
)
def test_the_normalisation_is_resolved_into_the_run(
    request_for: RequestFor, name: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    run = plan(request_for(tasks=("day",), normalization=name))[0].job.run
    assert (run.normalization, run.backbone.mean, run.backbone.std) == (name, mean, std)


def test_a_normalisation_that_is_the_backbones_own_is_the_same_run(request_for: RequestFor) -> None:
    vit = "vit_tiny_patch16_224.augreg_in21k"  # pre-trained with 0.5 and 0.5
    runs = [
        plan(request_for(tasks=("day",), backbone=vit, normalization=name))[0].job.run for name in ("backbone", "half")
    ]
    assert runs[0] == runs[1]
    assert runs[1].normalization == "backbone"


def test_what_is_done_is_known_and_with_it_how_long_the_rest_takes(request_for: RequestFor, do: Do) -> None:
    assert [(each.state, each.seconds, each.basis) for each in plan(request_for())] == [("new", None, "unknown")] * 4
    done = do(tasks=("day",))[0]
    planned = plan(request_for())
    assert [each.state for each in planned] == ["done", "new", "new", "new"]
    assert planned[1].seconds == pytest.approx(done.seconds["total"])
    assert planned[1].basis == "measured"


def test_a_run_whose_code_has_changed_is_stale(request_for: RequestFor, do: Do, tmp_path: Path) -> None:
    record = do(tasks=("day",))[0]
    store = Store(tmp_path / "results")
    store.put(with_(record, code={**record.code, "petlbench.trial": "0" * 64}))
    assert plan(request_for(tasks=("day",)))[0].state == "stale"
    store.put(record)
    assert plan(request_for(tasks=("day",)))[0].state == "done"


def test_the_code_of_a_number_is_the_method_its_siblings_the_suite_and_the_numeric_harness() -> None:
    code = provenance.fingerprint("lora", "mini")
    assert {"petlbench.methods.lora", "petlbench.benchmarks.mini", "petlbench.trial", "petlbench.encoder"} <= set(code)
    assert any(name.startswith("petlbench.drawing.") for name in code)
    assert not {"petlbench.table", "petlbench.cli", "petlbench.engines.local", "petlbench.display"} & set(code)
    assert "petlbench.methods.vpt" not in code


def test_a_sibling_that_a_method_imports_is_part_of_its_code(tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text("from second import x\n")
    assert provenance._imports(tmp_path / "first.py", "petlbench.methods.first") == []
    (tmp_path / "third.py").write_text("from .vpt import VPT\nfrom petlbench.encoder import ViT\n")
    assert provenance._imports(tmp_path / "third.py", "petlbench.methods.third") == ["petlbench.methods.vpt"]


def test_costs_are_measured_once_per_method_and_backbone(request_for: RequestFor) -> None:
    planned = plan(request_for("linear,lora,lora(rank=2)", seeds=(0, 1)))
    assert [job.label for job in cost_jobs(planned)] == ["linear", "lora", "lora(rank=2)"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": "lorra"}, "unknown method 'lorra': did you mean lora"),
        ({"methods": "lora(rang=3)"}, "method lora has no field 'rang': did you mean rank?"),
        ({"methods": "lora(rank='3')"}, "method lora: rank='3' is not valid: Expected `int`, got `str`"),
        ({"suite": "minni"}, "unknown suite 'minni': did you mean mini?"),
        ({"tasks": ("dey",)}, "unknown task 'dey': did you mean day?"),
        (
            {"backbone": "vit_base_patch16_22"},
            "unknown backbone 'vit_base_patch16_22': did you mean vit_base_patch16_224",
        ),
        ({"backbone": "resnet50"}, "backbone 'resnet50' is neither ViT nor Swin"),
        (
            {"methods": "lora,hst", "backbone": "swin_tiny_patch4_window7_224"},
            "method hst cannot be built into backbone swin_tiny_patch4_window7_224, a Swin; it supports: ViT",
        ),
        ({"weights": "nowhere.safetensors"}, "--weights nowhere.safetensors: No such file or directory"),
        ({"data_root": Path("nowhere")}, "--data-root nowhere: no such folder"),
        ({"data_root": None}, "its images do not come with petlbench, say where they are: --data-root DIR"),
        ({"overrides": {"precision": "fp16"}}, "--recipe precision=fp16: needs a GPU"),
        ({"overrides": {"mixup": 0.8, "batch_size": 33}}, "--recipe batch_size=33: mixup and cutmix pair the images"),
        ({"overrides": {"epoch": 3}}, "--recipe has no field 'epoch': did you mean epochs?"),
        ({"overrides": {"epochs": "3"}}, "--recipe: epochs='3' is not valid: Expected `int`, got `str`"),
    ],
)
def test_what_cannot_be_planned_is_one_line(request_for: RequestFor, options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as refusal:
        plan(request_for(**options))  # type: ignore[arg-type]
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_task_folder_is_named(request_for: RequestFor, data: Path) -> None:
    (data / "day").rename(data / "day_folder")  # the field's other spelling
    assert plan(request_for(tasks=("day",)))[0].job.data == str(data / "day_folder")
    (data / "day_folder").rename(data / "gone")
    with pytest.raises(InputError, match="has no folder day or day_folder for task day of suite tiny"):
        plan(request_for(tasks=("day",)))
