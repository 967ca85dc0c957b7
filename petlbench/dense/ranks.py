"""The processes that train one run together: each sees its part of every batch, and all take the same step.

    batch of 8 images       process 1: images 1 to 4 -> its share of the loss -> gradient -- sum --> the same step
                            process 2: images 5 to 8 -> its share of the loss -> gradient ---'

The sum of the shares is the loss of the whole batch, so its gradient is that of one process with the whole batch, to
rounding; statistics of BatchNorm are taken over the whole batch too. (DistributedDataParallel takes the mean of the
gradients, wraps the network, and wants to know beforehand which weights get one; a method may change that between two
phases.) `ALONE` is one process, for which nothing of this happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

Value = TypeVar("Value")


class Released(BaseException):
    """A process that only trains is done once training is: the first one scores and records alone."""


@dataclass(frozen=True)
class Ranks:
    """Which process this is of how many."""

    rank: int = 0
    size: int = 1

    def own(self, images: int) -> range:
        """The places in a batch of so many images that this process trains on."""
        return range(self.rank * images // self.size, (self.rank + 1) * images // self.size)

    def total(self, value: float, device: str) -> float:
        """The sum of a number over all processes."""
        if self.size == 1:
            return value
        summed = torch.tensor(value, dtype=torch.float64, device=device)
        distributed.all_reduce(summed)
        return float(summed)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors over all processes, in place. They travel as one: a method may have hundreds of small ones."""
        if self.size == 1:
            return
        by_kind: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for each in tensors:
            by_kind.setdefault((each.dtype, each.device), []).append(each)
        for some in by_kind.values():
            flat = torch.cat([each.flatten() for each in some])
            distributed.all_reduce(flat)
            for each, summed in zip(some, flat.split([each.numel() for each in some]), strict=True):
                each.copy_(summed.view_as(each))

    def sum_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Sum what every process has found. A weight that only others have used has a gradient of zeros here; one
        that nobody has used keeps none, so that the optimiser leaves it alone."""
        if self.size == 1:
            return
        weights = list(weights)
        used = torch.tensor([float(weight.grad is not None) for weight in weights], device=weights[0].device)
        distributed.all_reduce(used)
        moved = [weight for weight, times in zip(weights, used.tolist(), strict=True) if times]
        for weight in moved:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        self.sum([weight.grad for weight in moved if weight.grad is not None])

    def agree(self, networks: Sequence[nn.Module], step: int) -> None:
        """Begin with the networks of the first process. Raises RuntimeError where the others are somewhere else."""
        if self.size == 1:
            return
        names = [name for each in networks for name, weight in each.named_parameters() if weight.requires_grad]
        told: list[Any] = [None] * self.size
        distributed.all_gather_object(told, (step, names))
        if any(each != told[0] for each in told):
            raise RuntimeError("the processes of this run do not train the same weights from the same step on")
        with torch.no_grad():
            for each in networks:
                for tensor in each.state_dict().values():
                    if not isinstance(tensor, Tensor):
                        continue
                    whole = tensor.contiguous()
                    distributed.broadcast(whole, src=0)
                    tensor.copy_(whole)

    def first(self, make: Callable[[], Value]) -> Value:
        """What the first process makes, for all."""
        if self.size == 1:
            return make()
        told: list[Any] = [make() if self.rank == 0 else None]
        distributed.broadcast_object_list(told, src=0)
        return told[0]

    @contextmanager
    def chance(self, *seed: int) -> Iterator[None]:
        """Draw from torch's generators as no other process does, which dropout needs; behind the block all processes
        have the same ones as before, with which a method may decide something."""
        if self.size == 1:
            yield
            return
        cuda = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
        with torch.random.fork_rng(cuda):
            torch.manual_seed(int(np.random.default_rng([*seed, self.rank]).integers(2**62)))
            yield

    @contextmanager
    def whole_batches(self, networks: Sequence[nn.Module]) -> Iterator[None]:
        """Let every BatchNorm that is in training mode take its statistics over the batch of all processes."""
        norms = [
            module for each in networks for module in each.modules() if self.size > 1 and isinstance(module, _BatchNorm)
        ]
        for norm in norms:
            norm.forward = partial(batch_norm, norm)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for norm in norms:
                del norm.forward


ALONE = Ranks()


def ranks() -> Ranks:
    """Where this process stands: alone, unless `petlbench.crew` has called others."""
    if distributed.is_available() and distributed.is_initialized():
        return Ranks(distributed.get_rank(), distributed.get_world_size())
    return ALONE


def batch_norm(norm: _BatchNorm, x: Tensor) -> Tensor:
    """BatchNorm of (B, C, ...) over the images of all processes. (torch's SyncBatchNorm knows CUDA only.)"""
    if not norm.training:
        return type(norm).forward(norm, x)
    wide, over = x.float(), [axis for axis in range(x.ndim) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
    own = wide.new_tensor([x.numel() / x.shape[1]])
    summed = Summed.apply(torch.cat([wide.sum(over), own]))
    count, mean = summed[-1].detach(), summed[:-1] / summed[-1].detach()
    centred = wide - mean.view(shape)
    variance = Summed.apply(centred.square().sum(over)) / count
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        with torch.no_grad():
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked += 1
            momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean.to(norm.running_mean), momentum)
            norm.running_var.lerp_((variance * count / (count - 1)).to(norm.running_var), momentum)
    normal = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        normal = normal * norm.weight.float().view(shape) + norm.bias.float().view(shape)
    return normal.to(x.dtype)


class Summed(torch.autograd.Function):
    """The sum over all processes. Each of them has used it, so its gradient is the sum of all of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        summed = x.clone()
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone()
        distributed.all_reduce(summed)
        return summed
