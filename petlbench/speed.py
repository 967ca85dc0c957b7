"""What a method costs on one machine: images per second and peak memory, in training and in inference."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from petlbench.encoder import Encoder
from petlbench.measure import Network, foldable
from petlbench.meters import PeakMemory, synchronize
from petlbench.surgery import fold, trained

Precision = Literal["fp32", "bf16", "fp16"]


SLOW = 2.0
"""Seconds of an inference step from which on repeats are few."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Throughput and memory, to be compared only with figures of the same machine.

    A rate is that of the median step; its spread is the distance between the quartiles as a part of the median.
    """

    device: str
    """Kind of device, "cpu" or "cuda"; which one is in `petlbench.machine`."""
    threads: int
    """Threads that torch uses on the CPU."""
    precision: Precision
    """Arithmetic; below fp32 by autocast."""
    image_size: int | None
    """Height and width; None for images that are not square."""
    batch_size: int
    """Images per step, except for the latency."""
    warmup: int
    """Steps in front of each measurement that do not count."""
    repeats: int
    """Steps that do."""
    train_images_per_second: float
    """Forward, loss, backward and AdamW over what requires a gradient. Loading of images is left out."""
    train_spread: float
    inference_images_per_second: float
    inference_spread: float
    folded_images_per_second: float
    """Inference after merging whatever can be merged; plain inference where nothing can."""
    folded_spread: float
    latency_ms: float
    """Inference of a single image."""
    latency_spread: float
    memory_kind: str
    """What the peaks are: "cuda allocated", or "process resident (...)" with what reported it."""
    train_memory_bytes: int
    """Peak over the training steps."""
    inference_memory_bytes: int
    """Peak over the inference steps."""
    train_reserved_bytes: int | None
    """Peak of what torch holds of the GPU, its cache included; None on a CPU."""
    inference_reserved_bytes: int | None


def speed(
    encoder: Encoder,
    head: nn.Module,
    *,
    image_size: int,
    classes: int,
    batch_size: int,
    device: torch.device,
    precision: Precision = "fp32",
    repeats: int = 10,
    warmup: int = 3,
) -> Speed:
    """Time a classifier: training and inference on random images, and the peaks of memory. See `timing`."""
    network = Network(encoder, head)
    source = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, image_size, image_size, generator=source)
    labels = torch.randint(classes, (batch_size,), generator=source)

    def loss(images: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(images), labels.to(images.device))

    return timing(network, images, loss, device=device, precision=precision, repeats=repeats, warmup=warmup)


def timing(
    network: nn.Module,
    images: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    device: torch.device,
    precision: Precision = "fp32",
    repeats: int = 10,
    warmup: int = 3,
) -> Speed:
    """Time training and inference of a network on a batch of images, and read the peaks of memory.

    Inference is `network(images)`; a step of training is the `loss` of the images, backward and AdamW.

    Call it in a fresh process, since the memory includes what the process holds already, and call it last: the
    network moves to the device and its batch norms see random images. No weight changes. Where a step takes seconds,
    as a large model's on a CPU, there are fewer repeats; the result says how many there were.
    """
    network, images = network.to(device), images.to(device)
    batch_size, _, height, width = images.shape

    network.eval()
    step_seconds, _ = _timed(_inference(network, images, precision), device, warmup=0, repeats=1)
    if step_seconds > SLOW:
        warmup, repeats = min(warmup, 1), min(repeats, 3)

    def timed(step: Callable[[], object]) -> tuple[float, float]:
        return _timed(step, device, warmup=warmup, repeats=repeats)

    peak = PeakMemory(device)
    inference, inference_spread = timed(_inference(network, images, precision))
    inference_memory, inference_reserved = peak.read()
    latency, latency_spread = timed(_inference(network, images[:1], precision))

    network.train()
    peak = PeakMemory(device)
    training, train_spread = timed(_training(network, images, loss, precision))
    train_memory, train_reserved = peak.read()
    network.zero_grad(set_to_none=True)

    network.eval()
    folded, folded_spread = inference, inference_spread
    if foldable(network):  # last, as the copy would count as memory of the others
        folded, folded_spread = timed(_inference(fold(deepcopy(network)), images, precision))
    return Speed(
        device=device.type,
        threads=torch.get_num_threads(),
        precision=precision,
        image_size=height if height == width else None,
        batch_size=batch_size,
        warmup=warmup,
        repeats=repeats,
        train_images_per_second=batch_size / training,
        train_spread=train_spread,
        inference_images_per_second=batch_size / inference,
        inference_spread=inference_spread,
        folded_images_per_second=batch_size / folded,
        folded_spread=folded_spread,
        latency_ms=1000 * latency,
        latency_spread=latency_spread,
        memory_kind=peak.kind,
        train_memory_bytes=train_memory,
        inference_memory_bytes=inference_memory,
        train_reserved_bytes=train_reserved,
        inference_reserved_bytes=inference_reserved,
    )


def _inference(network: nn.Module, images: Tensor, precision: Precision) -> Callable[[], object]:
    """One step of inference over the images."""

    @torch.inference_mode()
    def step() -> None:
        with _autocast(images.device, precision):
            network(images)

    return step


def _training(
    network: nn.Module, images: Tensor, loss: Callable[[Tensor], Tensor], precision: Precision
) -> Callable[[], object]:
    """One step of training over the images. A learning rate of zero costs the same and leaves the weights alone."""
    optimizer = torch.optim.AdamW(list(trained(network)), lr=0.0, fused=True)
    scaler = torch.amp.GradScaler(images.device.type, enabled=precision == "fp16")

    def step() -> None:
        optimizer.zero_grad()
        with _autocast(images.device, precision):
            found = loss(images)
        scaler.scale(found).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def _autocast(device: torch.device, precision: Precision) -> torch.autocast:
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def _timed(step: Callable[[], object], device: torch.device, *, warmup: int, repeats: int) -> tuple[float, float]:
    """Median seconds of a step, and the distance between the quartiles as a part of it."""
    for _ in range(warmup):
        step()
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        step()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    if repeats == 1:
        return seconds[0], 0.0
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return median, (high - low) / median
