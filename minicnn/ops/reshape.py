"""Other shapes and orders of the same elements: reshape, flatten, permute, transpose, basic indexing."""

from __future__ import annotations

import math
import operator

import numpy as np

from minicnn.autograd import Op
from minicnn.axes import Walk, normalize_axis, strides
from minicnn.errors import OpError
from minicnn.ops.strided_copy import copy, strided_copy
from minicnn.tensor import Accumulate, Narrow, Tensor, to_hold


class Reshape(Op):
    """y has the elements of x in the same order, in another shape; -1 for one extent means what is left.

    y is x's own array, and dy becomes dx itself where no gradient stands yet: nothing is copied.
    """

    name = "reshape"
    is_view = True

    def __init__(self, shape: tuple[int, ...]):
        self.asked = shape

    def check(self, x):
        self.x_shape = x.shape
        known = math.prod(extent for extent in self.asked if extent != -1)
        fits = x.size == known if -1 not in self.asked else known > 0 and x.size % known == 0
        if not fits or self.asked.count(-1) > 1 or min(self.asked, default=0) < -1:
            raise OpError(f"reshape: {x.size} elements of shape {x.shape} do not fit into {self.asked}")
        return tuple(x.size // known if extent == -1 else extent for extent in self.asked)

    def _agree(self, inputs):
        super()._agree(inputs)
        self.narrow = inputs[0].numbers

    def record(self, inputs, out_shape):
        super().record(inputs, out_shape)
        self.slot.mask = self.slots[0].mask  # for who writes dy, to see to it already

    def read(self, x):
        return x.held

    def forward(self, out_shape, x):
        return x if isinstance(x, Narrow) else x.reshape(out_shape)

    def backward(self, dy):
        dy = dy.reshape(self.x_shape)
        if not self.slots[0].adopt(to_hold(dy, self.narrow)):
            super().backward(dy if dy.dtype == self.dtype else self.narrow.widened(dy))
        if not self.slot.unmasked:
            self.grad_mask(0, self.narrow)

    def backward_numpy(self, dy):
        self.grad_array(0)[...] = dy

    def backward_kernel(self, dy):
        copy(self.kernels, dy, *self.grad_out(0))


class Permute(Op):
    """Axis k of y is axis axes[k] of x. The result is a copy, contiguous like all tensors."""

    name = "permute"

    def __init__(self, axes: tuple[int, ...]):
        self.axes = axes

    def check(self, x):
        axes = tuple(normalize_axis(self.name, axis, x.ndim) for axis in self.axes)
        if sorted(axes) != list(range(x.ndim)):
            raise OpError(f"permute: axes {self.axes} must name each of the {x.ndim} axes of x once (x is {x.shape})")
        self.axes, self.x_shape = axes, x.shape
        out = self._in_y(x.shape)
        Walk.of(self.name, out, self._in_y(strides(x.shape)), strides(out))
        return out

    def forward_numpy(self, x, y):
        y[...] = x.transpose(self.axes)

    def backward_numpy(self, dy):
        self.grad_array(0).transpose(self.axes)[...] = dy

    def forward_kernel(self, x, y):
        strided_copy(self.kernels, x, y, y.shape, self._in_y(strides(x.shape)), strides(y.shape))

    def backward_kernel(self, dy):
        dx, accumulate = self.grad_out(0)
        strides_of_dy = tuple(strides(dy.shape)[self.axes.index(axis)] for axis in range(dy.ndim))
        strided_copy(self.kernels, dy, dx, dx.shape, strides_of_dy, strides(dx.shape), accumulate)

    def _in_y(self, of_x_axes):
        """What belongs to the axes of x, in the order of y's."""
        return tuple(of_x_axes[axis] for axis in self.axes)


class Index(Op):
    """y = x[key] for integers, slices with a positive step, `...` and None, as a copy; dx is 0 outside of the key."""

    name = "getitem"

    def __init__(self, key):
        self.key = key if isinstance(key, tuple) else (key,)

    def check(self, x):
        self.ranges, out = self._resolve(x.shape)
        x_strides = strides(x.shape)
        self.x_offset = sum(r.start * step for r, step in zip(self.ranges, x_strides, strict=True))
        self.extents = tuple(len(r) for r in self.ranges)
        self.x_strides = tuple(r.step * step for r, step in zip(self.ranges, x_strides, strict=True))
        Walk.of(self.name, self.extents, self.x_strides, strides(self.extents))
        return out

    def _resolve(self, shape):
        """(the indices taken along each axis of x, the shape of y)."""
        places = [part for part in self.key if part is not None and part is not Ellipsis]
        if len(places) > len(shape):
            raise OpError(f"getitem: {len(places)} places are too many for a tensor of shape {shape}")
        if sum(part is Ellipsis for part in self.key) > 1:
            raise OpError("getitem: ... may stand once only")
        key = self.key if any(part is Ellipsis for part in self.key) else (*self.key, Ellipsis)
        ranges, out = [], []
        for part in key:
            if part is None:
                out.append(1)
                continue
            rest = len(shape) - len(places) if part is Ellipsis else 1
            for extent in shape[len(ranges) : len(ranges) + rest]:
                ranges.append(self._range(slice(None) if part is Ellipsis else part, len(ranges), extent))
                if part is Ellipsis or isinstance(part, slice):
                    out.append(len(ranges[-1]))
        return ranges, tuple(out)

    def _range(self, part, axis: int, extent: int) -> range:
        if isinstance(part, slice):
            if part.step is not None and part.step < 1:
                raise OpError(f"getitem: the step of a slice must be positive, got {part.step}")
            return range(extent)[part]
        try:
            index = operator.index(part)
        except TypeError:
            index = None
        if index is None or isinstance(part, (bool, np.bool_)):
            raise OpError(f"getitem: integers, slices, ... and None are understood, got {type(part).__name__}")
        if not -extent <= index < extent:
            raise OpError(f"getitem: index {index} is out of range for axis {axis} of extent {extent}")
        return range(index % extent, index % extent + 1)

    def forward_numpy(self, x, y):
        y[...] = x[self.key]

    def backward_numpy(self, dy):
        dx = self.grad_array(0)
        dx[...] = 0
        dx[self.key] = dy

    def forward_kernel(self, x, y):
        walk = self.extents, self.x_strides, strides(self.extents)
        strided_copy(self.kernels, x, y, *walk, x_offset=self.x_offset)

    def backward_kernel(self, dy):
        dx, accumulate = self.grad_out(0)
        if accumulate is Accumulate.overwrite:
            self.device.zero(dx)
        walk = self.extents, strides(self.extents), self.x_strides
        strided_copy(self.kernels, dy, dx, *walk, accumulate, y_offset=self.x_offset)


def _integers(op: str, values) -> tuple[int, ...]:
    """f(2, 3) and f((2, 3)) alike."""
    values = values[0] if len(values) == 1 and isinstance(values[0], (tuple, list)) else values
    try:
        return tuple(operator.index(value) for value in values)
    except TypeError:
        raise OpError(f"{op}: integers are expected, got {tuple(values)}") from None


def reshape(x: Tensor, *shape: int | tuple[int, ...]) -> Tensor:
    """x in another shape, `x.reshape(2, -1)` or `x.reshape((2, -1))`; it shares x's memory. Raises OpError."""
    return Reshape(_integers("reshape", shape))(x)


def flatten(x: Tensor, start_dim: int = 1) -> Tensor:
    """x with the axes from start_dim on made one: (N, H, W, C) -> (N, H*W*C). It shares x's memory."""
    start = normalize_axis("flatten", start_dim, x.ndim)
    return Reshape((*x.shape[:start], math.prod(x.shape[start:])))(x)


def permute(x: Tensor, *axes: int | tuple[int, ...]) -> Tensor:
    """x with its axes in this order, as a copy: (N, H, W, C) -> permute(0, 3, 1, 2) -> (N, C, H, W)."""
    return Permute(_integers("permute", axes))(x)


def transpose(x: Tensor, axis0: int, axis1: int) -> Tensor:
    """x with two axes exchanged, as a copy."""
    axis0, axis1 = (normalize_axis("transpose", axis, x.ndim) for axis in (axis0, axis1))
    axes = list(range(x.ndim))
    axes[axis0], axes[axis1] = axis1, axis0
    return Permute(tuple(axes))(x)


def getitem(x: Tensor, key) -> Tensor:
    """x[key] for integers, slices with a positive step, `...` and None, as a copy."""
    return Index(key)(x)


Tensor.reshape, Tensor.flatten = reshape, flatten
Tensor.permute, Tensor.transpose = permute, transpose
Tensor.__getitem__ = getitem
Tensor.__iter__ = lambda x: (x[i] for i in range(len(x)))
