"""What a person writes, and what they are told when it cannot be read."""

from dataclasses import dataclass
from typing import Literal

import pytest

from petlbench import spec
from petlbench.errors import InputError
from petlbench.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Example:
    rank: int = 8
    scale: float = 1.0
    deep: bool = True
    mode: Literal["fast", "slow"] = "fast"
    targets: tuple[str, ...] = ("q", "v")
    limit: int | None = None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hst", [Spec("hst", {})]),
        ("hst,vpt", [Spec("hst", {}), Spec("vpt", {})]),
        (" hst , vpt ", [Spec("hst", {}), Spec("vpt", {})]),
        ("hst,,vpt,", [Spec("hst", {}), Spec("vpt", {})]),
        ("vpt()", [Spec("vpt", {})]),
        ("vpt(tokens=50)", [Spec("vpt", {"tokens": 50})]),
        ("vpt(tokens=50, deep=False),hst", [Spec("vpt", {"tokens": 50, "deep": False}), Spec("hst", {})]),
        ("lora(targets=('q', 'k'))", [Spec("lora", {"targets": ("q", "k")})]),
        ("lora(scale=1e-3)", [Spec("lora", {"scale": 0.001})]),
        ("lora(scale=-1)", [Spec("lora", {"scale": -1})]),
        ("a(b='x,(y')", [Spec("a", {"b": "x,(y"})]),
        ("./my method.py,hst", [Spec("./my method.py", {}), Spec("hst", {})]),
        ("./my_method.py(rank=2)", [Spec("./my_method.py", {"rank": 2})]),
        ("peft:dora(r=8)", [Spec("peft:dora", {"r": 8})]),
        ("/tmp/ünï cödé.py", [Spec("/tmp/ünï cödé.py", {})]),
    ],
)
def test_what_can_be_written(text: str, expected: list[Spec]) -> None:
    assert spec.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", " , ", "vpt(", "vpt)", "vpt(50)", "vpt(tokens)", "vpt(tokens=)", "vpt(tokens=open('x'))", "vpt(**{})", "(a=1)",
     "vpt(tokens=5)(deep=False)", "vpt(tokens=__import__('os'))", "a(b=[c for c in 'x'])", "vpt(tokens=1,tokens=2)"],
)  # fmt: skip
def test_what_cannot_be_written_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as refusal:
        spec.parse(text)
    assert "\n" not in str(refusal.value)


def test_a_field_is_checked_against_its_type() -> None:
    assert spec.make(Example, {"rank": 4, "scale": 2}, "x") == Example(rank=4, scale=2.0)
    assert spec.make(Example, {"targets": ["k"], "limit": None}, "x") == Example(targets=("k",))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rang": 4}, "x has no field 'rang': did you mean rank? valid: deep, limit, mode, rank, scale, targets"),
        ({"rank": "4"}, "x: rank='4' is not valid: Expected `int`, got `str`"),
        ({"rank": 4.5}, "x: rank=4.5 is not valid: Expected `int`, got `float`"),
        ({"rank": True}, "x: rank=True is not valid: Expected `int`, got `bool`"),
        ({"mode": "medium"}, "x: mode='medium' is not valid: Invalid enum value 'medium'"),
        ({"targets": 3}, "x: targets=3 is not valid: Expected `array`, got `int`"),
    ],
)
def test_a_wrong_field_says_what_would_be_right(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as refusal:
        spec.make(Example, fields, "x")
    assert str(refusal.value) == said


def test_a_label_names_the_fields_that_differ_from_the_defaults() -> None:
    assert spec.label("x", Example()) == "x"
    assert spec.label("x", Example(rank=8)) == "x"
    assert spec.label("x", Example(rank=4, mode="slow")) == "x(rank=4, mode='slow')"


def test_a_label_can_be_read_back() -> None:
    made = Example(rank=4, targets=("q", "k", "v"), scale=0.1)
    (read,) = spec.parse(spec.label("x", made))
    assert spec.make(Example, read.fields, "x") == made
