"""The interface of a method: a frozen dataclass that builds itself into a frozen backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from petlbench.recipe import Recipe

if TYPE_CHECKING:
    from petlbench.encoder import Encoder, ViT
    from petlbench.trial import Trial


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
        body = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
        return f"@{'inproceedings' if self.venue else 'misc'}{{{key},\n{body}}}"


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A way to adapt an encoder; its fields are the method's hyper-parameters."""

    paper: ClassVar[Paper | None] = None
    """The paper that introduced it; None for folklore such as linear probing."""
    recipes: ClassVar[Mapping[str, Recipe]] = {}
    """Published settings by "suite" or "suite/task", each with its source."""
    grid: ClassVar[Mapping[str, Sequence[Any]]] = {}
    """Search space of the `tuned` protocol: names of fields of the method or of `Recipe`, with their values."""

    evaluate_every: ClassVar[int] = 1
    """Epochs between the evaluations of the test split, of which official code prints the best; for `paper` only."""

    @abstractmethod
    def attach(self, vit: ViT) -> Encoder:
        """Build the method into a frozen ViT and return the encoder to use.

        Whatever parameter requires a gradient afterwards is trained.
        """

    def fit(self, trial: Trial) -> None:
        """Train. Override only for an algorithm with phases, such as train, prune, rewind, train."""
        trial.fit()

    def recipe(self, suite: str, task: str) -> Recipe:
        """The published settings for a task: its own, else its suite's, else the defaults of `Recipe`."""
        return self.recipes.get(f"{suite}/{task}") or self.recipes.get(suite) or Recipe()

    def published(self, suite: str, task: str) -> Mapping[str, Any]:
        """Fields that the paper sets for this task alone, such as VPT's number of prompts; for `paper` only."""
        return {}
