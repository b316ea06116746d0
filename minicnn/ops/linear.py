"""Fully connected layer."""

from __future__ import annotations

import numpy as np

from minicnn.autograd import Op
from minicnn.errors import OpError


class Linear(Op):
    """y = x @ weight.T + bias, with x (N, C), weight (K, C), bias (K,) or absent, y (N, K).

    dx = dy @ weight, dweight = dy.T @ x, dbias = sum of dy over N.
    """

    name = "linear"

    def check(self, x, weight, bias=None):
        if x.ndim != 2 or weight.ndim != 2:
            raise OpError(
                f"linear: x must be (N, in) and weight (out, in), got {x.shape} and {weight.shape}; flatten x first"
            )
        if x.shape[1] != weight.shape[1]:
            raise OpError(
                f"linear: weight expects {weight.shape[1]} features but x has {x.shape[1]} "
                f"(x is {x.shape}, weight {weight.shape})"
            )
        if bias is not None and bias.shape != weight.shape[:1]:
            raise OpError(f"linear: bias must be ({weight.shape[0]},), got {bias.shape}")
        return x.shape[0], weight.shape[0]

    def forward_numpy(self, x, weight, *bias_and_y):
        *bias, y = bias_and_y
        self.x, self.weight, self.has_bias = x, weight, bool(bias)
        y[...] = (weight @ x.T).T  # at small N, BLAS streams the weights faster in this order
        if bias:
            y += bias[0]

    def backward_numpy(self, dy):
        if (dx := self.grad_array(0)) is not None:
            np.matmul(dy, self.weight, out=dx)
        if (dweight := self.grad_array(1)) is not None:
            np.matmul(dy.T, self.x, out=dweight)
        if self.has_bias and (dbias := self.grad_array(2)) is not None:
            np.sum(dy, axis=0, out=dbias)

    def forward_kernel(self, x, weight, *bias_and_y):
        *bias, y = bias_and_y
        self.x, self.weight, self.has_bias = x, weight, bool(bias)
        self.kernels.linear_forward(x, weight, bias[0] if bias else None, y, *x.shape, y.shape[1])

    def backward_kernel(self, dy):
        (n, c), k = self.x.shape, dy.shape[1]
        dx, accumulate = self.grad_out(0)
        if dx is not None:
            self.kernels.linear_backward_input(dy, self.weight, dx, accumulate, n, c, k)
        dweight, accumulate = self.grad_out(1)
        if dweight is not None:
            self.kernels.linear_backward_weight(dy, self.x, dweight, accumulate, n, c, k)
        if self.has_bias:
            dbias, accumulate = self.grad_out(2)
            if dbias is not None:
                self.kernels.bias_backward(dy, dbias, accumulate, n, k)
