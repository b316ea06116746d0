"""What fully connected and convolutional layers share: the bias, the ReLU of a sum on its way to memory, precision."""

from __future__ import annotations

import math

import numpy as np

from minicnn.autograd import Op
from minicnn.errors import OpError
from minicnn.ops.precision import numbers_of
from minicnn.ops.relu import mask_numpy
from minicnn.shapes import AUTOMATIC, Activation
from minicnn.tensor import Accumulate
from minicnn.threads import in_shares


class Affine(Op):
    """y = activation(product of x and weight + bias), with bias (K,) or absent, K the last axis of y.

    activation: None or "relu". A subclass has the product: its NumPy code, and `launch(direction, *arguments)`, which
    calls its kernel "forward", "backward_input" or "backward_weight". `numbers` are those of ops.precision that were
    active in the forward pass.
    """

    rounds_gradient = True

    def __init__(self, activation: str | None = None):
        self.activation = Activation.of(self.name, activation)
        self.relu_within = self.activation is Activation.relu

    def _agree(self, inputs):
        super()._agree(inputs)
        self.numbers = numbers_of(self.device, self.dtype)
        self.narrow = self.numbers.narrow

    def read(self, x):
        return x.read(self.numbers.narrow if x.ndim > 1 else None)  # the bias is float32

    def launch(self, direction: str, *arguments) -> None:
        raise NotImplementedError

    def launch_scheduled(self, kernel: str, extents: tuple, *arguments, fits=lambda schedule: True) -> None:
        """`kernel`, of the active precision, with these arguments, its workspace, extents and the device's schedule; `fits`
        says which ones it takes."""

        def launch(schedule):
            workspace = self.workspace(kernel, *extents, schedule)
            getattr(self.kernels, kernel + self.numbers.suffix)(*arguments, workspace, *extents, schedule)

        flat = extents[0] if isinstance(extents[0], tuple) else extents
        self.device.choices.run(kernel + self.numbers.suffix, flat, self.numbers.scheduled(AUTOMATIC), launch, fits)

    def check_bias(self, bias, outputs: int) -> None:
        if bias is not None and bias.shape != (outputs,):
            raise OpError(f"{self.name}: bias must be ({outputs},), got {bias.shape}")

    def keep(self, x, weight, *bias_and_y):
        """(bias or None, y); what backward needs is kept, x and weight as the numbers that are multiplied."""
        *bias, y = bias_and_y
        self.has_bias = bool(bias)
        self.x, self.weight = self.numbers.operand(x), self.numbers.operand(weight)
        return (bias[0] if bias else None), y

    def forward_kernel(self, *arrays):
        self.product(*self.keep(*arrays))

    def product(self, bias, y) -> None:
        """y = activation(x and weight multiplied + bias), by the kernel."""
        with self.numbers.result(y) as (y, _, _):
            self.launch("forward", self.x, self.weight, bias, self.activation, y)

    def backward_kernel(self, dy):
        self.mask_gradient(dy)
        dy = self.numbers.operand(dy)
        if self.needs_grad(0):
            narrow = self.numbers.narrow
            dx, accumulate = self.grad_out(0, narrow)
            with self.numbers.result(dx, self.grad_mask(0, narrow), accumulate) as (dx, mask, accumulate):
                self.launch("backward_input", dy, self.weight, mask, dx, accumulate)
        dweight = (None, Accumulate.overwrite) if self.step_weight(dy) else self.grad_out(1)
        dbias = self.grad_out(2) if self.has_bias else (None, Accumulate.overwrite)
        if dweight[0] is None and dbias[0] is not None and self.numbers.suffix:  # whose kernels have no dbias alone
            dweight = self.empty(self.weight.shape), Accumulate.overwrite
        if dweight[0] is not None or dbias[0] is not None:
            self.launch("backward_weight", dy, self.x, *dweight, *dbias)

    def step_weight(self, dy) -> bool:
        """Whether a step was to take the place of the weight's gradient; then it has been taken."""
        return False

    def mask_gradient(self, dy) -> None:
        """dy = 0, in place, where ReLU cut y: a pass that is left out where all ops that wrote dy have done it."""
        y = self.pending_mask
        if self.kernels is None:
            mask_numpy(dy, y)
        elif y is not None:
            self.kernels.relu_backward(dy, y, dy, Accumulate.overwrite, dy.size)

    def bias_backward_numpy(self, dy) -> None:
        """dbias = dy (..., Q, K), summed over all axes but the last."""
        if self.has_bias and (dbias := self.grad_array(2)) is not None:
            lines = dy.reshape(math.prod(dy.shape[:-2]), dy.shape[-2] * dy.shape[-1])  # also of an empty batch
            sums = in_shares(lambda share: lines[share].sum(axis=0), len(lines), lines.size)
            np.sum(np.reshape(sums, (-1, dy.shape[-1])), axis=0, out=dbias)


def add_bias(y, bias) -> None:
    """y (..., Q, K) += bias (K,), a line of Q*K at a time: NumPy is slow on runs as short as K may be."""
    lines = y.reshape(-1, y.shape[-2] * y.shape[-1])
    lines += np.tile(bias, y.shape[-2])
