"""Sum, mean and maximum over axes."""

from __future__ import annotations

import math

import numpy as np

from minicnn.autograd import Op
from minicnn.axes import normalize_axes, runs
from minicnn.errors import OpError
from minicnn.ops.strided_copy import strided_copy
from minicnn.tensor import Accumulate, Tensor


class Reduction(Op):
    """Over the neighbouring axes start, ..., stop - 1: seen so, x is (outer, reduced, inner) and y (outer, inner)."""

    def __init__(self, start: int, stop: int, keepdims: bool = False):
        self.start, self.stop, self.keepdims = start, stop, keepdims

    def check(self, x):
        before, reduced, behind = x.shape[: self.start], x.shape[self.start : self.stop], x.shape[self.stop :]
        self.shape = math.prod(before), math.prod(reduced), math.prod(behind)
        return before + (1,) * (len(reduced) if self.keepdims else 0) + behind

    def _refuse_nothing(self, x) -> None:
        if self.shape[1] == 0:
            raise OpError(f"{self.name}: axes {self.start} to {self.stop - 1} of x have no elements (x is {x.shape})")


class Sum(Reduction):
    """y[o, i] = sum over r of x[o, r, i]; dx[o, r, i] = dy[o, i]. The sum of nothing is 0.

    The kernels join float32 values along a tree of fixed form, whose error csrc/ops/reductions.cu bounds; NumPy adds
    pairwise along the last axis and row by row along others.
    """

    name = "sum"
    scale = 1.0

    def forward_numpy(self, x, y):
        np.sum(x.reshape(self.shape), axis=1, out=self._flat(y))
        self._scale(y)

    def backward_numpy(self, dy):
        dx = self.grad_array(0)
        dx.reshape(self.shape)[...] = self._flat(dy)[:, None]
        self._scale(dx)

    def forward_kernel(self, x, y):
        sum_into(self, x, y, self.shape, scale=self.scale)

    def backward_kernel(self, dy):
        dx, accumulate = self.grad_out(0)
        _, reduced, inner = self.shape
        strided_copy(
            self.kernels, dy, dx, self.shape, (inner, 0, 1), (reduced * inner, inner, 1), accumulate, scale=self.scale
        )

    def _flat(self, y):
        return y.reshape(self.shape[0], self.shape[2])

    def _scale(self, array) -> None:
        if self.scale != 1:
            array *= self.scale


class Mean(Sum):
    """y[o, i] = sum over r of x[o, r, i] / reduced; dx[o, r, i] = dy[o, i] / reduced."""

    name = "mean"

    def check(self, x):
        out = super().check(x)
        self._refuse_nothing(x)
        self.scale = 1 / self.shape[1]
        return out


class Max(Reduction):
    """y[o, i] = max over r of x[o, r, i]. The gradient goes to the first maximum alone; a NaN is greater than all.

    So does torch.max(x, dim); torch.amax and torch.max(x) share it out among equals.
    """

    name = "max"

    def check(self, x):
        out = super().check(x)
        self._refuse_nothing(x)
        return out

    def forward_numpy(self, x, y):
        x = x.reshape(self.shape)
        self.index = x.argmax(axis=1)[:, None]
        y.reshape(self.index.shape)[...] = np.take_along_axis(x, self.index, axis=1)

    def backward_numpy(self, dy):
        dx = self.grad_array(0)
        dx[...] = 0
        np.put_along_axis(dx.reshape(self.shape), self.index, dy.reshape(self.index.shape), axis=1)

    def forward_kernel(self, x, y):
        self.index = self.empty(y.shape, np.int32)
        elements = (self.kernels.reduction_workspace(*self.shape),)
        self.kernels.max_forward(x, y, self.index, self.empty(elements), self.empty(elements, np.int32), *self.shape)

    def backward_kernel(self, dy):
        dx, accumulate = self.grad_out(0)
        self.kernels.max_backward(dy, self.index, dx, accumulate, *self.shape)


def sum_into(op: Op, x, y, shape, accumulate=Accumulate.overwrite, scale=1.0) -> None:
    """y (+)= scale * sum of x (outer, reduced, inner) over its middle axis, by the kernels of the op's device."""
    op.kernels.sum_forward(x, y, op.workspace("reduction", *shape), accumulate, scale, *shape)


def _reduce(op: type[Reduction], x: Tensor, axis, keepdims: bool) -> Tensor:
    """One op a run of neighbouring axes, the last run first: so the axes before it keep their places, and of equal
    maxima the one that comes first in x wins."""
    for start, stop in reversed(runs(normalize_axes(op.name, axis, x.ndim))):
        x = op(start, stop, keepdims)(x)
    return x


def sum(x: Tensor, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """The sum over `axis`, all axes where it is None; with `keepdims` these stay, of extent 1."""
    return _reduce(Sum, x, axis, keepdims)


def mean(x: Tensor, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis`, all axes where it is None. Raises OpError where there is nothing to average."""
    return _reduce(Mean, x, axis, keepdims)


def max(x: Tensor, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """The maximum over `axis`, all axes where it is None; NaN wins. Its gradient goes to the first of equal maxima.

    Raises OpError where there is nothing to choose from.
    """
    return _reduce(Max, x, axis, keepdims)


Tensor.sum, Tensor.mean, Tensor.max = sum, mean, max
