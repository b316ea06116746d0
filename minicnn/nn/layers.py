"""Layers: the functions of minicnn.functional with their parameters."""

from __future__ import annotations

from typing import Literal

import numpy as np

from minicnn import functional, random
from minicnn.errors import OpError
from minicnn.nn import init
from minicnn.nn.module import Buffer, Module, parameter
from minicnn.ops.dropout import DropoutKey, DropoutMask, check_probability
from minicnn.shapes import ConvShape, IntOrPair, pair


class AdaptiveAvgPool2d(Module):
    """Means over windows that share the image out evenly: (N, H, W, C) -> (N, *output_size, C)."""

    def __init__(self, output_size: IntOrPair):
        super().__init__()
        self.output_size = output_size

    def forward(self, x):
        return functional.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self):
        return f"{self.output_size}"


class Add(Module):
    """y = a + b, for tensors of one shape: the sum of two paths through a network."""

    def forward(self, a, b, relu: ReLU | None = None):
        """With `relu`, a layer, what this makes of the sum."""
        return a + b if relu is None else functional.add_relu(a, b)


class AvgPool2d(Module):
    """Means over windows: (N, H, W, C) -> (N, P, Q, C)."""

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x):
        return functional.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )

    def extra_repr(self):
        return (
            f"{self.kernel_size}, stride={self.stride}, padding={self.padding}, ceil_mode={self.ceil_mode}, "
            f"count_include_pad={self.count_include_pad}"
        )


class BatchNorm(Module):
    """Batch normalisation over all axes but the last, of x with `axes` axes: see functional.batch_norm.

    weight and bias (num_features,) start as 1 and 0, running_mean and running_var as 0 and 1.
    """

    axes: int

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = parameter(np.ones(num_features, np.float32))
        self.bias = parameter(np.zeros(num_features, np.float32))
        self.running_mean = Buffer(np.zeros(num_features, np.float32))
        self.running_var = Buffer(np.ones(num_features, np.float32))

    def forward(self, x, relu: ReLU | None = None):
        """With `relu`, a layer, what this makes of the output."""
        if x.ndim != self.axes:
            raise OpError(f"batch_norm: {type(self).__name__} takes x with {self.axes} axes, got {x.shape}")
        arrays = self.running_mean, self.running_var, self.weight, self.bias
        options = self.training, self.momentum, self.eps
        return functional.batch_norm(x, *arrays, *options, activation=relu and "relu")

    def extra_repr(self):
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(BatchNorm):
    """Batch normalisation of (N, C): each channel over N."""

    axes = 2


class BatchNorm2d(BatchNorm):
    """Batch normalisation of images (N, H, W, C): each channel over N, H and W."""

    axes = 4


class Concatenate(Module):
    """The inputs one behind another along an axis, by default that of the channels: a join of several paths."""

    def __init__(self, axis: int = -1):
        super().__init__()
        self.axis = axis

    def forward(self, *xs):
        return functional.concatenate(xs, self.axis)

    def extra_repr(self):
        return f"axis={self.axis}"


class Conv2d(Module):
    """Convolution: x (N, H, W, in_channels) -> (N, P, Q, out_channels); weight (out_channels, R, S, in_channels/groups)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise OpError(f"conv2d: groups={groups} must divide {in_channels} input and {out_channels} output channels")
        self.kernel_size = pair(kernel_size, "conv2d: kernel_size", 1)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.weight = parameter(np.zeros((out_channels, *self.kernel_size, in_channels // groups), np.float32))
        self.bias = parameter(np.zeros(out_channels, np.float32)) if bias else None
        init.he_normal_(self.weight)

    def forward(self, x, relu: ReLU | None = None, pool: MaxPool2d | None = None):
        """With `relu`, and with `pool` behind it, layers, what these make of the convolution's output."""
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        if pool is not None:
            return functional.conv2d_relu_max_pool2d(x, self.weight, self.bias, *geometry, *pool.window)
        return functional.conv2d(x, self.weight, self.bias, *geometry, activation=relu and "relu")

    def macs(self, x_shape: tuple[int, ...]) -> int:
        """Multiply-accumulates of the forward pass over x of this shape."""
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        return ConvShape.of("conv2d", x_shape, self.weight.shape, *geometry).macs

    def extra_repr(self):
        channels = f"{self.weight.shape[3] * self.groups}, {self.weight.shape[0]}"
        options = f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, groups={self.groups}"
        return f"{channels}, {self.kernel_size}, {options}, bias={self.bias is not None}"


class Dropout(Module):
    """In training, zeroes each element with probability p and multiplies the others by 1 / (1 - p); else x itself.

    The masks are a function of the seed (minicnn.manual_seed), the layer's number and the count of masks it has drawn.
    A layer is numbered when it is made, in order since manual_seed: the same code makes the same masks. Number and
    count are buffers, saved and loaded with the model, so that a resumed run draws the masks that the unbroken one
    would have drawn.
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        check_probability(p)
        self.p = p
        self.layer = Buffer(np.array([random.next_stream()]))
        self.counter = Buffer(np.array([0]))

    @property
    def drops(self) -> bool:
        return self.training and self.p > 0

    @property
    def key(self) -> DropoutKey:
        return DropoutKey(random.seed(), self.layer, self.counter)

    def forward(self, x):
        return functional.dropout(x, self.p, self.training, self.key)

    def extra_repr(self):
        return f"p={self.p}"


class Flatten(Module):
    """(N, ...) -> (N, product of the rest): the axes from start_dim on become one."""

    def __init__(self, start_dim: int = 1):
        super().__init__()
        self.start_dim = start_dim

    def forward(self, x):
        return functional.flatten(x, self.start_dim)


class Linear(Module):
    """y = x @ weight.T + bias: x (N, in_features) -> (N, out_features); weight (out_features, in_features)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = parameter(np.zeros((out_features, in_features), np.float32))
        self.bias = parameter(np.zeros(out_features, np.float32)) if bias else None
        init.he_normal_(self.weight)

    def forward(self, x, relu: ReLU | None = None, dropout: Dropout | None = None):
        """With `relu` and `dropout`, layers, what these make of the output, one after the other."""
        mask = DropoutMask(dropout.p, dropout.key) if dropout is not None and dropout.drops else None
        return functional.linear(x, self.weight, self.bias, activation=relu and "relu", dropout=mask)

    def macs(self, x_shape: tuple[int, ...]) -> int:
        """Multiply-accumulates of the forward pass over x of this shape."""
        return x_shape[0] * self.weight.size

    def extra_repr(self):
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class LocalResponseNorm(Module):
    """y = x / (k + a * sum of x**2 over `size` channels)**beta; a = alpha/size ("mean") or alpha ("sum").

    groups  of neighbouring channels, over whose borders no window reaches
    """

    def __init__(
        self,
        size: int,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        dialect: Literal["mean", "sum"] = "mean",
        groups: int = 1,
    ):
        super().__init__()
        self.size, self.alpha, self.beta, self.k, self.dialect, self.groups = size, alpha, beta, k, dialect, groups

    def forward(self, x):
        constants = self.size, self.alpha, self.beta, self.k, self.dialect
        if self.groups == 1:
            return functional.local_response_norm(x, *constants)
        if x.ndim != 4 or x.shape[3] % self.groups:
            raise OpError(
                f"local_response_norm: groups={self.groups} must divide the channels of images, got {x.shape}"
            )
        n, h, w, c = x.shape
        apart = x.reshape(n, h, w * self.groups, c // self.groups)  # the same memory: a group is a pixel of its own
        return functional.local_response_norm(apart, *constants).reshape(x.shape)

    def extra_repr(self):
        constants = f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}, dialect={self.dialect!r}"
        return constants + (f", groups={self.groups}" if self.groups > 1 else "")


class MaxPool2d(Module):
    """Maxima over windows: (N, H, W, C) -> (N, P, Q, C)."""

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        ceil_mode: bool = False,
    ):
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding
        self.ceil_mode = ceil_mode

    @property
    def window(self) -> tuple:
        """The arguments of functional.max_pool2d behind x."""
        return self.kernel_size, self.stride, self.padding, self.ceil_mode

    def forward(self, x):
        return functional.max_pool2d(x, *self.window)

    def extra_repr(self):
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}, ceil_mode={self.ceil_mode}"


class ReLU(Module):
    """y = max(x, 0)."""

    def forward(self, x):
        return functional.relu(x)


class Sigmoid(Module):
    """y = 1 / (1 + exp(-x))."""

    def forward(self, x):
        return functional.sigmoid(x)


class Softmax(Module):
    """exp(x) / sum of exp(x) along axis `dim`."""

    def __init__(self, dim: int = -1):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        return functional.softmax(x, self.dim)

    def extra_repr(self):
        return f"dim={self.dim}"


class Tanh(Module):
    """y = tanh(x)."""

    def forward(self, x):
        return functional.tanh(x)
