"""What the README and the docs say is so: commands parse, the example keeps the contract, links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from petlbench import cli, contract, spec, zoo

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[str]:
    """Every command of petlbench in a block of the console."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ petlbench")]
    return [line.partition("  #")[0].strip() for line in lines]


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_is_one(command: str) -> None:
    options = cli.parser().parse_args(shlex.split(command)[1:])
    if hasattr(options, "methods") and options.methods:
        for each in spec.parse(options.methods):
            if not zoo.is_path(each.name):
                spec.make(zoo.method(each.name), each.fields, each.name)
    if getattr(options, "suite", None):
        zoo.suite(options.suite)


def test_the_readme_has_commands_to_test() -> None:
    assert len(commands()) >= 8


@pytest.mark.parametrize("promise", contract.PROMISES, ids=contract.name)
def test_the_method_of_the_readme_keeps_every_promise(promise: object, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    assert callable(promise)
    promise(zoo.method(str(tmp_path / "mine.py"))())


def test_the_readme_counts_right() -> None:
    numbers = {11: "Eleven", 15: "fifteen"}
    assert f"{numbers[len(zoo.suite('mini').tasks)]} small tasks" in README
    assert f"the {numbers[len(contract.PROMISES)]} promises" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_method_that_the_readme_names_is_one() -> None:
    section = README.partition("## The zoo")[2].partition("\n\n`petlbench show")[0]
    named = re.findall(r"`(\w+)`", section)
    assert len(named) == len(set(named)) >= 30
    assert set(named) <= set(zoo.methods())
