"""Elementary functions, element by element: exp, log, sqrt, powers."""

from __future__ import annotations

import numbers

import numpy as np

from minicnn.autograd import Op
from minicnn.errors import OpError
from minicnn.tensor import Tensor


class Elementary(Op):
    """y = f(x), any shape. Outside of its domain a function has the NaN and the infinities of IEEE arithmetic."""

    function: np.ufunc
    parameters: tuple[float, ...] = ()
    keeps = "y"  # of x and y, the one from which the gradient is computed

    def check(self, x):
        return x.shape

    def gradient(self, dy, saved, dx) -> None:
        """dx = dy * f'(x), where `saved` is x or y."""
        raise NotImplementedError

    def forward_numpy(self, x, y):
        self.function(x, *self.parameters, out=y)
        self.saved = x if self.keeps == "x" else y

    def backward_numpy(self, dy):
        self.gradient(dy, self.saved, self.grad_array(0))

    def forward_kernel(self, x, y):
        getattr(self.kernels, f"{self.name}_forward")(x, y, *self.parameters, x.size)
        self.saved = x if self.keeps == "x" else y

    def backward_kernel(self, dy):
        dx, accumulate = self.grad_out(0)
        getattr(self.kernels, f"{self.name}_backward")(dy, self.saved, dx, accumulate, *self.parameters, dy.size)


class Exp(Elementary):
    """y = e^x; dx = dy * y."""

    name = "exp"
    function = np.exp

    def gradient(self, dy, y, dx):
        np.multiply(dy, y, out=dx)


class Log(Elementary):
    """y = ln x; dx = dy / x."""

    name = "log"
    function = np.log
    keeps = "x"

    def gradient(self, dy, x, dx):
        np.divide(dy, x, out=dx)


class Sqrt(Elementary):
    """y = x^(1/2); dx = dy / (2 y)."""

    name = "sqrt"
    function = np.sqrt

    def gradient(self, dy, y, dx):
        np.divide(dy, 2 * y, out=dx)


class Pow(Elementary):
    """y = x^exponent, for a number as exponent; dx = dy * exponent * x^(exponent - 1), 0 where the exponent is 0."""

    name = "pow"
    function = np.power
    keeps = "x"

    def __init__(self, exponent: float):
        if not isinstance(exponent, numbers.Real):
            raise OpError(f"pow: the exponent must be a number, got {type(exponent).__name__}")
        self.parameters = (float(exponent),)

    def gradient(self, dy, x, dx):
        (exponent,) = self.parameters
        if exponent == 0:
            dx[...] = 0
        else:
            np.power(x, exponent - 1, out=dx)
            dx *= exponent * dy


def exp(x: Tensor) -> Tensor:
    """e^x."""
    return Exp()(x)


def log(x: Tensor) -> Tensor:
    """The natural logarithm of x: -inf at 0, NaN below."""
    return Log()(x)


def sqrt(x: Tensor) -> Tensor:
    """The square root of x: NaN below 0."""
    return Sqrt()(x)


def pow(x: Tensor, exponent: float) -> Tensor:
    """x^exponent. Raises OpError where the exponent is no number."""
    return Pow(exponent)(x)


Tensor.exp, Tensor.log, Tensor.sqrt = exp, log, sqrt
Tensor.__pow__ = pow
