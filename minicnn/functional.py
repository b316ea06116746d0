"""The ops as functions, with PyTorch's names and argument order. Images are (N, H, W, C), conv weights (K, R, S, C/groups)."""

from __future__ import annotations

from minicnn import ops
from minicnn.shapes import IntOrPair
from minicnn.tensor import Tensor


def adaptive_avg_pool2d(x: Tensor, output_size: IntOrPair) -> Tensor:
    """Means over output_size windows that share x (N, H, W, C) out evenly -> (N, *output_size, C)."""
    return ops.AdaptiveAvgPool2d(output_size)(x)


def avg_pool2d(
    x: Tensor,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Means over windows of x (N, H, W, C) -> (N, P, Q, C); stride defaults to kernel_size.

    The padding's zeros count as elements unless `count_include_pad` is False. Raises OpError where no window fits.
    """
    return ops.AvgPool2d(kernel_size, stride, padding, ceil_mode, count_include_pad)(x)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias: x (N, in), weight (out, in), bias (out,) -> (N, out). Raises OpError where they do not fit."""
    return ops.Linear()(x, weight) if bias is None else ops.Linear()(x, weight, bias)


def local_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, dialect: str = "mean"
) -> Tensor:
    """x / (k + a * sum of x**2 over `size` neighbouring channels)**beta, x (..., C).

    a = alpha/size with dialect "mean" (PyTorch, Caffe), alpha with "sum" (Krizhevsky et al. 2012, section 3.3: there
    size=5, alpha=1e-4, beta=0.75, k=2). Raises OpError for a size below 1 or another dialect.
    """
    return ops.LocalResponseNorm(size, alpha, beta, k, dialect)(x)


def max_pool2d(
    x: Tensor,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    ceil_mode: bool = False,
) -> Tensor:
    """Maxima over windows of x (N, H, W, C) -> (N, P, Q, C); stride defaults to kernel_size.

    Padding never wins, a window wholly in it gives -inf. Raises OpError where no window fits, and for windows of more
    than 65536 elements.
    """
    return ops.MaxPool2d(kernel_size, stride, padding, ceil_mode)(x)


def relu(x: Tensor) -> Tensor:
    """max(x, 0), element by element; NaN stays NaN."""
    return ops.ReLU()(x)
