"""The interface of a method: a frozen dataclass that builds itself into a frozen backbone."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from petlbench.recipe import Recipe

if TYPE_CHECKING:
    from petlbench.encoder import Encoder
    from petlbench.trial import Trial

Family = Literal["reference", "selective", "prompt", "adapter", "reparameterization", "side", "mixed"]
"""What a method does to a backbone: nothing new (the ends of the scale), train some of its weights, add tokens, add
modules to its blocks, add to its weights (and fold), run a network beside it, or several of these."""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Where a method or a suite comes from."""

    title: str
    authors: str
    """As BibTeX wants them: "First Last and First Last"."""
    year: int
    venue: str = ""
    """Conference or journal, empty for a preprint."""
    arxiv: str = ""
    """arXiv identifier, such as "2310.05393"."""
    code: str = ""
    """Official code on GitHub, as "owner/name"; empty where there is none."""

    @property
    def bibtex(self) -> str:
        """The entry for a bibliography; its key is surname, year and first word of the title, all in lower case."""
        surname = self.authors.split(" and ")[0].split()[-1]
        word = next(word for word in self.title.split() if len(word) > 3)
        key = "".join(letter for letter in f"{surname}{self.year}{word}".lower() if letter.isalnum())
        fields = {"title": f"{{{self.title}}}", "author": self.authors, "year": str(self.year)}
        if self.venue:
            fields["booktitle"] = self.venue
        if self.arxiv:
            fields |= {"eprint": self.arxiv, "archivePrefix": "arXiv"}
        fields = {name: re.sub(r"(?<!\\)&", r"\\&", value) for name, value in fields.items()}  # LaTeX reads & as a tab
        body = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
        return f"@{'inproceedings' if self.venue else 'misc'}{{{key},\n{body}}}"


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A way to adapt an encoder; its fields are the method's hyper-parameters."""

    paper: ClassVar[Paper | None] = None
    """The paper that introduced it; None for folklore such as linear probing."""
    family: ClassVar[Family]
    """The shelf of the zoo it stands on."""
    printed: ClassVar[Mapping[str, float]] = {}
    """Millions of trained weights on ViT-B/16, without the head, as publications print them, by the fields they hold
    for: {"rank=8": 0.29}. Only figures that the exact count rounds to; "" stands for the defaults."""
    recipes: ClassVar[Mapping[str, Recipe]] = {}
    """Published settings by "suite" or "suite/task", each with its source."""
    grid: ClassVar[Mapping[str, Sequence[Any]]] = {}
    """Search space of the `tuned` protocol: names of fields of the method or of `Recipe`, with their values."""

    evaluate_every: ClassVar[int] = 1
    """Epochs between the evaluations of the test split, of which official code prints the best; for `paper` only."""

    @abstractmethod
    def attach(self, vit: Any) -> Encoder:
        """Build the method into a frozen backbone and return the encoder to use.

        Whatever parameter requires a gradient afterwards is trained. The annotation of `vit` says which backbones a
        method can be built into: `ViT`, or `ViT | Swin`.
        """

    def fit(self, trial: Trial) -> None:
        """Train. Override only for an algorithm with phases, such as train, prune, rewind, train."""
        trial.fit()

    @classmethod
    def backbones(cls) -> tuple[str, ...]:
        """The kinds of backbone that the annotation of `attach` names: "ViT", "Swin", or both."""
        _, vit, *_ = inspect.signature(cls.attach).parameters.values()
        return tuple(kind for kind in ("ViT", "Swin") if re.search(rf"\b{kind}\b", str(vit.annotation))) or ("ViT",)

    def recipe(self, suite: str, task: str) -> Recipe:
        """The published settings for a task: its own, else its suite's, else the defaults of `Recipe`."""
        return self.recipes.get(f"{suite}/{task}") or self.recipes.get(suite) or Recipe()

    def published(self, suite: str, task: str) -> Mapping[str, Any]:
        """Fields that the paper sets for this task alone, such as VPT's number of prompts; for `paper` only."""
        return {}
