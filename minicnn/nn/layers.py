"""Layers: the functions of minicnn.functional with their parameters."""

from __future__ import annotations

import numpy as np

from minicnn import functional
from minicnn.nn import init
from minicnn.nn.module import Module, parameter


class Linear(Module):
    """y = x @ weight.T + bias: x (N, in_features) -> (N, out_features); weight (out_features, in_features)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = parameter(np.zeros((out_features, in_features), np.float32))
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
