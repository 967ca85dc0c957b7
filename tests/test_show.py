"""petlbench show: one method on one page, and the drawing of what it does to a block."""

import re
from pathlib import Path
from typing import Any

import pytest
from vits import count, vit_base

from petlbench import anatomy, cli, spec, zoo

VIT = "vit_base_patch16_224"
SWIN = "swin_tiny_patch4_window7_224"

MINE = '''"""Mine: a bias of its own.

Told at length.
"""
from dataclasses import dataclass

import torch
from torch import nn

from petlbench import Encoder, Method, ViT, replace


@dataclass(frozen=True, kw_only=True)
class Mine(Method):
    """Adds a number to every channel behind the attention of a block."""

    family = "adapter"

    start: float = 0.5
    """Where the numbers
    begin."""
    unused: int = 1

    def attach(self, vit: ViT) -> Encoder:
        replace(vit, "blocks.*.attn", lambda attn: Biased(attn, vit.width, self.start))
        return vit


class Biased(nn.Module):
    def __init__(self, attn, width, start):
        super().__init__()
        self.attn = attn
        self.bias = nn.Parameter(torch.full((width,), start))

    def forward(self, tokens, **_):
        return self.attn(tokens) + self.bias
'''

PAGE = f"""Mine: a bias of its own.

Told at length.

Adds a number to every channel behind the attention of a block.

  family     adapter
  backbones  ViT
  trains     9,216 weights, without the head: 0.0107 % of the 85,798,656 of vit_base_patch16_224
  inference  9,216 weights more than the backbone

Fields
  start=0.25  Where the numbers begin.
  unused=1

In vit_base_patch16_224: block 7 of 12, all of them adapted
  {anatomy.LEGEND}

  ◐ model.blocks.6  Block      7,088,640  768
    ├─ norm1        LayerNorm      1,536
  ◐ ├─ + attn       Biased     2,363,136  768
  ● │  ├─ + bias    768              768  768
    │  └─ attn      Attention  2,362,368
    ├─ norm2        LayerNorm      1,536
    └─ mlp          Mlp        4,722,432
"""


def drawing(name: str, backbone: str = VIT, **fields: Any) -> list[str]:
    """The lines of a drawing, without the columns of numbers."""
    body = anatomy.dissect(spec.make(zoo.method(name), fields, name), backbone)
    return [re.sub(r"(?<=\w) {2,}.*", "", line[2:]) for line in anatomy.draw([body.block, *body.outside])]


def test_a_page_says_what_a_method_is_and_shows_where_it_enters_a_block(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(MINE)
    assert cli.main(["show", f"{mine}(start=0.25)"]) == 0
    assert capsys.readouterr().out == f"{mine}(start=0.25)\n\n{PAGE}"


@pytest.mark.parametrize("name", zoo.methods())
def test_every_method_of_the_zoo_has_a_page_with_its_count_and_its_words(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = zoo.method(name)
    assert cli.main(["show", name]) == 0
    page = capsys.readouterr().out
    assert f"{count(kind().attach(vit_base())):,} weights, without the head" in page
    assert zoo.summary(zoo.METHODS, name) in page
    assert kind.paper is None or kind.paper.bibtex in page
    assert all(line == line.rstrip() for line in page.splitlines())
    fields = re.search(r"\nFields\n(.*?)\n\n", page, re.DOTALL)
    for line in fields[1].splitlines() if fields else []:
        assert re.fullmatch(r"  +\S.*  \S.*| {10,}\S.*", line), f"a field without a word about it: {line}"


def test_recipes_stand_below_their_source_with_what_they_share_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["show", "ssf"])
    page = capsys.readouterr().out
    assert page.count("dongzelian/SSF (e94e0e7)") == 1
    assert page.count("cooldown_epochs=10") == 1
    assert "lr=0.005, weight_decay=5e-05, drop_path=0.2  vtab/diabetic_retinopathy, vtab/dsprites_ori\n" in page
    assert "  mini  epochs=4, batch_size=16, lr=0.01, " in page


def test_what_the_protocol_paper_sets_is_said_with_the_tasks_it_is_set_for(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["show", "vpt,pfeiffer"])
    page = capsys.readouterr().out
    assert "  tokens=1    vtab/flowers102, vtab/pets, vtab/diabetic_retinopathy\n" in page
    assert "  activation='quick_gelu', init='normal'  all 19 tasks of vtab\n" in page


def test_an_ampersand_of_a_title_is_one_that_latex_accepts(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["show", "ssf"])
    assert r"title = {{Scaling \& Shifting Your Features:" in capsys.readouterr().out


def test_what_folds_leaves_no_weight_beside_the_backbone() -> None:
    left = {name: anatomy.dissect(zoo.method(name)(), VIT).left for name in ("lora", "ssf", "bitfit", "adaptformer")}
    assert left == {"lora": 0, "ssf": 0, "bitfit": 0, "adaptformer": 1_189_632}


def test_frozen_modules_are_one_line_and_trained_ones_that_nothing_was_added_to_as_well() -> None:
    assert drawing("layernorm") == [
        "model.blocks.6",
        "├─ norm1",
        "├─ attn",
        "├─ norm2",
        "└─ mlp",
        "model.norm",
    ]


def test_what_the_method_brought_is_marked_with_a_plus_and_what_it_wraps_is_not() -> None:
    assert drawing("lora", targets=("q",))[2:8] == [
        "├─ attn",
        "│  ├─ + qkv",
        "│  │  ├─ linear",
        "│  │  └─ + updates",
        "│  │     └─ + q",
        "│  │        ├─ + down",
    ]


def test_a_layer_that_is_trained_in_part_says_which_part() -> None:
    body = anatomy.dissect(zoo.method("bitfit")(), VIT)
    lines = anatomy.draw([body.block])
    assert lines[3].split() == ["◐", "│", "├─", "qkv", "Linear", "768", "→", "2304", "(bias)", "1,771,776", "2,304"]


def test_weights_that_all_blocks_share_are_said_to_be_shared() -> None:
    body = anatomy.dissect(zoo.method("fact_tt")(), VIT)
    lines = [line for line in anatomy.draw([body.block]) if "one for all blocks" in line]
    assert {line.split()[line.split().index("+") + 1] for line in lines} == {"down", "up"}


@pytest.mark.parametrize(
    ("name", "fields", "where"),
    [
        ("lora", {}, "block 7 of 12, all of them adapted"),
        ("linear", {}, "block 7 of 12, none of them adapted"),
        ("partial", {"blocks": 2}, "block 12 of 12, 2 of them adapted"),
        ("vpt", {"deep": False}, "block 1 of 12, 1 of them adapted"),
    ],
)
def test_the_block_that_is_drawn_is_the_middle_one_or_the_last_that_is_adapted(
    name: str, fields: dict[str, Any], where: str
) -> None:
    assert anatomy.dissect(spec.make(zoo.method(name), fields, name), VIT).where == where


def test_beside_the_blocks_a_list_is_shown_by_its_middle_one() -> None:
    body = anatomy.dissect(zoo.method("hst")(), VIT)
    parts = {part.name: part.kind for part in body.outside}
    assert parts == {
        "meta": "12 x (1 x 1 x 768)",
        "entries": "4 x Sequential",
        "bridges": "4 x Linear",
        "blocks": "12 x SideBlock",
        "norms": "4 x LayerNorm",
    }
    assert [part.name for part in body.outside[3].parts] == ["6"]


def test_a_swin_is_drawn_as_well() -> None:
    assert drawing("vpt", SWIN) == [
        "model.layers.2.blocks.2",
        "├─ norm1",
        "├─ + attn",
        "│  ├─ + prompts",
        "│  ├─ attention",
        "│  ├─ norm",
        "│  └─ + dropout",
        "├─ norm2",
        "└─ mlp",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lorra"], "unknown method 'lorra'"),
        (["lora(rang=2)"], "method lora has no field 'rang'"),
        (["hst", "--backbone", SWIN], f"method hst cannot be built into backbone {SWIN}, a Swin; it supports: ViT"),
        (["lora", "--backbone", "resnet50"], "backbone 'resnet50' is neither ViT nor Swin"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", *arguments]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
