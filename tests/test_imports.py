"""The rules of the architecture, held by walking the imports."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import petlbench

ROOT = Path(__file__).parent.parent
FORBIDDEN = {"utils", "util", "common", "core", "base", "helpers", "helper", "manager", "misc"}


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, relative ones with their dots."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_the_harness_and_the_tests_never_import_a_method_or_suite_by_name() -> None:
    offenders = [
        (file.name, name)
        for file in [*files("petlbench"), *files("tests")]
        for name in imports(file)
        if name.startswith(("petlbench.methods", "petlbench.benchmarks", "methods", "benchmarks"))
    ]
    assert offenders == []


@pytest.mark.parametrize(("own", "other"), [("methods", "benchmarks"), ("benchmarks", "methods")])
def test_plug_ins_import_the_harness_and_their_siblings_but_not_the_other_kind(own: str, other: str) -> None:
    offenders = [(file.name, name) for file in files(own) for name in imports(file) if other in name.split(".")]
    assert offenders == []


def test_no_file_has_a_name_that_says_nothing() -> None:
    names = {file.stem for folder in ("petlbench", "methods", "benchmarks", "tests") for file in files(folder)}
    assert names & FORBIDDEN == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["list"], ["list", "suites"], ["run", "--help"]])
def test_help_and_lists_answer_without_importing_torch(arguments: list[str]) -> None:
    code = f"""if True:
        import sys
        from petlbench.cli import main
        try:
            main({arguments!r})
        except SystemExit:
            pass
        loaded = [name for name in ("torch", "timm", "numpy", "pandas", "matplotlib") if name in sys.modules]
        assert not loaded, loaded
    """
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_public_name_exists() -> None:
    assert all(getattr(petlbench, name) is not None for name in petlbench.__all__)
    assert {*petlbench._HOMES, "__version__"} == set(petlbench.__all__)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        petlbench.nonsense  # noqa: B018
