"""The ops as functions, with PyTorch's names and argument order. Images are (N, H, W, C), conv weights (K, R, S, C/groups)."""

from __future__ import annotations

from minicnn import ops
from minicnn.tensor import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias: x (N, in), weight (out, in), bias (out,) -> (N, out). Raises OpError where they do not fit."""
    return ops.Linear()(x, weight) if bias is None else ops.Linear()(x, weight, bias)


def relu(x: Tensor) -> Tensor:
    """max(x, 0), element by element; NaN stays NaN."""
    return ops.ReLU()(x)
