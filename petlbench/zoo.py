"""Finds methods and suites: the only module that knows where they live.

What you type is the file: `hst` is hst.py in the package of methods. Third parties add theirs through the entry-point
groups `petlbench.methods` and `petlbench.benchmarks`, or name a file: `--methods ./my_method.py`.

A file may hold more than one: what stands behind a colon is a variant, which the file's own function `variant(name)`
turns into a class. So `peft:dora` is `variant("dora")` of peft.py.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from petlbench.errors import InputError, unknown

if TYPE_CHECKING:
    from petlbench.method import Method
    from petlbench.suite import Suite

Plugin = TypeVar("Plugin")

METHODS = "petlbench.methods"
BENCHMARKS = "petlbench.benchmarks"
FILES = "petlbench_file"
"""Package under which plug-ins given as files are imported, so that pickle finds their classes."""


def methods() -> list[str]:
    """Names of all methods, without importing any of them. Files that hold variants are not among them."""
    return [name for name in _names(METHODS) if name not in families()]


def families() -> list[str]:
    """Names of the methods' files that hold variants, without importing any of them."""
    return [name for name in _names(METHODS) if "\ndef variant(" in _text(METHODS, name)]


def suites() -> list[str]:
    """Names of all suites, without importing any of them."""
    return _names(BENCHMARKS)


def method(name: str) -> type[Method]:
    """The class of a method by its name, or by the path of a file that defines one; either with a variant or without.

    Raises InputError for an unknown name (with the nearest ones) and for a file that cannot be imported.
    """
    from petlbench.method import Method

    return _class(Method, "method", name, METHODS)


def suite(name: str) -> type[Suite]:
    """The class of a suite by its name, or by the path of a file that defines one. Raises InputError as `method`.

    A hyphen stands for an underscore: mini-coco is mini_coco.py.
    """
    from petlbench.suite import Suite

    return _class(Suite, "suite", name, BENCHMARKS)


def summary(package: str, name: str) -> str:
    """What the file of a method or suite says of itself in its first line, read without importing it."""
    text = ast.get_docstring(ast.parse(_text(package, name)))
    return (text or "from another package").splitlines()[0]


def name_of(name: str) -> str:
    """The name under which results are kept: for a path, the name of the file, with its variant if it has one."""
    file, variant = split(name)
    return Path(file).stem + (variant and f":{variant}") if is_path(name) else _written(name)


def is_path(name: str) -> bool:
    """Whether the name is the path of a file rather than a name of the zoo."""
    file, _ = split(name)
    return file.endswith(".py") or "/" in file


def is_known(package: str, name: str) -> bool:
    """Whether a name, with its variant or without, belongs to a file of the zoo."""
    return _written(split(name)[0]) in _names(package)


def is_own(package: str, path: str) -> bool:
    """Whether a path is that of the zoo's own file."""
    return Path(split(path)[0]).expanduser().resolve().parent in map(
        Path.resolve, map(Path, _package(package).__path__)
    )


def split(name: str) -> tuple[str, str]:
    """A name or path and its variant: ("peft", "dora"); the variant is empty where there is none."""
    file, _, variant = name.rpartition(":")
    return (file, variant) if file and variant.isidentifier() else (name, "")


def home(package: str, name: str) -> str:
    """The module that holds a method or suite. One of the zoo is not imported for that."""
    word, file = "method" if package == METHODS else "suite", split(name)[0]
    if is_path(file):
        return _module(word, file, package).__name__
    if file not in _names(package):
        raise unknown(word, file, _names(package))
    return next((entry.module for entry in _offered(package) if entry.name == file), f"{package}.{file}")


def _names(package: str) -> list[str]:
    own = [module.name for module in pkgutil.iter_modules(_package(package).__path__) if module.name[0] != "_"]
    return sorted({*own, *(entry.name for entry in _offered(package))})


@cache
def _offered(package: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    """What other packages offer. Looking through all that is installed takes a while, so it is done once."""
    return tuple(importlib.metadata.entry_points(group=package))


def _text(package: str, name: str) -> str:
    """The source of a file of the zoo; empty for what comes from another package."""
    file = Path(next(iter(_package(package).__path__)), f"{name}.py")
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _class(kind: type[Plugin], word: str, name: str, package: str) -> type[Plugin]:
    file, variant = split(name)
    module = _module(word, file, package)
    make = vars(module).get("variant")
    if make is not None and not variant:
        raise InputError(f"{word} '{name}' comes in variants: write {name}:NAME")
    if variant and make is None:
        raise InputError(f"{word} '{name}': {file} has no variants; valid: {file}")
    if make is not None:
        return make(variant)
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, kind) and value.__module__ == module.__name__
        if not inspect.isabstract(value)
    ]
    if len(found) != 1:
        names = ", ".join(each.__name__ for each in found) or "none"
        raise InputError(f"{word} '{name}': its file must define exactly one {kind.__name__}, it defines {names}")
    return found[0]


def _written(name: str) -> str:
    """A name as its file has it: a hyphen stands for an underscore."""
    return name.replace("-", "_")


@cache
def _module(word: str, name: str, package: str) -> ModuleType:
    if is_path(name):
        return _file(word, name)
    name = _written(name)
    if name not in _names(package):
        raise unknown(word, name, _names(package))
    for entry in _offered(package):
        if entry.name == name:
            return importlib.import_module(entry.module)
    return importlib.import_module(f"{package}.{name}")


def _file(word: str, name: str) -> ModuleType:
    """Import a file that was named on the command line."""
    path = Path(name).expanduser()
    if not path.is_file():
        raise InputError(f"{word} '{name}': no such file")
    sys.modules.setdefault(FILES, ModuleType(FILES, "Methods and suites that were given as files."))
    spec = importlib.util.spec_from_file_location(f"{FILES}.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look their module up while the class is being made
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module.__name__]
        raise InputError(f"{word} '{path}' cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"{name} is not installed: in a checkout, run `pip install -e .` first") from error
