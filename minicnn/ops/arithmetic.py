"""Addition, subtraction, multiplication, division: of tensors, by NumPy's broadcasting, and of tensors and numbers."""

from __future__ import annotations

import math
import numbers

import numpy as np

from minicnn.autograd import Op
from minicnn.axes import Walk, broadcast_shape, broadcast_strides, runs
from minicnn.ops.reductions import sum_into
from minicnn.ops.strided_copy import copy
from minicnn.tensor import Accumulate, Tensor


class Arithmetic(Op):
    """y = a op b. `Add()(a, b)` takes two tensors; `Add(b=2.0)(a)` and `Add(a=2.0)(b)` a number for one of them.

    Shapes are aligned at their last axes; extents agree, or one of them is 1 and that operand repeats along the axis.
    The gradient of an operand that repeats is summed over the places where it stood. Numbers take the tensor's dtype.
    """

    function: np.ufunc

    def __init__(self, a: float | None = None, b: float | None = None):
        self.numbers = tuple(None if number is None else float(number) for number in (a, b))
        self.sides = [side for side in (0, 1) if self.numbers[side] is None]  # of the inputs: 0 is a, 1 is b

    def check(self, *inputs):
        shapes = dict(zip(self.sides, (x.shape for x in inputs), strict=True))
        out = broadcast_shape(self.name, *shapes.values()) if len(shapes) == 2 else inputs[0].shape
        self.walk = Walk.of(self.name, out, *(broadcast_strides(shapes.get(side, ()), out) for side in (0, 1)))
        return out

    def remember(self, a, b) -> None:
        """Keep the operands, arrays or numbers, for backward."""
        self.operands = a, b

    def gradient(self, side: int, dy, a, b):
        """dy * dy/d(operand), in the shape of y."""
        raise NotImplementedError

    def forward_numpy(self, *arrays_and_y):
        *arrays, y = arrays_and_y
        a, b = self._operands(arrays, self.numbers)
        self.function(a, b, out=y)
        self.remember(a, b)

    def backward_numpy(self, dy):
        for i, side in enumerate(self.sides):
            if (dx := self.grad_array(i)) is not None:
                gradient = self.gradient(side, dy, *self.operands)
                lead = gradient.ndim - dx.ndim
                repeated = [axis for axis in range(dy.ndim) if axis < lead or dx.shape[axis - lead] != dy.shape[axis]]
                dx[...] = gradient.sum(axis=tuple(repeated), keepdims=True).reshape(dx.shape)

    def forward_kernel(self, *arrays_and_y):
        *arrays, y = arrays_and_y
        a, b = self._operands(arrays, (None, None))
        getattr(self.kernels, f"{self.name}_forward")(a, b, self._scalar, y, *self.walk.padded)
        self.remember(a, b)

    def backward_kernel(self, dy):
        for i, side in enumerate(self.sides):
            dx, accumulate = self.grad_out(i)
            if dx is None:
                continue
            if dx.shape == dy.shape:
                self._launch_gradient(side, dy, dx, accumulate)
            else:
                gradient = self.empty(dy.shape)
                self._launch_gradient(side, dy, gradient, Accumulate.overwrite)
                self._sum_repeated(side, gradient, dx, accumulate)

    def _operands(self, arrays, absent):
        """(a, b): the arrays at their sides, what `absent` has there in the place of a number."""
        arrays = iter(arrays)
        return tuple(next(arrays) if side in self.sides else absent[side] for side in (0, 1))

    @property
    def _scalar(self) -> float:
        return next((number for number in self.numbers if number is not None), 0.0)

    def _launch_gradient(self, side, dy, dx, accumulate):
        backward = getattr(self.kernels, f"{self.name}_backward_{'ab'[side]}")
        backward(dy, *self.operands, self._scalar, dx, accumulate, *self.walk.padded)

    def _sum_repeated(self, side, gradient, dx, accumulate, scale=1.0):
        """dx (+)= scale * the sum of `gradient`, in the shape of y, over the axes along which the operand repeats."""
        extents, strides = list(self.walk.extents), self.walk[1 + side]
        repeated = runs(tuple(axis for axis, step in enumerate(strides) if step == 0))
        if not repeated:
            copy(self.kernels, gradient, dx, accumulate, scale=scale)
        for start, stop in reversed(repeated):
            shape = tuple(math.prod(part) for part in (extents[:start], extents[start:stop], extents[stop:]))
            extents[start:stop] = [1] * (stop - start)
            if (start, stop) == repeated[0]:
                sum_into(self, gradient, dx, shape, accumulate, scale)
            else:
                partial = self.empty((shape[0] * shape[2],))
                sum_into(self, gradient, partial, shape)
                gradient = partial


class Add(Arithmetic):
    """y = a + b; da = dy, db = dy."""

    name = "add"
    function = np.add
    signs = 1.0, 1.0

    def remember(self, a, b):
        self.operands = None, None  # the gradient needs neither

    def gradient(self, side, dy, a, b):
        return self.signs[side] * dy

    def backward_kernel(self, dy):
        for i, side in enumerate(self.sides):
            dx, accumulate = self.grad_out(i)
            if dx is not None:
                self._sum_repeated(side, dy, dx, accumulate, self.signs[side])


class Sub(Add):
    """y = a - b; da = dy, db = -dy."""

    name = "sub"
    function = np.subtract
    signs = 1.0, -1.0


class Mul(Arithmetic):
    """y = a * b; da = dy * b, db = dy * a."""

    name = "mul"
    function = np.multiply

    def gradient(self, side, dy, a, b):
        return dy * (a, b)[1 - side]


class Div(Arithmetic):
    """y = a / b; da = dy / b, db = -dy * a / b^2."""

    name = "div"
    function = np.divide

    def gradient(self, side, dy, a, b):
        return dy / b if side == 0 else -(dy / b) * (a / b)


def _apply(op: type[Arithmetic], a, b) -> Tensor:
    a_number, b_number = (x if isinstance(x, numbers.Real) else None for x in (a, b))
    tensors = [x for x in (a, b) if not isinstance(x, numbers.Real)]
    return op(a_number, b_number)(*tensors)


def add(a: Tensor | float, b: Tensor | float) -> Tensor:
    """a + b."""
    return _apply(Add, a, b)


def sub(a: Tensor | float, b: Tensor | float) -> Tensor:
    """a - b."""
    return _apply(Sub, a, b)


def mul(a: Tensor | float, b: Tensor | float) -> Tensor:
    """a * b, element by element."""
    return _apply(Mul, a, b)


def div(a: Tensor | float, b: Tensor | float) -> Tensor:
    """a / b, element by element."""
    return _apply(Div, a, b)


def neg(x: Tensor) -> Tensor:
    """-x."""
    return mul(x, -1.0)


Tensor.__add__, Tensor.__radd__ = add, lambda b, a: add(a, b)
Tensor.__sub__, Tensor.__rsub__ = sub, lambda b, a: sub(a, b)
Tensor.__mul__, Tensor.__rmul__ = mul, lambda b, a: mul(a, b)
Tensor.__truediv__, Tensor.__rtruediv__ = div, lambda b, a: div(a, b)
Tensor.__neg__ = neg
