"""Tensors one after another along an axis."""

from __future__ import annotations

import itertools
import math

import numpy as np

from minicnn.autograd import Op
from minicnn.axes import normalize_axis
from minicnn.errors import OpError
from minicnn.ops.strided_copy import strided_copy


class Concatenate(Op):
    """y has x_0, x_1, ... behind one another along `axis`; all other extents agree. dx_i is its part of dy.

    To the kernels x_i is (outer, width_i) and y (outer, sum of all widths).
    """

    name = "concatenate"

    def __init__(self, axis: int = 0):
        self.axis = axis

    def check(self, *xs):
        first = xs[0].shape
        self.axis = axis = normalize_axis(self.name, self.axis, len(first))
        for i, x in enumerate(xs):
            if x.shape[:axis] != first[:axis] or x.shape[axis + 1 :] != first[axis + 1 :] or x.ndim != len(first):
                raise OpError(
                    f"concatenate: tensors must agree in all axes but {axis}, tensor 0 is {first}, tensor {i} {x.shape}"
                )
        self.extents = [x.shape[axis] for x in xs]
        self.outer = math.prod(first[:axis])
        self.widths = [extent * math.prod(first[axis + 1 :]) for extent in self.extents]
        return (*first[:axis], sum(self.extents), *first[axis + 1 :])

    def forward_numpy(self, *xs_and_y):
        *xs, y = xs_and_y
        np.concatenate(xs, self.axis, out=y)

    def backward_numpy(self, dy):
        parts = np.split(dy, list(itertools.accumulate(self.extents))[:-1], self.axis)
        for i, part in enumerate(parts):
            if (dx := self.grad_array(i)) is not None:
                dx[...] = part

    def forward_kernel(self, *xs_and_y):
        *xs, y = xs_and_y
        for x, width, offset in zip(xs, self.widths, self._offsets(), strict=True):
            walk = (self.outer, width), (width, 1), (sum(self.widths), 1)
            strided_copy(self.kernels, x, y, *walk, y_offset=offset)

    def backward_kernel(self, dy):
        for i, (width, offset) in enumerate(zip(self.widths, self._offsets(), strict=True)):
            dx, accumulate = self.grad_out(i)
            if dx is not None:
                walk = (self.outer, width), (sum(self.widths), 1), (width, 1)
                strided_copy(self.kernels, dy, dx, *walk, accumulate, x_offset=offset)

    def _offsets(self) -> list[int]:
        """Where each input begins in a row of y."""
        return [0, *itertools.accumulate(self.widths)][:-1]
