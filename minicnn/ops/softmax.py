"""Softmax."""

from __future__ import annotations

import numpy as np

from minicnn.autograd import Op
from minicnn.shapes import split_at


class Softmax(Op):
    """y[i] = exp(x[i] - max(x)) / sum_j exp(x[j] - max(x)) along axis `dim`, any shape.

    A row that holds NaN or +inf, or nothing but -inf, becomes NaN. dx = y * (dy - sum_j dy[j] * y[j]).
    """

    name = "softmax"

    def __init__(self, dim: int = -1):
        self.dim = dim

    def check(self, x):
        self.extents = split_at(self.name, x.shape, self.dim)
        return x.shape

    def forward_numpy(self, x, y):
        if x.size:
            np.subtract(x, x.max(self.dim, keepdims=True), out=y)
            np.exp(y, out=y)
            y /= y.sum(self.dim, keepdims=True)
        self.y = y

    def backward_numpy(self, dy):
        dx = self.grad_array(0)
        np.multiply(dy, self.y, out=dx)
        total = dx.sum(self.dim, keepdims=True)
        np.subtract(dy, total, out=dx)
        dx *= self.y

    def forward_kernel(self, x, y):
        self.kernels.softmax_forward(x, y, *self.extents)
        self.y = y

    def backward_kernel(self, dy):
        dx, accumulate = self.grad_out(0)
        self.kernels.softmax_backward(dy, self.y, dx, accumulate, *self.extents)
