"""NOAH: how many prompts, which rank and which bottleneck each block gets is found by an evolutionary search.

Every block has three modules: prompts (VPT, deep), a low-rank update of the joint q, k and v (LoRA) and a bottleneck
behind the MLP (Adapter). First all sub-nets are trained at once as parts of the largest, another random one in every
step. Then a population of sub-nets is scored with these weights on images that were held out, and evolves. Then the
best is trained by itself from the start.

The official code has an input prompt that is overwritten at once, and draws anew what LoRA and the bottleneck had been
initialised with; neither is so here, B of LoRA starts at zero. There the last generation is scored but never chosen
from; here it is not made.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from petlbench import blocks
from petlbench.encoder import Encoder, ViT
from petlbench.errors import InputError
from petlbench.method import Method, Paper
from petlbench.recipe import MINI, PETL_VIT

if TYPE_CHECKING:
    from petlbench.trial import Trial

Sizes = tuple[int, ...]
"""A size for each block; 0 is no module."""


class Subnet(NamedTuple):
    """The sizes of the three modules in every block."""

    prompts: Sizes
    ranks: Sizes
    bottlenecks: Sizes


@dataclass(frozen=True, kw_only=True)
class NOAH(Method):
    """Trains a supernet, searches a sub-net in it, and trains that, unless all three sizes are given.

    The defaults are the official search: 500 epochs of the supernet and 15 generations, each scoring 50 sub-nets.
    For a laptop and the suite mini there is `noah(supernet_epochs=8, supernet_lr=0.003, population=8, parents=4,
    crossovers=4, mutations=4, generations=3)`. What was found, the encoder's `subnet`, can be trained again by itself:
    `noah(prompts=(10, 5, 0), ranks=(5, 5, 1), bottlenecks=(1, 0, 0))`, if the backbone has three blocks.
    """

    family = "mixed"
    paper = Paper(
        title="Neural Prompt Search",
        authors="Yuanhan Zhang and Kaiyang Zhou and Ziwei Liu",
        year=2022,
        arxiv="2206.04673",
        code="ZhangYuanhan-AI/NOAH",
    )
    recipes = {
        "vtab": with_(
            PETL_VIT,
            source="ZhangYuanhan-AI/NOAH (e9c55f3) configs/NOAH, the re-training of the sub-net",
            cooldown_epochs=10,
        ),
        "mini": with_(MINI, lr=1e-2),
    }
    evaluate_every = 10  # as the official code, which prints the best of them

    prompts: Sizes = ()
    """Prompts of each block; empty to search."""
    ranks: Sizes = ()
    """Rank of the update of each block."""
    bottlenecks: Sizes = ()
    """Inner width of the adapter of each block."""

    sizes: Sizes = (1, 5, 10)
    """Sizes that a module may have in a block."""
    depths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """Shares of the blocks, from the first on, that may have a module."""
    limit: int = 640_000
    """Weights that a sub-net may have at most."""
    supernet_epochs: int = 500
    """Epochs in which the supernet is trained."""
    supernet_lr: float = 5e-4
    """Learning rate of that training."""
    generations: int = 15
    """How often the population is renewed."""
    population: int = 50
    """Sub-nets in a generation; what parents did not make is random."""
    parents: int = 10
    """Best sub-nets so far, from which new ones are made."""
    crossovers: int = 25
    """New sub-nets that take each kind of module from one of two parents."""
    mutations: int = 25
    """New sub-nets that differ from one parent."""
    dropout: float = 0.1
    """In front of the low-rank updates and within the adapters, while training."""

    def __post_init__(self) -> None:
        if len({len(sizes) for sizes in self.subnet}) > 1:
            raise InputError("noah: prompts, ranks and bottlenecks must be given together, with as many sizes each")
        if any(size < 0 for sizes in self.subnet for size in sizes):
            raise InputError("noah: the sizes of a sub-net must be 0 or more")
        if not self.sizes or min(self.sizes) < 1:
            raise InputError(f"noah: sizes={self.sizes} must be 1 or more")
        if not self.depths or not all(0 < share <= 1 for share in self.depths):
            raise InputError(f"noah: depths={self.depths} must be shares above 0 and up to 1")
        for name in ("supernet_epochs", "generations", "population", "parents"):
            if getattr(self, name) < 1:
                raise InputError(f"noah: {name}={getattr(self, name)} must be at least 1")

    @property
    def subnet(self) -> Subnet:
        """The sub-net that was given, empty if it is to be found."""
        return Subnet(self.prompts, self.ranks, self.bottlenecks)

    def attach(self, vit: ViT) -> Encoder:
        largest = Subnet(*[(max(self.sizes),) * vit.depth] * 3)
        subnet = self.subnet if self.prompts else largest
        if len(subnet.prompts) != vit.depth:
            raise InputError(f"noah: the sub-net has {len(subnet.prompts)} blocks, the backbone {vit.depth}")
        return Supernet(vit, subnet, self.dropout)

    def fit(self, trial: Trial) -> None:
        if not self.prompts:
            supernet = trial.encoder
            assert isinstance(supernet, Supernet)
            initial = trial.state()
            subnet = self.search(trial, supernet)
            trial.restore(initial)
            supernet.cut(subnet)
            trial.found = {name: list(sizes) for name, sizes in subnet._asdict().items()}
        trial.fit()

    def search(self, trial: Trial, supernet: Supernet) -> Subnet:
        """The best sub-net on a fifth of the training images, with the weights of a supernet trained on the others."""
        train, held_out = trial.split()
        space = self.space(supernet.depth, random.Random(torch.initial_seed()))  # the seed of the run
        supernet.draw = space.draw
        # Epochs even where the recipe counts steps: these are for the training of one sub-net.
        train.fit(with_(trial.recipe, epochs=self.supernet_epochs, steps=None, lr=self.supernet_lr))
        supernet.draw = None

        def score(subnet: Subnet) -> float | None:
            if supernet.count(subnet) > self.limit:
                return None
            supernet.use(subnet)
            return held_out.score()

        return self.evolve(space, score)

    def space(self, depth: int, chance: random.Random) -> Space:
        """The sub-nets of a backbone of so many blocks."""
        return Space(depth, self.sizes, self.depths, chance)

    def evolve(self, space: Space, score: Callable[[Subnet], float | None]) -> Subnet:
        """The best of all sub-nets in all generations; `score` gives None for one that is not allowed."""
        scores: dict[Subnet, float] = {}

        def add(number: int, make: Callable[[], Subnet]) -> None:
            """Score so many new sub-nets, or fewer if ten times as many tries do not find them."""
            wanted = len(scores) + number
            for _ in range(10 * number):
                if len(scores) == wanted:
                    break
                subnet = make()
                if subnet not in scores and (found := score(subnet)) is not None:
                    scores[subnet] = found

        def best(number: int) -> list[Subnet]:
            return sorted(scores, key=lambda subnet: -scores[subnet])[:number]

        add(self.population, space.draw)
        if not scores:
            raise InputError(f"noah: limit={self.limit}: no sub-net has so few weights; make it or `sizes` fit")
        for _ in range(self.generations - 1):
            parents, before = best(self.parents), len(scores)
            add(self.mutations, partial(space.mutate, parents))
            add(self.crossovers, partial(space.cross, parents))
            add(self.population - (len(scores) - before), space.draw)
        return best(1)[0]


@dataclass(frozen=True)
class Space:
    """The sub-nets that can be drawn, and how one or two make another."""

    blocks: int
    sizes: Sizes
    depths: tuple[float, ...]
    chance: random.Random

    def draw(self) -> Subnet:
        """Any sub-net."""
        return Subnet(*(self.grown((), self.depth()) for _ in Subnet._fields))

    def mutate(self, parents: Sequence[Subnet]) -> Subnet:
        """One of the parents, with another depth for each kind of module with a probability of 0.2 * 0.4."""
        parent, chance = self.chance.choice(parents), self.chance.random
        return Subnet(*(self.grown(sizes, self.depth()) if chance() < 0.2 * 0.4 else sizes for sizes in parent))

    def cross(self, parents: Sequence[Subnet]) -> Subnet:
        """Each kind of module from one of two parents."""
        pair = self.chance.choices(parents, k=2)
        return Subnet(*(self.chance.choice(sizes) for sizes in zip(*pair, strict=True)))

    def depth(self) -> int:
        """A number of blocks that have a module."""
        return max(1, round(self.chance.choice(self.depths) * self.blocks))

    def grown(self, sizes: Sizes, depth: int) -> Sizes:
        """Sizes of so many blocks, random where there were none, and zeros behind them."""
        kept = [size for size in sizes if size][:depth]
        new = [self.chance.choice(self.sizes) for _ in range(depth - len(kept))]
        return (*kept, *new, *[0] * (self.blocks - depth))


class Supernet(ViT):
    """A ViT whose blocks have the three modules, all or a part of each in use."""

    def __init__(self, vit: ViT, largest: Subnet, dropout: float) -> None:
        super().__init__(vit.model)
        self.draw: Callable[[], Subnet] | None = None
        """Where sub-nets come from while the supernet is trained, another one for each forward pass."""
        for index, sizes in enumerate(zip(*largest, strict=True)):
            self.blocks[index] = SearchedBlock(self.blocks[index], *sizes, self.patch, dropout)

    def stream(self, images: Tensor) -> Iterator[Tensor]:
        if self.training and self.draw is not None:
            self.use(self.draw())
        yield from super().stream(images)

    @property
    def subnet(self) -> Subnet:
        """The sizes in use."""
        return Subnet(*(tuple(module.size for module in modules) for modules in self.kinds()))

    def use(self, subnet: Subnet) -> None:
        """Use a part of each module."""
        for module, size in self.sized(subnet):
            module.size = size

    def cut(self, subnet: Subnet) -> None:
        """Throw away what the sub-net does not use."""
        for module, size in self.sized(subnet):
            module.cut(size)

    def count(self, subnet: Subnet) -> int:
        """Weights of a sub-net."""
        return sum(module.count(size) for module, size in self.sized(subnet))

    def sized(self, subnet: Subnet) -> Iterator[tuple[Elastic, int]]:
        """Every module with its size in a sub-net."""
        for modules, sizes in zip(self.kinds(), subnet, strict=True):
            yield from zip(modules, sizes, strict=True)

    def kinds(self) -> Iterator[list[Elastic]]:
        """The modules of each kind, block by block."""
        searched: Any = list(self.blocks)
        yield [block.prompts for block in searched]
        yield [block.block.attn.qkv for block in searched]
        yield [block.adapter for block in searched]


class SearchedBlock(nn.Module):
    """A block with prompts behind its tokens, LoRA on q, k, v and an adapter behind its MLP: (B, N, D) -> (B, N, D)."""

    def __init__(self, block: Any, prompts: int, rank: int, bottleneck: int, patch: int, dropout: float) -> None:
        super().__init__()
        blocks.check(block)
        self.block = block
        width = block.attn.qkv.in_features
        self.prompts = Prompts(width, prompts, math.sqrt(6 / (3 * patch**2 + width)), dropout)
        block.attn.qkv = LowRankLinear(block.attn.qkv, rank, dropout)
        self.adapter = Adapter(width, bottleneck, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        own = tokens.shape[1]
        tokens = self.prompts(tokens)
        tokens = tokens + blocks.attention(self.block, tokens)
        return (tokens + self.adapter(blocks.mlp(self.block, tokens)))[:, :own]


class Elastic(nn.Module):
    """A module of which a part can be used; with size 0 it does nothing."""

    elastic: ClassVar[Mapping[str, int]]
    """Dimension of each weight that grows with the size."""

    def __init__(self, size: int, **weights: Tensor) -> None:
        super().__init__()
        self.size = size
        for name, weight in weights.items():
            self.register_parameter(name, nn.Parameter(weight))
        if not size:
            self.cut(0)

    def part(self, name: str) -> Tensor:
        """What is used of a weight."""
        return self.get_parameter(name).narrow(self.elastic[name], 0, self.size)

    def cut(self, size: int) -> None:
        """Keep only what a size uses."""
        self.size = size
        for name, _ in list(self.named_parameters(recurse=False)):
            if not size:
                setattr(self, name, None)
            elif name in self.elastic:
                setattr(self, name, nn.Parameter(self.part(name).detach().clone()))

    def count(self, size: int) -> int:
        """Weights that a size uses."""
        if not size:
            return 0
        named = self.named_parameters(recurse=False)
        return sum(w.numel() * size // w.shape[self.elastic[n]] if n in self.elastic else w.numel() for n, w in named)


class Prompts(Elastic):
    """Learned tokens behind those of the image: (B, N, D) -> (B, N + size, D)."""

    elastic = {"tokens": 0}

    def __init__(self, width: int, size: int, bound: float, dropout: float) -> None:
        super().__init__(size, tokens=torch.empty(size or 1, width).uniform_(-bound, bound))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        if not self.size:
            return tokens
        return torch.cat([tokens, self.dropout(self.part("tokens")).expand(len(tokens), -1, -1)], dim=1)


class LowRankLinear(Elastic):
    """A linear layer with a low-rank update, zero at the start."""

    elastic = {"down": 0, "up": 1}

    def __init__(self, layer: nn.Linear, size: int, dropout: float) -> None:
        down = nn.Linear(layer.in_features, size or 1).weight.detach()  # as torch draws it, like the paper's code
        super().__init__(size, down=down, up=torch.zeros(layer.out_features, size or 1))
        self.linear = layer
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.linear(inputs)
        if not self.size:
            return outputs
        return outputs + linear(linear(self.dropout(inputs), self.part("down")), self.part("up"))

    def fold(self) -> nn.Linear:
        """The linear layer with the update in its weight."""
        if self.size:
            with torch.no_grad():
                self.linear.weight += self.part("up") @ self.part("down")
        return self.linear


class Adapter(Elastic):
    """What it reads, and what a bottleneck makes of it: (..., D) -> (..., D)."""

    elastic = {"down": 0, "down_bias": 0, "up": 1}

    def __init__(self, width: int, size: int, dropout: float) -> None:
        down, up = torch.empty(size or 1, width), torch.empty(width, size or 1)
        nn.init.xavier_uniform_(down)
        nn.init.xavier_uniform_(up)
        biases = {"down_bias": 1e-6 * torch.randn(size or 1), "up_bias": 1e-6 * torch.randn(width)}
        super().__init__(size, down=down, up=up, **biases)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.size:
            return inputs
        inner = linear(inputs, self.part("down"), self.part("down_bias"))
        inner = inner * torch.sigmoid(1.702 * inner)  # CLIP's approximation of GELU
        return inputs + linear(self.dropout(inner), self.part("up"), self.get_parameter("up_bias"))
