"""What a method costs on any machine: parameters, storage, arithmetic and what the backward pass must keep.

What depends on the machine is in `petlbench.speed` (time, memory) and `petlbench.meters` (energy).
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from petlbench.encoder import Encoder
from petlbench.flops import multiply_adds, shares, training_flops
from petlbench.surgery import fold, trained, trained_state


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What an adapted encoder and its head cost. FLOPs and saved bytes are those of one image, in fp32."""

    method_parameters: int
    """Weights of the encoder that require a gradient."""
    head_parameters: int
    """Weights of the head that require a gradient."""
    trainable_parameters: int
    """Both together."""
    total_parameters: int
    """All weights, the frozen ones included."""
    stored_bytes: int
    """What one more task takes on disk: a safetensors file of trained weights, running statistics and head."""
    flops: int
    """Multiply-adds of one forward pass. See `petlbench.flops` for what is counted."""
    flops_folded: int
    """The same after merging whatever can be merged."""
    training_flops: int
    """FLOPs of one forward and backward pass in torch's unit: **two** per multiply-add, norms left out."""
    saved_bytes: int
    """What autograd keeps of the forward pass for the backward pass, beside weights and buffers of the network.
    It grows with the batch, and with it the memory of training."""
    encoder_flops: int | None = None
    """Of `flops`, those of the encoder; the head has the rest. None in what was counted before this was."""


def count(encoder: Encoder, head: nn.Module, images: Tensor, *, large: bool = False) -> Counts:
    """Count the costs of an encoder and a head for one image (1, 3, H, W).

    Works on a copy on the CPU, so that every machine counts the same, and so that the network, its running statistics
    and torch's random state stay as they are. For `large` images, training FLOPs are counted without computing, on
    torch's meta device: to keep the attention of a ViT-B over 1344 x 800 pixels for the backward pass takes tens of
    gigabytes. Raises `petlbench.flops.UncountedOperator` for arithmetic without a rule.
    """
    method, classifier = (sum(weight.numel() for weight in trained(part)) for part in (encoder, head))
    network, images = deepcopy(Network(encoder, head)).cpu(), images.cpu().clone()
    total = sum(weight.numel() for weight in network.parameters())
    with torch.random.fork_rng(devices=[]):
        _train_mode(network)
        saved = _saved_bytes(network, images)
        to_train = (deepcopy(network).to("meta"), images.to("meta")) if large else (network, images)
        training = training_flops(*to_train)
        network.eval()
        parts = shares(network, images)
        folded = multiply_adds(fold(network), images) if foldable(network) else parts[""]
    return Counts(
        method_parameters=method,
        head_parameters=classifier,
        trainable_parameters=method + classifier,
        total_parameters=total,
        stored_bytes=_stored_bytes(encoder, head),
        flops=parts[""],
        flops_folded=folded,
        training_flops=training,
        saved_bytes=saved,
        encoder_flops=parts["encoder"],
    )


def ppt(accuracy: float, parameters: int) -> float:
    """Performance-parameter trade-off: the accuracy, discounted by the weights that had to be trained.

    accuracy * exp(-log10(parameters / 1e7 + 1)), as V-PETL Bench (Xin et al., 2024) defines it; parameters without
    the head. The unit is that of the accuracy.
    """
    return accuracy * math.exp(-math.log10(parameters / 1e7 + 1))


class Network(nn.Module):
    """An encoder with its head: images (B, 3, H, W) to outputs."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.encoder(images))
        return outputs


def foldable(root: nn.Module) -> bool:
    """Whether `petlbench.surgery.fold` would change anything."""
    return any(callable(getattr(module, "fold", None)) for module in root.modules())


def _train_mode(network: nn.Module) -> None:
    """Training mode, except for batch norms: one image has no statistics of a batch."""
    network.train()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def _saved_bytes(network: nn.Module, images: Tensor) -> int:
    """Bytes of all storages that autograd saves in one forward pass and that the network does not own anyway.

    A tensor that several operators save counts once, as it takes its memory once. A view keeps the whole tensor it
    looks into: a head on the class token keeps all tokens.
    """
    owned = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}  # holds the storages, so that no address is used twice

    def keep(tensor: Tensor) -> None:  # returning the tensor, for a backward pass, would tie it into a cycle for good
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            saved[storage.data_ptr()] = storage

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda nothing: nothing):
        network(images)
    return sum(storage.nbytes() for storage in saved.values())


def _stored_bytes(encoder: Encoder, head: nn.Module) -> int:
    """Length of the safetensors file that turns the frozen backbone into this encoder with its head."""
    state = {f"encoder.{name}": value for name, value in trained_state(encoder).items()}
    state |= {f"head.{name}": value for name, value in trained_state(head).items()}
    return len(save({name: value.contiguous().clone() for name, value in state.items()}))
