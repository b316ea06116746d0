"""Batch normalisation."""

from __future__ import annotations

import math

import numpy as np

from minicnn.autograd import Op
from minicnn.errors import OpError
from minicnn.ops.relu import mask_numpy
from minicnn.shapes import Activation
from minicnn.tensor import Accumulate, Tensor

NOT_WANTED = (None, Accumulate.overwrite)


class BatchNorm(Op):
    """y = activation(z * weight + bias), z = (x - mean) / sqrt(variance + eps): x (..., C), the others (C,) and optional.

    training   mean and variance are the batch's, over all axes but the last; the running ones follow them in place:
               running <- (1 - momentum) * running + momentum * batch, with the batch's unbiased variance
    otherwise  mean and variance are the running ones

    activation: None or "relu"; with it dy below is dy where y is not 0, and 0 elsewhere.

    Over the `rows` values of a channel: dbias = sum dy, dweight = sum dy * z, and in training
    dx = weight / sqrt(variance + eps) * (dy - dbias / rows - z * dweight / rows), otherwise its first term alone.
    Source: Ioffe and Szegedy 2015, algorithm 1.
    """

    name = "batch_norm"

    def __init__(
        self,
        running_mean: Tensor | None,
        running_variance: Tensor | None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
        activation: str | None = None,
    ):
        if (running_mean is None) != (running_variance is None):
            raise OpError("batch_norm: running_mean and running_var come together or not at all")
        self.running = () if running_mean is None else (running_mean, running_variance)
        self.training, self.momentum, self.eps = training, momentum, eps
        self.activation = Activation.of(self.name, activation)
        self.relu_within = self.activation is Activation.relu

    def check(self, x, *affine):
        if x.ndim < 2:
            raise OpError(f"batch_norm: x must be (..., channels) with at least two axes, got {x.shape}")
        self.channels = x.shape[-1]
        self.rows = math.prod(x.shape[:-1])
        if not self.training and not self.running:
            raise OpError("batch_norm: outside of training the running statistics are needed, got None")
        if self.training and self.rows < 2:
            raise OpError(f"batch_norm: training needs at least 2 values a channel, x is {x.shape}")
        names = ("running_mean", "running_var", "weight", "bias")[0 if self.running else 2 :]
        for name, tensor in zip(names, (*self.running, *affine), strict=False):
            if tensor.shape != (self.channels,) or tensor.dtype != x.dtype:
                raise OpError(
                    f"batch_norm: {name} must be ({self.channels},) {x.dtype.name} for x of shape {x.shape}, "
                    f"got {tensor.shape} {tensor.dtype.name}"
                )
            if tensor.device is not x.device:
                raise OpError(
                    f"batch_norm: {name} is on {tensor.device.name}, x on {x.device.name}; move the model by .to(...)"
                )
        return x.shape

    def forward_numpy(self, x, *affine_and_y):
        *self.affine, y = affine_and_y
        x, y = x.reshape(-1, self.channels), y.reshape(-1, self.channels)
        self.z = self.empty(y.shape) if self.affine or self.relu_within else y
        if self.training:
            self.inverse_std = self.normalize_by_batch(x, self.z)
        else:
            mean, variance = (running.data for running in self.running)
            self.inverse_std = 1 / np.sqrt(variance + self.eps)
            np.subtract(x, mean, out=self.z)
            self.z *= self.inverse_std
        if self.affine:
            weight, bias = self.affine
            np.multiply(self.z, weight, out=y)
            y += bias
        if self.relu_within:
            np.maximum(y if self.affine else self.z, 0, out=y)

    def normalize_by_batch(self, x, z):
        """Write z from x (rows, channels), move the running statistics, return 1 / std (channels,)."""
        ones = np.ones(self.rows, x.dtype)  # ones @ x is BLAS: blocked sums, where sum(axis=0) adds row by row
        rough = ones @ x / self.rows
        np.subtract(x, rough, out=z)
        rest = ones @ z / self.rows  # what the rounding of a large mean left: found in small numbers, so accurately
        z -= rest
        variance = np.einsum("rc,rc->c", z, z) / self.rows
        inverse_std = 1 / np.sqrt(variance + self.eps)
        z *= inverse_std
        unbiased = variance * (self.rows / (self.rows - 1))
        for running, batch in zip(self.running, (rough + rest, unbiased), strict=False):
            running.data[...] = (1 - self.momentum) * running.data + self.momentum * batch
        return inverse_std

    def backward_numpy(self, dy):
        mask_numpy(dy, self.pending_mask)
        dy = dy.reshape(-1, self.channels)
        dbias = np.ones(self.rows, dy.dtype) @ dy
        dweight = np.einsum("rc,rc->c", dy, self.z)
        for i, gradient in ((1, dweight), (2, dbias)):
            if self.affine and (out := self.grad_array(i)) is not None:
                out[...] = gradient
        if (dx := self.grad_array(0)) is not None:
            dx = dx.reshape(-1, self.channels)
            if self.training:
                np.multiply(self.z, -dweight / self.rows, out=dx)
                dx += dy
                dx -= dbias / self.rows
            else:
                dx[...] = dy
            dx *= self.affine[0] * self.inverse_std if self.affine else self.inverse_std

    def forward_kernel(self, x, *affine_and_y):
        *self.affine, y = affine_and_y
        self.x, self.mean, self.variance = x, self.empty((self.channels,)), self.empty((self.channels,))
        running = [tensor.data for tensor in self.running] or (None, None)
        if self.training:
            workspace = self.workspace("batch_norm", self.rows, self.channels)
            self.kernels.batch_norm_statistics(
                x, workspace, self.mean, self.variance, *running, self.momentum, self.rows, self.channels
            )
        else:  # copies: the running statistics may move on before the backward pass
            for source, target in zip(running, (self.mean, self.variance), strict=True):
                self.device.copy(source, target)
        arrays = (x, self.mean, self.variance, *(self.affine or (None, None)))
        self.kernels.batch_norm_forward(*arrays, self.activation, y, self.eps, self.rows, self.channels)

    def backward_kernel(self, dy):
        gradient, extents = (dy, self.pending_mask), (self.eps, self.rows, self.channels)
        statistics = self.x, self.mean, self.variance
        sums = self.empty((2, self.channels))  # of dy; of dy * z
        dweight = self.grad_out(1) if self.affine else NOT_WANTED
        dbias = self.grad_out(2) if self.affine else NOT_WANTED
        workspace = self.workspace("batch_norm", self.rows, self.channels)
        self.kernels.batch_norm_backward_sums(*gradient, *statistics, workspace, sums, *dweight, *dbias, *extents)
        dx, accumulate = self.grad_out(0)
        if dx is not None:
            weight = self.affine[0] if self.affine else None
            self.kernels.batch_norm_backward_input(
                *gradient, *statistics, weight, sums if self.training else None, dx, accumulate, *extents
            )
