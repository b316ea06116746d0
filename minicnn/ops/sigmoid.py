"""Logistic sigmoid."""

from __future__ import annotations

import numpy as np

from minicnn.autograd import Op


class Sigmoid(Op):
    """y = 1 / (1 + exp(-x)), any shape; dx = dy * y * (1 - y), so that x need not be kept.

    For negative x the same value is exp(x) / (1 + exp(x)): no exponential overflows, and small y keep their precision.
    """

    name = "sigmoid"

    def check(self, x):
        return x.shape

    def forward_numpy(self, x, y):
        decay = np.exp(-np.abs(x))
        np.divide(np.where(x < 0, decay, 1), 1 + decay, out=y)
        self.y = y

    def backward_numpy(self, dy):
        dx = self.grad_array(0)
        np.multiply(self.y, 1 - self.y, out=dx)
        dx *= dy

    def forward_kernel(self, x, y):
        self.kernels.sigmoid_forward(x, y, x.size)
        self.y = y

    def backward_kernel(self, dy):
        dx, accumulate = self.grad_out(0)
        self.kernels.sigmoid_backward(dy, self.y, dx, accumulate, dy.size)
