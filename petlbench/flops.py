"""Counts the arithmetic of a network without guessing: every operator is counted, listed as free, or an error."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import log2, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

Handle = Callable[[list[Any], list[Any]], float]
"""What fvcore calls to count one operator, with the traced values that go into and come out of it."""


class UncountedOperator(RuntimeError):  # noqa: N818  named after what it reports
    """A network uses an operator that is neither counted nor listed in `FREE`."""


def multiply_adds(network: nn.Module, images: Tensor) -> int:
    """Multiply-adds of one forward pass, counted by fvcore: 17.58 G for ViT-B/16 at 224.

    A multiplication and the addition of its product count as one. Matrix products, convolutions and attention are
    exact, except that biases are left out; norms, pooling and interpolation are estimated by a few operations per
    value, as fvcore does; `FREE` counts nothing. A function with a backward pass of its own counts what its forward
    pass does. Raises UncountedOperator for any other operator.
    """
    return shares(network, images)[""]


def shares(network: nn.Module, images: Tensor) -> dict[str, int]:
    """`multiply_adds` of a network, under "", and of each of its modules, under the module's path."""
    with torch.no_grad(), _without_jit_warnings(), _open_functions():
        from fvcore.nn import FlopCountAnalysis  # inside the filter: importing it already calls torch.jit

        analysis = FlopCountAnalysis(network, images)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.set_op_handle(**_handles())
        for name in FREE:
            analysis.set_op_handle(f"aten::{name}", None, f"aten::{name}_", None)
        found = analysis.by_module()
    if uncounted := sorted(analysis.unsupported_ops()):
        raise UncountedOperator(f"nothing says how to count {', '.join(uncounted)}: see FREE and _handles in flops.py")
    return {path: int(count) for path, count in found.items()}


def training_flops(network: nn.Module, images: Tensor) -> int:
    """FLOPs of one forward and backward pass, counted by torch's FlopCounterMode; leaves gradients behind.

    Mind the unit: torch counts a multiply-add as **two** FLOPs, so half of this compares with `multiply_adds`. Torch
    leaves out norms, pooling and interpolation (0.1 % of a ViT-B/16). Attention is counted by its textbook products,
    whatever kernel the machine has: fused ones repeat one of the products in the backward pass.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(images).sum().backward()
    return int(counter.get_total_flops())


# fmt: off
FREE = (
    # Arithmetic on single values: one operation per value, where a matrix product spends hundreds.
    "add", "sub", "rsub", "mul", "div", "neg", "reciprocal", "pow", "square", "sqrt", "rsqrt", "exp", "log", "sin",
    "cos", "abs", "sign", "round", "ceil", "clamp_min", "clamp_max", "lerp", "addcmul", "maximum", "minimum",
    "kron", "outer",  # each of their values is one product, with nothing to add
    # Activations: likewise, and by the convention of every table in the field.
    "gelu", "silu", "sigmoid", "tanh", "relu6", "hardtanh", "hardswish", "hardsigmoid", "elu", "leaky_relu", "prelu",
    "softplus", "softmax", "log_softmax",
    # Sums over values: additions without multiplications, or with one per value.
    "sum", "mean", "var", "std", "cumsum", "norm", "linalg_norm",
    "linalg_vector_norm", "scatter_add",
    # Comparisons and sorting.
    "amax", "amin", "min", "argmax", "topk", "sort", "argsort", "lt", "le", "ne", "where", "logical_not",
    "logical_and", "logical_or", "bitwise_and", "max_pool2d", "adaptive_max_pool2d",
    # Identities at evaluation.
    "dropout", "feature_dropout", "alpha_dropout",
    # Copies, views and constants.
    "alias", "block_diag", "broadcast_to", "clone", "col2im", "concat", "concatenate", "diag_embed", "diagonal",
    "empty_like", "expand_as", "eye", "fill", "flip", "hstack", "im2col", "index_add", "index_copy", "index_put",
    "index_select", "lift_fresh",
    "linspace", "mT", "masked_fill", "meshgrid", "movedim", "new_ones", "numel", "numpy_T", "one_hot", "ones_like",
    "pad", "pixel_shuffle", "pixel_unshuffle", "real", "repeat", "repeat_interleave", "reshape_as", "scalar_tensor",
    "scatter", "swapaxes", "take", "tensor_split", "tile", "tril", "triu", "unflatten", "unfold", "view_as",
    "vstack", "zero",
)
# fmt: on
"""Operators that count nothing, in groups with the reason; fvcore knows the commonest views and copies by itself."""


def _handles() -> dict[str, Handle]:
    """How to count what fvcore does not count, or counts only for some shapes."""
    from fvcore.nn.jit_handles import elementwise_flop_counter, norm_flop_counter

    return {
        "aten::scaled_dot_product_attention": _attention,
        "aten::matmul": _product(0),
        "aten::mv": _product(0),
        "aten::dot": _product(0),
        "aten::baddbmm": _product(1),
        "aten::einsum": _einsum,
        "aten::linalg_solve": _solve,
        "aten::fft_fft": _fourier(1),
        "aten::fft_ifft": _fourier(1),
        "aten::fft_fft2": _fourier(2),
        "aten::fft_ifft2": _fourier(2),
        "aten::rms_norm": norm_flop_counter(2),
        "aten::avg_pool2d": elementwise_flop_counter(1, 0),
        "aten::upsample_bicubic2d": elementwise_flop_counter(0, 16),
        "torchvision::roi_align": elementwise_flop_counter(0, 16),  # four points a value, each between four positions
        "aten::_upsample_bilinear2d_aa": _antialiased(4),
        "aten::_upsample_bicubic2d_aa": _antialiased(16),
    }


def _attention(inputs: list[Any], outputs: list[Any]) -> float:
    """Both products of a fused attention: queries by keys, and weights by values. fvcore leaves them out."""
    *batch, rows, size = _shape(inputs[0])
    columns, width = _shape(inputs[2])[-2:]
    return prod(batch) * rows * columns * (size + width)


def _product(first: int) -> Handle:
    """The rule for a matrix product whose left factor is input `first`: outputs times the length of the inner sum.

    Unlike fvcore's rule it holds for vectors, and for a batch that only the right factor has.
    """
    return lambda inputs, outputs: prod(_shape(outputs[0])) * _shape(inputs[first])[-1]


def _einsum(inputs: list[Any], outputs: list[Any]) -> float:
    """Contract from left to right, as torch does unaided; each step costs the product of all sizes it touches.

    fvcore's own rule rounds to four digits and assumes the best order.
    """
    shapes = [_shape(value) for value in inputs[1].node().inputs()]
    terms, result = _letters(inputs[0].toIValue().replace(" ", ""), shapes)
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))  # an ellipsis broadcasts
    total, held = 0, set(terms[0])
    for step in range(1, len(terms)):
        held |= set(terms[step])
        total += prod(sizes[letter] for letter in held)
        held &= set("".join([*terms[step + 1 :], result]))
    return total


def _letters(equation: str, shapes: list[list[int]]) -> tuple[list[str], str]:
    """The inputs and the result of an einsum, one letter per dimension: an ellipsis becomes digits, last one 0."""
    left, arrow, result = equation.partition("->")
    terms, longest = [], ""
    for term, shape in zip(left.split(","), shapes, strict=True):
        hidden = "9876543210"[10 - (len(shape) - len(term.replace("...", ""))) :]
        longest = max(longest, hidden, key=len)
        terms.append(term.replace("...", hidden))
    if not arrow:  # the result is then what occurs once, behind the ellipsis
        result = "..." + "".join(letter for letter in left if letter.isalpha() and left.count(letter) == 1)
    return terms, result.replace("...", longest)


def _solve(inputs: list[Any], outputs: list[Any]) -> float:
    """Gaussian elimination of each matrix (n^3 / 3), then n^2 for each column of the solution."""
    shape = _shape(inputs[0])
    return prod(shape) * shape[-1] / 3 + prod(_shape(outputs[0])) * shape[-1]


def _fourier(dimensions: int) -> Handle:
    """The rule for a fast transform of n values: log2(n) steps, each a complex product for every other value."""

    def count(inputs: list[Any], outputs: list[Any]) -> float:
        shape = _shape(outputs[0])
        return 2 * prod(shape) * log2(prod(shape[-dimensions:]))

    return count


def _antialiased(neighbours: int) -> Handle:
    """The rule for an interpolation that reads so many values per output, and more where it shrinks the image."""

    def count(inputs: list[Any], outputs: list[Any]) -> float:
        before, after = _shape(inputs[0]), _shape(outputs[0])
        shrinking = prod(max(1.0, old / new) for old, new in zip(before[-2:], after[-2:], strict=True))
        return neighbours * prod(after) * shrinking

    return count


def _shape(value: Any) -> list[int]:
    shape: list[int] = value.type().sizes()
    return shape


@contextmanager
def _open_functions() -> Iterator[None]:
    """Run each `torch.autograd.Function` as its plain forward pass, since a trace cannot look into the function."""

    def apply(function: Any, *inputs: Any) -> Any:
        if function.setup_context is not torch.autograd.Function.setup_context:
            return function.forward(*inputs)
        context: Any = FunctionCtx()
        context.needs_input_grad = (False,) * len(inputs)
        return function.forward(context, *inputs)

    original = vars(torch.autograd.Function)["apply"]
    setattr(torch.autograd.Function, "apply", classmethod(apply))  # noqa: B010  mypy would not have it otherwise
    try:
        yield
    finally:
        setattr(torch.autograd.Function, "apply", original)  # noqa: B010


@contextmanager
def _without_jit_warnings() -> Iterator[None]:
    """Hide that torch.jit is deprecated: fvcore has no other way to trace a network."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=r".*torch\.jit\.", category=category)
        yield
