"""The ops as functions, with PyTorch's names and argument order. Images are (N, H, W, C), conv weights (K, R, S, C/groups)."""

from __future__ import annotations

from collections.abc import Sequence

from minicnn import ops
from minicnn.errors import OpError
from minicnn.tensor import Tensor


def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors one behind another along `axis`. Raises OpError where other extents differ, or without a tensor."""
    if not tensors:
        raise OpError("concatenate: at least one tensor is needed, got none")
    return ops.Concatenate(axis)(*tensors)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias: x (N, in), weight (out, in), bias (out,) -> (N, out). Raises OpError where they do not fit."""
    return ops.Linear()(x, weight) if bias is None else ops.Linear()(x, weight, bias)


def relu(x: Tensor) -> Tensor:
    """max(x, 0), element by element; NaN stays NaN."""
    return ops.ReLU()(x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), element by element."""
    return ops.Sigmoid()(x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent, element by element."""
    return ops.Tanh()(x)
