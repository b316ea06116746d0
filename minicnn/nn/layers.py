"""Layers: the functions of minicnn.functional with their parameters."""

from __future__ import annotations

from typing import Literal

import numpy as np

from minicnn import functional
from minicnn.nn import init
from minicnn.nn.module import Module, parameter
from minicnn.shapes import IntOrPair


class AdaptiveAvgPool2d(Module):
    """Means over windows that share the image out evenly: (N, H, W, C) -> (N, *output_size, C)."""

    def __init__(self, output_size: IntOrPair):
        super().__init__()
        self.output_size = output_size

    def forward(self, x):
        return functional.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self):
        return f"{self.output_size}"


class AvgPool2d(Module):
    """Means over windows: (N, H, W, C) -> (N, P, Q, C)."""

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x):
        return functional.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )

    def extra_repr(self):
        return (
            f"{self.kernel_size}, stride={self.stride}, padding={self.padding}, ceil_mode={self.ceil_mode}, "
            f"count_include_pad={self.count_include_pad}"
        )


class Linear(Module):
    """y = x @ weight.T + bias: x (N, in_features) -> (N, out_features); weight (out_features, in_features)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = parameter(np.empty((out_features, in_features), np.float32))
        self.bias = parameter(np.zeros(out_features, np.float32)) if bias else None
        init.he_normal_(self.weight)

    def forward(self, x):
        return functional.linear(x, self.weight, self.bias)

    def extra_repr(self):
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class LocalResponseNorm(Module):
    """y = x / (k + a * sum of x**2 over `size` neighbouring channels)**beta; a = alpha/size ("mean") or alpha ("sum")."""

    def __init__(
        self,
        size: int,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        dialect: Literal["mean", "sum"] = "mean",
    ):
        super().__init__()
        self.size, self.alpha, self.beta, self.k, self.dialect = size, alpha, beta, k, dialect

    def forward(self, x):
        return functional.local_response_norm(x, self.size, self.alpha, self.beta, self.k, self.dialect)

    def extra_repr(self):
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}, dialect={self.dialect!r}"


class MaxPool2d(Module):
    """Maxima over windows: (N, H, W, C) -> (N, P, Q, C)."""

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        ceil_mode: bool = False,
    ):
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding
        self.ceil_mode = ceil_mode

    def forward(self, x):
        return functional.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode)

    def extra_repr(self):
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}, ceil_mode={self.ceil_mode}"


class ReLU(Module):
    """y = max(x, 0)."""

    def forward(self, x):
        return functional.relu(x)
