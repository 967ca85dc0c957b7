"""What a person writes: `hst,vpt(tokens=50)` becomes specs, and specs become methods with checked fields."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

import msgspec

from petlbench.errors import InputError

Made = TypeVar("Made")


@dataclass(frozen=True)
class Spec:
    """A name with the fields that were set: `vpt(tokens=50)`."""

    name: str
    fields: Mapping[str, Any]

    def __str__(self) -> str:
        inner = ", ".join(f"{name}={value!r}" for name, value in self.fields.items())
        return f"{self.name}({inner})" if inner else self.name


def parse(text: str) -> list[Spec]:
    """Read a comma-separated list of `name` or `name(field=literal, ...)`.

    A name may also be the path of a file or have a prefix (`./my_method.py`, `peft:dora`). Values are Python
    literals; nothing is evaluated. Raises InputError that quotes what could not be read.
    """
    specs = [_spec(part) for part in _split(text)]
    if not specs:
        raise InputError("the list of methods is empty: write names separated by commas, such as hst,vpt(tokens=50)")
    return specs


def single(text: str, option: str) -> Spec:
    """Read one `name` or `name(field=literal, ...)`. Raises InputError, naming the option, for none or several."""
    found = [_spec(part) for part in _split(text)]
    if len(found) != 1:
        raise InputError(f"{option} '{text[:80]}': expected one name, found {len(found)}")
    return found[0]


def fields(text: str, option: str = "") -> dict[str, Any]:
    """Read `field=literal, ...` without a name around it. Raises InputError as `parse` does, naming the option."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        found = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg is not None}
        if len(found) < len(call.keywords):  # a field twice, or **
            raise ValueError
        return found
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        rule = "write field=value, each once, with numbers, 'text', True, False or (a, b)"
        raise InputError(f"{option and option + ': '}cannot read '{text[:80]}': {rule}") from error


def make(kind: type[Made], given: Mapping[str, Any], what: str) -> Made:
    """Build a dataclass from fields that a person wrote; `what` names it in the errors.

    Raises InputError for a field that does not exist (with the valid ones) and for a value of the wrong type.
    """
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    types = get_type_hints(kind)
    values = {}
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise InputError(
                f"{what} has no field '{name}': {hint}valid: {', '.join(sorted(known)) or 'it has no fields'}"
            )
        try:
            values[name] = msgspec.convert(value, types[name])
        except msgspec.ValidationError as error:
            raise InputError(f"{what}: {name}={value!r} is not valid: {error}") from error
        if isinstance(value, float) and not math.isfinite(value):  # what 1e400 is read as; JSON has no such number
            raise InputError(f"{what}: {name}={value!r} is not valid: expected a finite number")
    try:
        return kind(**values)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: {error}") from error


def label(name: str, made: Any) -> str:
    """The name with the fields that differ from their defaults, as a person would write it."""
    different = {
        field.name: getattr(made, field.name)
        for field in dataclasses.fields(made)
        if getattr(made, field.name) != field.default
    }
    return str(Spec(name, different))


def _spec(text: str) -> Spec:
    found = re.fullmatch(r"\s*([^()\s][^()]*?)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
    if found is None:
        raise InputError(f"cannot read '{text.strip()[:80]}': write a name or name(field=value, ...)")
    name, inner = found.groups()
    return Spec(name, fields(inner) if inner else {})


def _split(text: str) -> Iterator[str]:
    """Split at commas that stand outside of brackets and quotes."""
    depth, quote, start = 0, "", 0
    for position, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and depth:
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == "," and depth == 0:
            if text[start:position].strip():
                yield text[start:position]
            start = position + 1
    if text[start:].strip():
        yield text[start:]
