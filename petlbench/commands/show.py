"""petlbench show: one method on one page: its idea, where it comes from, its settings, and where it enters a block."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from petlbench.commands import Commands
    from petlbench.method import Method
    from petlbench.recipe import Recipe

EPILOG = """examples:
  petlbench show lora
  petlbench show 'vpt(tokens=50)' --backbone swin_base_patch4_window7_224
"""
WIDTH = 118
"""Columns of a page, about those of the docstrings that it quotes."""
ALWAYS = ("epochs", "batch_size", "lr", "weight_decay")
"""Settings of a recipe that are printed even where they are the defaults."""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "show", help="what a method is and does", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("method", metavar="METHOD", help="name or file, with fields if you like: 'vpt(tokens=50)'")
    parser.add_argument(
        "--backbone",
        default="vit_base_patch16_224",
        metavar="NAME",
        help="what the method is built into, without its weights (default: vit_base_patch16_224)",
    )
    parser.set_defaults(do=do)


def do(options: argparse.Namespace) -> int:
    from petlbench import backbone, spec, zoo

    spec.single(options.backbone, "--backbone")
    pages = []
    for each in spec.parse(options.method):
        kind = zoo.method(each.name)
        made = spec.make(kind, each.fields, f"method {each.name}")
        backbone.require(kind, each.name, options.backbone)
        pages.append("\n".join(page(str(each), made, options.backbone)))
    print("\n\n\n".join(pages))
    return 0


def page(title: str, method: Method, backbone: str) -> Iterator[str]:
    """The lines of a method's page."""
    from petlbench import anatomy

    kind = type(method)
    body = anatomy.dissect(method, backbone)
    yield from (title, "", inspect.cleandoc(inspect.getmodule(kind).__doc__ or ""), "")
    yield from _wrap(inspect.cleandoc(kind.__doc__ or ""), 0)
    yield ""
    yield from _columns(_facts(method, body, backbone))
    if fields := dataclasses.fields(method):
        docs = _field_docs(kind)
        yield from ("", "Fields")
        yield from _columns((f"{each.name}={getattr(method, each.name)!r}", docs.get(each.name, "")) for each in fields)
    yield from ("", f"In {backbone}: {body.where}", f"  {anatomy.LEGEND}", "")
    yield from (f"  {line}" for line in anatomy.draw([body.block]))
    if body.outside:
        yield from ("", "  Trained outside of the blocks", "")
        yield from (f"  {line}" for line in anatomy.draw(body.outside))
    if kind.recipes:
        yield from ("", "Recipes")
        yield from _recipes(kind.recipes)
    if published := _published(method):
        yield from ("", "Fields that --protocol paper sets")
        yield from _columns(published)
    if kind.grid:
        yield from ("", "Values that --protocol tuned searches")
        yield from _columns((name, ", ".join(map(str, values))) for name, values in kind.grid.items())
    if kind.paper is not None:
        yield from ("", kind.paper.bibtex)


def _facts(method: Method, body: Any, backbone: str) -> Iterator[tuple[str, str]]:
    kind, paper = type(method), method.paper
    if paper is not None:
        where = paper.venue or "preprint"
        yield "paper", f"{paper.title}. {where}, {paper.year}" + (f", arXiv {paper.arxiv}" if paper.arxiv else "")
        if paper.code:
            yield "code", f"https://github.com/{paper.code}"
    yield "family", kind.family
    yield "backbones", ", ".join(kind.backbones())
    share = f"{100 * body.trained / body.weights:.3g} % of the {body.weights:,} of {backbone}"
    yield "trains", f"{body.trained:,} weights, without the head: {share}"
    yield (
        "inference",
        f"{body.left:,} weights more than the backbone" if body.left else "no weight more than the backbone",
    )
    for fields, millions in kind.printed.items():
        yield "printed", f"{millions:g} M weights on ViT-B/16 with {fields or 'the defaults'}"


def _recipes(recipes: Mapping[str, Recipe]) -> Iterator[str]:
    """Each source once; below it the settings that all its recipes share, then each other setting with its tasks."""
    sources: dict[str, dict[str, dict[str, Any]]] = {}
    for place, recipe in recipes.items():
        sources.setdefault(recipe.source, {})[place] = _settings(recipe)
    for source, settings in sources.items():
        yield from _wrap(source, 2)
        first, *others = settings.values()
        common = {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
        places: dict[str, list[str]] = {}
        for place, each in settings.items():
            rest = {name: value for name, value in each.items() if name not in common}
            places.setdefault(_written(rest), []).append(place)
        if len(places) == 1:
            yield from _columns([(", ".join(settings), _written(common))], 4)
        else:
            yield from _wrap(_written(common), 4)
            yield from _columns(((rest, ", ".join(each)) for rest, each in places.items()), 6)


def _settings(recipe: Recipe) -> dict[str, Any]:
    """The settings that are not the defaults, and those that everybody asks for."""
    values = {field.name: (getattr(recipe, field.name), field.default) for field in dataclasses.fields(recipe)}
    del values["source"]
    return {name: value for name, (value, default) in values.items() if name in ALWAYS or value != default}


def _published(method: Method) -> list[tuple[str, str]]:
    """What is set for single tasks, and the tasks that it is set for."""
    from petlbench import zoo

    rows = []
    for suite in zoo.suites():
        tasks, found = zoo.suite(suite).tasks, dict[str, list[str]]()
        for task in tasks:
            if fields := method.published(suite, task.name):
                found.setdefault(_written(fields), []).append(f"{suite}/{task.name}")
        every = f"all {len(tasks)} tasks of {suite}"
        rows += [(fields, every if len(names) == len(tasks) else ", ".join(names)) for fields, names in found.items()]
    return rows


def _written(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _field_docs(kind: type) -> dict[str, str]:
    """The string under each field of a dataclass, inherited ones included, read from its source."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        except (OSError, TypeError):  # built in, or made while running
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for field, below in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                found[field.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return found


def _columns(rows: Iterable[tuple[str, str]], indent: int = 2) -> Iterator[str]:
    """Two columns, of which the second is wrapped."""
    rows = list(rows)
    width = max(len(left) for left, _ in rows)
    for left, right in rows:
        first, *more = _wrap(right, indent + width + 2) or [""]
        yield f"{'':{indent}}{left:{width}}  {first.lstrip()}".rstrip()
        yield from more


def _wrap(text: str, indent: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(text, max(WIDTH, indent + 40), initial_indent=margin, subsequent_indent=margin)
