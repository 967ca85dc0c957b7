"""The settings of a training run: what is off unless asked for, what is refused, and what the docs say of them."""

import ast
import dataclasses
import inspect
import itertools
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from petlbench import recipe as module
from petlbench import spec, zoo
from petlbench.errors import InputError
from petlbench.recipe import Recipe

PAGE = (Path(__file__).parent.parent / "docs" / "recipes.md").read_text(encoding="utf-8")
FIELDS = [field.name for field in dataclasses.fields(Recipe)]


def test_nothing_random_is_on_by_default() -> None:
    plain = Recipe()
    assert not plain.augments
    assert not plain.mixes
    assert plain.drop_path == 0
    assert plain.label_smoothing == 0


@pytest.mark.parametrize(
    ("setting", "mixes"),
    [
        ({"mixup": 0.8}, True),
        ({"cutmix": 1.0}, True),
        ({"crop_scale": (0.08, 1.0)}, False),
        ({"flip": 0.5}, False),
        ({"erasing": 0.25}, False),
    ],
)
def test_each_augmentation_is_on_by_itself(setting: dict[str, Any], mixes: bool) -> None:
    recipe = Recipe(**setting)
    assert recipe.augments
    assert recipe.mixes is mixes


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "--recipe epochs=0: must be at least 1"),
        ({"accumulate": 0}, "--recipe accumulate=0: must be at least 1"),
        ({"schedule_lag": -1}, "--recipe schedule_lag=-1: must not be negative"),
        ({"mixup": -0.1}, "--recipe mixup=-0.1: must not be negative"),
        ({"flip": 1.5}, "--recipe flip=1.5: must lie in 0..1"),
        ({"erasing": -1.0}, "--recipe erasing=-1.0: must lie in 0..1"),
        ({"drop_path": 1.0}, "--recipe drop_path=1.0: must be at least 0 and below 1"),
        ({"layer_decay": 0.0}, "--recipe layer_decay=0.0: must be above 0 and at most 1"),
        ({"crop_scale": (0.5, 0.1)}, "--recipe crop_scale=(0.5, 0.1): is no range within 0..1"),
        ({"crop_scale": (0.1, 1.1)}, "--recipe crop_scale=(0.1, 1.1): is no range within 0..1"),
        ({"crop_ratio": (0.0, 1.0)}, "--recipe crop_ratio=(0.0, 1.0): is no range of positive numbers"),
    ],
)
def test_a_value_out_of_its_range_is_refused_in_one_line(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        spec.make(Recipe, setting, "--recipe")
    assert str(raised.value) == message


def test_a_range_can_be_typed() -> None:
    made = spec.make(Recipe, spec.fields("crop_scale=(0.08, 1), flip=0.5"), "--recipe")
    assert made == Recipe(crop_scale=(0.08, 1.0), flip=0.5)


def test_a_recipe_comes_back_from_a_record_as_it_was() -> None:
    recipe = Recipe(crop_scale=(0.08, 1.0), mixup=0.8, precision="bf16", clip_norm=1.0)
    assert msgspec.json.decode(msgspec.json.encode(recipe), type=Recipe) == recipe


def test_every_field_says_what_it_is() -> None:
    (body,) = (node.body for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.ClassDef))
    documented = {
        before.target.id
        for before, after in itertools.pairwise(body)
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }
    assert documented >= set(FIELDS)


def test_the_docs_list_every_field_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", PAGE, re.MULTILINE))
    assert sorted(rows) == sorted(FIELDS)
    for name, shown in rows.items():
        default, written = getattr(Recipe(), name), ast.literal_eval(shown)
        assert written == default or written == pytest.approx(default, rel=1e-3), name


def test_the_recipes_of_the_docs_can_be_typed() -> None:
    typed = re.findall(r"--recipe '([^']+)'", PAGE)
    assert len(typed) >= 2
    for text in typed:
        spec.make(Recipe, spec.fields(text), "--recipe")


@pytest.mark.parametrize("name", zoo.methods())
def test_published_recipes_are_whole(name: str) -> None:
    for recipe in zoo.method(name).recipes.values():
        assert recipe.source != Recipe().source
        assert recipe.warmup_epochs < recipe.epochs
