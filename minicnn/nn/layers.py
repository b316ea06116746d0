"""Layers: the functions of minicnn.functional with their parameters."""

from __future__ import annotations

import numpy as np

from minicnn import functional
from minicnn.nn import init
from minicnn.nn.module import Module, parameter


class Flatten(Module):
    """(N, ...) -> (N, product of the rest): the axes from start_dim on become one."""

    def __init__(self, start_dim: int = 1):
        super().__init__()
        self.start_dim = start_dim

    def forward(self, x):
        return functional.flatten(x, self.start_dim)


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


class ReLU(Module):
    """y = max(x, 0)."""

    def forward(self, x):
        return functional.relu(x)


class Sigmoid(Module):
    """y = 1 / (1 + exp(-x))."""

    def forward(self, x):
        return functional.sigmoid(x)


class Tanh(Module):
    """y = tanh(x)."""

    def forward(self, x):
        return functional.tanh(x)
