"""Published numbers as their sources print them: where each is from, what it is called here, what is known to be wrong.

The data are in results/published of the repository, and travel with the package. Nothing in them is corrected: a known
misprint keeps its value and has a reason beside it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import pandas as pd
from pandas import DataFrame, MultiIndex, Series

from petlbench import spec, zoo
from petlbench.errors import InputError, unknown
from petlbench.frame import MEAN, further, is_mean, several, with_means
from petlbench.method import Paper
from petlbench.spec import Spec
from petlbench.suite import Suite, Task

COLUMNS = [
    "source",
    "table",
    "suite",
    "task",
    "method",
    "id",
    "label",
    "backbone",
    "pretraining",
    "metric",
    "value",
    "parameters",
    "checkpoint",
    "misprint",
    "note",
]
"""Of `load`: `method` is the spec in the zoo, or the id where the zoo has no such method; `label` is what the source
prints; `parameters` are in millions, with or without the head as the source counts; `checkpoint` is `last_epoch` or
`best_test_epoch` where the source says which it scores, else empty; `misprint` is a reason, or empty."""

ROW = ["source", "table", "method", "backbone", "pretraining", "checkpoint"]
"""What tells the published rows of a table apart."""

SPECS = {
    "vpt_deep": "vpt(deep=True)",
    "vpt_shallow": "vpt(deep=False)",
    "lora_noah_impl_r_8": "lora_noah",
    "adapter_noah_impl_h_8": "pfeiffer(activation='quick_gelu', init='normal')",
    "adaptformer_64": "adaptformer(bottleneck=64)",
    "lora_r_8": "lora(rank=8)",
    "lora_32": "lora(rank=32)",
    "lora_64": "lora(rank=64)",
    "fact_tt_r_16": "fact_tt(rank=16)",
    "fact_tk_r_32": "fact_tk(rank=32)",
    "convpass": "convpass(mlp=True)",
    "convpass_attn": "convpass(mlp=False)",
    "partial_1": "partial(blocks=1)",
    "heat_lora": "heat(ranking='global')",
    "heat_lora_layerwise": "heat(ranking='layer')",
    "frozen_linear_head": "linear",
    "full_fine_tune": "full",
}
"""Ids of the files that mean a method of the zoo under another name, or one with these fields."""
NOAHS = {
    "lora": SPECS["lora_noah_impl_r_8"],
    "adapter": SPECS["adapter_noah_impl_h_8"],
}
"""Ids that mean the rows of NOAH's table, in the sources that copied them."""
COPIED_NOAH = ("noah", "convpass", "hydra", "dyt", "v_petl_bench")

ITEMS = {
    "camelyon": "patch_camelyon",
    "retinopathy": "diabetic_retinopathy",
    "cub200": "cub",
    "oxford_flowers": "flowers",
    "stanford_dogs": "dogs",
    "stanford_cars": "cars",
    "mean": "mean_tasks",
    "mean_19": "mean_tasks",
    "mean_group3": "mean_groups",
    "mask_r_cnn_1x": "mask_rcnn_1x",
    "mask_r_cnn_3x_ms": "mask_rcnn_3x",
    "cascade_mask_r_cnn_3x_ms": "cascade_mask_rcnn_3x",
    "atss_3x_ms": "atss_3x",
    "semantic_fpn_80k": "semantic_fpn",
    "upernet_160k": "upernet",
}
"""Tasks and means whose names in the files differ from those here."""
FLOWERS = ("fgvc", "flowers102")
"""The one name that means a task of one suite in the files and of another in petlbench."""
NOTED = {
    r"(plain ViT.*; )?Mask R-CNN 1x": "mask_rcnn_1x",
    r"(plain ViT.*; )?Mask R-CNN 3x": "mask_rcnn_3x",
    r"Cascade Mask R-CNN .*3x": "cascade_mask_rcnn_3x",
    r"UperNet": "upernet",
}
"""Tasks whose detector or segmenter stands in the note of a number, by how that begins."""
NOTING = ("detection", "instance_segmentation", "semantic_segmentation")
"""What the files call such tasks."""
METRICS = {
    "top1_acc_pct_mean5": "accuracy",
    "top1_acc_pct_std5": "accuracy_std",
    **{f"ap{at}_{what}": f"{what}_ap{at}" for at in ("", "50", "75") for what in ("box", "mask")},
    "miou_ss": "miou",
    "miou_ms_flip": "miou_ms",
}
PRETRAINING = {
    r"ImageNet-2[12][Kk]( sup(ervised)?)?( \(ViT-B_16\.npz\))?|IN-22K sup": "ImageNet-21k supervised",
    r"ImageNet-21K sup \(AugReg\)": "ImageNet-21k supervised (AugReg)",
}
"""Spellings of one pre-training. Swin's ImageNet-22k is the same set of images as ImageNet-21k."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file of published numbers."""

    name: str
    paper: Paper | None
    """None for a collection, and where the bibliographic data are not known."""
    read: str
    """What the numbers were read from."""
    protocol: str
    """What is known of how they were made, and how they count weights."""
    average: str
    """Which mean the source calls its average: over "tasks" or over "groups"; empty where it has none."""

    @property
    def key(self) -> str:
        """Of its entry in a bibliography; empty without a paper."""
        return key(self.paper) if self.paper else ""


@dataclass(frozen=True)
class Rows:
    """The published rows of a table; all frames have the same rows, in the order of the sources and their tables."""

    axes: DataFrame
    """`ROW`, id, label, and parameters: their mean over the tasks, in millions."""
    values: DataFrame
    """In percent; the columns are those of `petlbench.frame.Scores` for these tasks, further metrics last. NaN where
    there is no number.

    A mean is what the source prints, or computed from the tasks where it prints none. Of a suite that the zoo does not
    have, the columns are (task, metric), without means.
    """
    misprints: DataFrame
    """Why not to trust a number, else an empty text."""
    in_zoo: bool
    """Whether the zoo has the suite, so that the columns are (group, task)."""
    left_out: int
    """Number of rows without a number of these tasks; most of them have printed means."""
    metrics: dict[str, tuple[str, ...]]
    """The metrics of every task of the zoo that shows several, its own first."""

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Group and name of every column but those of further metrics."""
        return [column for column in _titles(self.values) if column not in further(self.metrics)]


def key(paper: Paper) -> str:
    """The key of a paper's BibTeX entry."""
    return paper.bibtex.split("{", 1)[1].split(",", 1)[0]


@cache
def sources() -> dict[str, Source]:
    """All sources by name."""
    text = (_folder() / "sources.toml").read_text(encoding="utf-8")
    return {name: _source(name, facts) for name, facts in sorted(tomllib.loads(text).items())}


def load(names: Sequence[str] = ()) -> DataFrame:
    """Every number of these sources, empty for all, with `COLUMNS`. Raises InputError for an unknown source."""
    for name in names:
        if name not in sources():
            raise unknown("source of published numbers", name, sources())
    found = pd.concat([_table(f"{name}.csv").assign(source=name) for name in names or sources()], ignore_index=True)
    found["misprint"] = _misprints(found)
    found["id"] = found["method"]
    found["method"] = [_spec(*each) for each in zip(found["source"], found["id"], strict=True)]
    asked = (found[name] for name in ("source", "suite", "task", "note"))
    found["task"] = [_task(*each) for each in zip(*asked, strict=True)]
    found["metric"] = found["metric"].replace(METRICS)
    found["pretraining"] = [_pretraining(each) for each in found["pretraining"]]
    for column in ("value", "trainable_params_m"):
        found[column] = pd.to_numeric(found[column])
    here = {"method_label": "label", "trainable_params_m": "parameters", "protocol": "checkpoint"}
    return found.rename(columns=here)[COLUMNS]


def rows(
    name: str, suite: Suite | None, names: Sequence[str] = (), tasks: Sequence[str] = (), methods: Sequence[Spec] = ()
) -> Rows:
    """The published rows of the suite called `name`; `suite` is None where the zoo has none of that name.

    `names` are sources, `tasks` columns and `methods` rows, empty for all; a method is called as in the zoo or as in
    the files. Raises InputError for a name that does not exist, and where nothing is left.
    """
    found = load(names)
    found = found[found["suite"] == name]
    if methods:
        called = zip(found["method"], found["id"], strict=True)
        found = found[[any(means(each, *names_of) for each in methods) for names_of in called]]
    if found.empty:
        raise _absent(name, names, methods)
    values, reasons = _wide(found, "value"), _wide(found, "misprint").fillna("")
    made, wrong, is_there = _of_suite(values, reasons, suite, tasks) if suite else _of_any(values, reasons, tasks)
    if not is_there.any():
        raise _absent(name, names, methods)
    row = {"id": ("id", "first"), "label": ("label", "first"), "parameters": ("parameters", "mean")}
    return Rows(
        axes=found.groupby(ROW, sort=False).agg(**row)[is_there].reset_index(),
        values=made[is_there].reset_index(drop=True),
        misprints=wrong[is_there].reset_index(drop=True),
        in_zoo=suite is not None,
        left_out=int((~is_there).sum()),
        metrics=several(_tasks(suite, tasks)) if suite else {},
    )


def means(asked: Spec, method: str, id: str) -> bool:
    """Whether a person who asks for this method means a published one: `vpt` is VPT-deep and VPT-shallow."""
    if str(asked) == id:
        return True
    (here,) = spec.parse(method)
    return asked.name == here.name and all(
        here.fields.get(name, value) == value for name, value in asked.fields.items()
    )


def architecture(backbone: str) -> str:
    """What publications call the architecture of a backbone of timm, as "ViT-B/16"; empty for any other."""
    sizes = {"tiny": "T", "small": "S", "base": "B", "large": "L", "huge": "H"}
    if found := re.match(r"(?:vit|deit)_(tiny|small|base|large|huge)_patch(\d+)_\d+(\.|$)", backbone):
        return f"ViT-{sizes[found[1]]}/{found[2]}"
    found = re.match(r"swin_(tiny|small|base|large)_patch4_window7_224(\.|$)", backbone)
    return f"Swin-{sizes[found[1]]}" if found else ""


def _folder() -> Traversable:
    """The repository's own folder in a checkout; its copy in an installed package."""
    checkout = Path(__file__).parent.parent / "results" / "published"
    return checkout if checkout.is_dir() else files("petlbench") / "numbers"


def _table(name: str) -> DataFrame:
    """A file as texts, empty where a value is missing."""
    with (_folder() / name).open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)


def _source(name: str, facts: dict[str, Any]) -> Source:
    facts = {"average": "", **facts}
    own = {field: facts.pop(field) for field in ("read", "protocol", "average")}
    paper = zoo.method(facts["method"]).paper if "method" in facts else Paper(**facts) if facts else None
    return Source(name=name, paper=paper, **own)


def _misprints(found: DataFrame) -> Series:
    """The reason for every number of the files, in their words; an empty pre-training in the list stands for any."""
    listed = _table("misprints.csv")
    on = [name for name in listed if name not in ("pretraining", "reason")]
    hits = found.reset_index().merge(listed, on=on, suffixes=("", "_listed"))
    hits = hits[hits["pretraining_listed"].isin([""]) | (hits["pretraining_listed"] == hits["pretraining"])]
    return hits.groupby("index")["reason"].first().reindex(found.index).fillna("")


def _spec(source: str, id: str) -> str:
    copied = NOAHS if source in COPIED_NOAH else {}
    return copied.get(id) or SPECS.get(id) or id


def _task(source: str, suite: str, name: str, note: str) -> str:
    if name in NOTING:
        return next((task for pattern, task in NOTED.items() if re.match(pattern, note)), name)
    if name == "average" and sources()[source].average:
        return f"mean_{sources()[source].average}"
    return ITEMS["oxford_flowers"] if (suite, name) == FLOWERS else ITEMS.get(name, name)


def _pretraining(text: str) -> str:
    return next((name for pattern, name in PRETRAINING.items() if re.fullmatch(pattern, text)), text)


def _of_suite(
    values: DataFrame, reasons: DataFrame, suite: Suite, tasks: Sequence[str]
) -> tuple[DataFrame, DataFrame, Series]:
    """The columns of a suite of the zoo, for values and misprints, and which rows have a number of these tasks."""
    shown = _tasks(suite, tasks)
    titles = [task.name for task in shown]
    wanted = MultiIndex.from_tuples([(task.name, task.metric) for task in shown])
    cells = values.reindex(columns=wanted).set_axis(titles, axis=1)
    texts = reasons.reindex(columns=wanted).fillna("").set_axis(titles, axis=1)
    made = with_means(cells, shown, lambda part: part.mean(axis=1, skipna=False))
    wrong = with_means(texts, shown, _any_reason)
    if len(shown) == len(suite.tasks):  # else a printed mean is over other tasks than those shown
        for column in filter(is_mean, _titles(made)):
            printed = f"mean_{column[0] if column[1] == MEAN else column[1]}", shown[0].metric
            if printed in values:
                made[column] = values[printed].fillna(made[column])
                wrong[column] = reasons[printed].where(values[printed].notna(), wrong[column])
    if more := further(several(shown)):
        made = pd.concat([made, values.reindex(columns=MultiIndex.from_tuples(more))], axis=1)
        wrong = pd.concat([wrong, reasons.reindex(columns=MultiIndex.from_tuples(more)).fillna("")], axis=1)
    return made, wrong, made.notna().any(axis=1) if more else cells.notna().any(axis=1)


def _tasks(suite: Suite, names: Sequence[str]) -> list[Task]:
    return [suite.task(name) for name in names] or list(suite.tasks)


def _of_any(values: DataFrame, reasons: DataFrame, tasks: Sequence[str]) -> tuple[DataFrame, DataFrame, Series]:
    """The same for a suite of which nothing else is known. Raises InputError for a task that is not there."""
    known = list(dict.fromkeys(task for task, _ in _titles(values)))
    for task in tasks:
        if task not in known:
            raise unknown("task", task, known)
    chosen = [column for column in _titles(values) if not tasks or column[0] in tasks]
    return values[chosen], reasons[chosen], values[chosen].notna().any(axis=1)


def _absent(name: str, names: Sequence[str], methods: Sequence[Spec]) -> InputError:
    everything = load()
    having = ", ".join(everything.loc[everything["suite"] == name, "source"].unique()) or "none"
    asked = f"{name} with {', '.join(map(str, methods))}" if methods else name
    where = ", ".join(names) or "any source"
    return InputError(f"no published number of {asked} in {where}; sources with numbers of {name}: {having}")


def _wide(found: DataFrame, values: str) -> DataFrame:
    """One row per published row, one column per task and metric, both in the order of the files."""
    order = found.groupby(ROW, sort=False).size().index
    columns = found.groupby(["task", "metric"], sort=False).size().index
    cells = found.groupby([*ROW, "task", "metric"])[values].first().unstack(["task", "metric"])
    return cells.reindex(index=order, columns=columns)


def _any_reason(part: DataFrame) -> Series:
    """What a mean suffers from: the first reason among its parts."""
    return part.apply(lambda texts: next((f"computed with a misprint: {text}" for text in texts if text), ""), axis=1)


def _titles(cells: DataFrame) -> list[tuple[str, str]]:
    columns: Any = cells.columns
    return list(columns)
