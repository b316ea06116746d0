"""Convolution, ReLU and max pooling by squares, in one pass over memory."""

from __future__ import annotations

import numpy as np

from minicnn.errors import OpError
from minicnn.ops import conv2d
from minicnn.shapes import AUTOMATIC, ConvShape, PoolShape
from minicnn.tensor import Accumulate, Tensor


class Conv2dMaxPool2d(conv2d.Conv2d):
    """y = max_pool2d(relu(conv2d(x, weight, bias))) where there is a kernel for it: windows of 2 x 2 side by side.

    x (N, H, W, C), weight (K, R, S, C/groups), bias (K,) or absent, y (N, P/2, Q/2, K). What lies between is neither
    written nor kept: the winners' places say where ReLU and pooling let the gradient pass. In every precision y and the
    gradients have the bits of the ops one after another where these sum alike.
    """

    name = "conv2d_max_pool2d"

    def __init__(self, stride, padding, dilation, groups, window):
        super().__init__(stride, padding, dilation, groups, "relu")
        self.relu_within = False  # for those who consume y: its gradient needs no mask
        self.window = window

    def fits(self, x: Tensor, weight: Tensor) -> bool:
        """Whether the device of x has a kernel for these shapes; OpError where they do not even fit one another."""
        kernels = x.device.kernels_for(x.dtype)
        if conv2d.rung() != "implicit" or not hasattr(kernels, "conv2d_maxpool2d_fits"):
            return False
        geometry = self.stride, self.padding, self.dilation, self.groups
        shape = ConvShape.of("conv2d", x.shape, weight.shape, *geometry)
        pool = PoolShape.of("max_pool2d", shape.out, *self.window)
        return bool(kernels.conv2d_maxpool2d_fits(shape, pool, AUTOMATIC))

    def check(self, x, weight, bias=None):
        if not self.fits(x, weight):
            raise OpError(
                f"{self.name}: there is no kernel for this on device {x.device.name!r}; use one op after another"
            )
        self.pool = PoolShape.of("max_pool2d", super().check(x, weight, bias), *self.window)
        return self.pool.out

    def product(self, bias, y) -> None:
        self.index = self.empty(y.shape, np.uint8) if self.number >= 0 else None
        arrays = self.x, self.weight, bias, y, self.index
        self.launch_scheduled("conv2d_maxpool2d_forward", (self.shape,), *arrays, fits=self.fits_schedule)

    def fits_schedule(self, schedule) -> bool:
        return bool(self.kernels.conv2d_maxpool2d_fits(self.shape, self.pool, schedule))

    def backward_kernel(self, dy):
        """dy is rounded before it is spread out: each of its elements goes to one place at most."""
        dy = self.numbers.operand(dy)
        of_conv2d = self.empty(self.shape.out, dy.dtype)
        backward = self.kernel_of("maxpool2d_backward", self.narrow)
        index = (self.index, None) if self.narrow is None else (self.index,)  # of float32 there is one of two bytes too
        backward(dy, *index, of_conv2d, Accumulate.overwrite, self.pool)
        super().backward_kernel(of_conv2d)
