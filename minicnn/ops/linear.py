"""Fully connected layer."""

from __future__ import annotations

import numpy as np

from minicnn.errors import OpError
from minicnn.ops.affine import Affine
from minicnn.shapes import AUTOMATIC, ConvShape
from minicnn.tensor import Accumulate
from minicnn.threads import in_shares


class Linear(Affine):
    """y = activation(x @ weight.T + bias) * m, with x (N, C), weight (K, C), bias (K,) or absent, y (N, K).

    m is the mask of `dropout`, an ops.DropoutMask; 1 where that is None.

    dx = dy @ weight, dweight = dy.T @ x, dbias = sum of dy over N.
    """

    name = "linear"

    def __init__(self, activation: str | None = None, dropout=None):
        super().__init__(activation)
        self.dropout = dropout

    def _agree(self, inputs):
        super()._agree(inputs)
        if self.dropout is not None:  # whose products need more than 16 bits
            self.narrow = None

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
        self.check_bias(bias, weight.shape[0])
        if self.dropout is not None:
            self.dropout.check(x)
        return x.shape[0], weight.shape[0]

    def forward_numpy(self, x, weight, *bias_and_y):
        bias, y = self.keep(x, weight, *bias_and_y)

        def of_outputs(k):
            y[:, k] = (self.weight[k] @ self.x.T).T  # at small N, BLAS streams the weights faster in this order

        in_shares(of_outputs, weight.shape[0], x.shape[0] * weight.size)
        if bias is not None:
            y += bias
        if self.relu_within:
            np.maximum(y, 0, out=y)
        self.numbers.round_result(y)
        if self.dropout is not None:
            self.dropout.draw_numpy(y.shape, y.dtype)
            y *= self.dropout.multiplier

    def backward_numpy(self, dy):
        self.mask_gradient(dy)
        dy = self.numbers.operand(dy)
        macs = dy.shape[0] * self.weight.size
        if (dx := self.grad_array(0)) is not None:
            in_shares(lambda c: np.matmul(dy, self.weight[:, c], out=dx[:, c]), dx.shape[1], macs)
            self.numbers.round_result(dx)
        if (dweight := self.grad_array(1)) is not None:
            in_shares(lambda k: np.matmul(dy[:, k].T, self.x, out=dweight[k]), dy.shape[1], macs)
        self.bias_backward_numpy(dy)

    def forward_kernel(self, *arrays):
        if self.dropout is None:
            return super().forward_kernel(*arrays)
        bias, y = self.keep(*arrays)
        self.dropout.draw_kernel(self)
        if self.numbers.rounds_results:  # the mask multiplies what has been rounded
            self.product(bias, y)
            return self.dropout.apply_kernel(self, y, None, y, Accumulate.overwrite)
        mask = self.dropout.arguments
        self.launch("dropout_forward", self.x, self.weight, bias, self.activation, *mask, y)

    def mask_gradient(self, dy):
        """The same, and dy times dropout's mask."""
        if self.dropout is not None and self.kernels is not None:
            return self.dropout.apply_kernel(self, dy, self.pending_mask, dy, Accumulate.overwrite)
        super().mask_gradient(dy)
        if self.dropout is not None:
            dy *= self.dropout.multiplier

    @property
    def steps_weight(self) -> bool:
        """On the devices that run the CUDA kernels, in float32."""
        has_kernel = hasattr(self.kernels, "linear_backward_weight_sgd")
        return has_kernel and not self.numbers.rounds_operands and self.needs_grad(1)

    def step_weight(self, dy) -> bool:
        step = self.slots[1].step if self.needs_grad(1) else None
        if step is not None:
            extents = (*self.x.shape, self.weight.shape[0], AUTOMATIC)
            self.kernels.linear_backward_weight_sgd(dy, self.x, self.weight, *step, *extents)
        return step is not None

    def launch(self, direction, *arguments):
        """linear_forward, linear_backward_input, ...: each with the workspace that it asks for."""
        (n, c), k = self.x.shape, self.weight.shape[0]
        if self.numbers.suffix:  # of 16 bits: the convolution of images of one pixel
            shape = ConvShape.of(self.name, (n, 1, 1, c), (k, 1, 1, c), 1, 0, 1, 1)
            self.launch_scheduled(f"conv2d_{direction}", (shape,), *arguments)
        else:
            self.launch_scheduled(f"linear_{direction}", (n, c, k), *arguments)
