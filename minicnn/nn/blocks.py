"""Blocks of the classic networks, for networks of one's own: each is a Module made of layers, none has a kernel of its own."""

from __future__ import annotations

import itertools
import math

import numpy as np

from minicnn import functional
from minicnn.errors import OpError
from minicnn.nn import init
from minicnn.nn.layers import Add, BatchNorm2d, Concatenate, Conv2d, MaxPool2d, ReLU
from minicnn.nn.module import Buffer, Module, parameter
from minicnn.nn.sequential import Sequential, in_turn
from minicnn.shapes import ConvShape, IntOrPair, pair
from minicnn.tensor import Tensor


def convolution(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int | None = None):
    """[Conv2d, ReLU]; padding None keeps the extent of the image where the stride is 1."""
    padding = (kernel_size - 1) // 2 if padding is None else padding
    return [Conv2d(in_channels, out_channels, kernel_size, stride, padding), ReLU()]


class MirroredLocalResponseNorm(Module):
    """LocalResponseNorm (dialect "mean") whose windows of even size reach one channel further up than down: ONNX's, and its
    networks' only. It is ours of the channels in reverse, which a convolution by 0 and 1 makes.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x):
        reverse = x.device.array(np.eye(x.shape[3], dtype=x.dtype)[::-1, None, None])
        reverse = Tensor(reverse, x.device)
        mirrored = functional.local_response_norm(
            functional.conv2d(x, reverse), self.size, self.alpha, self.beta, self.k
        )
        return functional.conv2d(mirrored, reverse)

    def extra_repr(self):
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class MlpConv(Sequential):
    """A convolution and, at each of its places, a multilayer perceptron over the channels: 1x1 convolutions.

    x (N, H, W, in_channels) -> (N, P, Q, channels[-1]). channels[0] filters of kernel_size, then a layer of 1x1 ones for
    each further entry; a ReLU follows every layer, the last one too. Source: Lin, Chen, Yan, "Network in network",
    arXiv 1312.4400, section 3.1.
    """

    def __init__(
        self,
        in_channels: int,
        channels: tuple[int, ...],
        kernel_size: int,
        stride: int = 1,
        padding: int | None = None,
    ):
        layers = convolution(in_channels, channels[0], kernel_size, stride, padding)
        for inputs, outputs in itertools.pairwise(channels):
            layers += convolution(inputs, outputs, 1)
        super().__init__(*layers)


class ConvBatchNorm2d(Module):
    """A convolution without bias, batch normalisation and ReLU: x (N, H, W, in_channels) -> (N, P, Q, out_channels).

    padding None keeps the extent of the image where the stride is 1. Names and eps are those of torchvision's BasicConv2d.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | None = None,
        eps: float = 1e-3,
    ):
        super().__init__()
        padding = (kernel_size - 1) // 2 if padding is None else padding
        self.conv = Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = BatchNorm2d(out_channels, eps)
        self.relu = ReLU()

    def forward(self, x):
        return in_turn((self.conv, self.bn, self.relu), x)


class Inception(Module):
    """Four views of x side by side: 1x1, 3x3 and 5x5 convolutions, the larger ones behind a 1x1 that reduces the channels,
    and a 3x3 maximum with a 1x1 projection.

    x (N, H, W, in_channels) -> (N, H, W, direct + out3 + out5 + projected). The arguments are a row of the paper's
    table 1. Source: Szegedy et al., "Going deeper with convolutions", arXiv 1409.4842, figure 2b.
    """

    def __init__(self, in_channels: int, direct: int, reduce3: int, out3: int, reduce5: int, out5: int, projected: int):
        super().__init__()
        self.add_branches(in_channels, direct, reduce3, out3, reduce5, out5, projected)
        self.concatenate = Concatenate(axis=3)

    def add_branches(self, in_channels, direct, reduce3, out3, reduce5, out5, projected) -> None:
        self.branch1 = Sequential(*convolution(in_channels, direct, 1))
        self.branch2 = Sequential(*convolution(in_channels, reduce3, 1), *convolution(reduce3, out3, 3))
        self.branch3 = Sequential(*convolution(in_channels, reduce5, 1), *convolution(reduce5, out5, 5))
        self.branch4 = Sequential(MaxPool2d(3, stride=1, padding=1), *convolution(in_channels, projected, 1))

    def forward(self, x):
        return self.concatenate(*(branch(x) for branch in (self.branch1, self.branch2, self.branch3, self.branch4)))


class InceptionBatchNorm(Inception):
    """The inception module of torchvision's GoogLeNet: each convolution has batch normalisation before its ReLU and no bias,
    and the third view is a 3x3 one too, where the paper has 5x5."""

    def add_branches(self, in_channels, direct, reduce3, out3, reduce5, out5, projected):
        conv = ConvBatchNorm2d
        self.branch1 = conv(in_channels, direct, 1)
        self.branch2 = Sequential(conv(in_channels, reduce3, 1), conv(reduce3, out3, 3))
        self.branch3 = Sequential(conv(in_channels, reduce5, 1), conv(reduce5, out5, 3))
        self.branch4 = Sequential(MaxPool2d(3, stride=1, padding=1), conv(in_channels, projected, 1))


class PadShortcut(Module):
    """Every stride-th pixel of x, and zeros for the channels that it lacks: (N, H, W, C) -> (N, P, Q, out_channels).

    The shortcut of He et al. 2015 that has no parameters (option A of section 4.1).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        if out_channels < in_channels:
            raise OpError(f"PadShortcut: {in_channels} channels cannot be padded to {out_channels}")
        self.added, self.stride = out_channels - in_channels, stride

    def forward(self, x):
        x = x[:, :: self.stride, :: self.stride]
        if not self.added:
            return x
        zeros = x.device.empty((*x.shape[:3], self.added), x.dtype)
        x.device.zero(zeros)
        return functional.concatenate([x, Tensor(zeros, x.device)], axis=3)

    def extra_repr(self):
        return f"stride={self.stride}, added={self.added}"


class Residual(Module):
    """y = relu(F(x) + shortcut(x)): what the two residual blocks share.

    shortcut    x itself where F keeps the shape. Where it does not, "A": every stride-th pixel and zeros for the new
                channels; "B": a 1x1 projection with batch normalisation. None: no shortcut, a plain network's block
    zero_init   the last normalisation starts with scale 0: F is 0, and the block passes on relu(shortcut(x))

    Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", arXiv 1512.03385, sections 3.3 and 4.1.
    Names are torchvision's: conv1, bn1, ..., downsample.
    """

    expansion: int

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: str | None, zero_init: bool):
        super().__init__()
        if shortcut not in ("A", "B", None):
            raise OpError(f"{type(self).__name__}: shortcut must be 'A', 'B' or None, got {shortcut!r}")
        outputs = channels * self.expansion
        self.add_layers(in_channels, channels, stride)
        if zero_init:
            self.residual_layers()[-1].weight.copy_(np.zeros(outputs))
        if shortcut is not None:
            if stride != 1 or in_channels != outputs:
                self.downsample = {"A": PadShortcut, "B": projection}[shortcut](in_channels, outputs, stride)
            self.add = Add()
        self.relu = ReLU()

    def add_layers(self, in_channels: int, channels: int, stride: int) -> None:
        raise NotImplementedError

    def residual_layers(self) -> tuple[Module, ...]:
        """F: the layers one after another, a normalisation last."""
        raise NotImplementedError

    def residual(self, x):
        """F(x)."""
        return in_turn(self.residual_layers(), x)

    def forward(self, x):
        if not hasattr(self, "add"):
            return in_turn((*self.residual_layers(), self.relu), x)
        y = self.residual(x)
        return in_turn((self.add, self.relu), y, self.downsample(x) if hasattr(self, "downsample") else x)


def projection(in_channels: int, out_channels: int, stride: int) -> Sequential:
    """Option B: a 1x1 convolution of this stride and batch normalisation."""
    return Sequential(Conv2d(in_channels, out_channels, 1, stride, bias=False), BatchNorm2d(out_channels))


class BasicBlock(Residual):
    """Two 3x3 convolutions: x (N, H, W, in_channels) -> (N, P, Q, channels); the first one has the stride."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        shortcut: str | None = "B",
        zero_init: bool = False,
    ):
        super().__init__(in_channels, channels, stride, shortcut, zero_init)

    def add_layers(self, in_channels, channels, stride):
        self.conv1 = Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.relu1 = ReLU()
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)

    def residual_layers(self):
        return self.conv1, self.bn1, self.relu1, self.conv2, self.bn2


class Bottleneck(Residual):
    """1x1 to `channels`, 3x3, and 1x1 to four times as many: x (N, H, W, in_channels) -> (N, P, Q, 4 * channels).

    stride_on  the convolution that has the stride: "3x3" as in torchvision's networks, "1x1" (the first) as in the paper's
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        shortcut: str | None = "B",
        zero_init: bool = False,
        stride_on: str = "3x3",
    ):
        if stride_on not in ("3x3", "1x1"):
            raise OpError(f"Bottleneck: stride_on must be '3x3' or '1x1', got {stride_on!r}")
        self.stride_on = stride_on
        super().__init__(in_channels, channels, stride, shortcut, zero_init)

    def add_layers(self, in_channels, channels, stride):
        first, second = (stride, 1) if self.stride_on == "1x1" else (1, stride)
        outputs = channels * self.expansion
        self.conv1 = Conv2d(in_channels, channels, 1, first, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.relu1 = ReLU()
        self.conv2 = Conv2d(channels, channels, 3, second, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.relu2 = ReLU()
        self.conv3 = Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = BatchNorm2d(outputs)

    def residual_layers(self):
        return self.conv1, self.bn1, self.relu1, self.conv2, self.bn2, self.relu2, self.conv3, self.bn3


class PartialConv2d(Module):
    """Convolution of which each filter reads only some of the input's channels.

    connections  (in_channels, out_channels) of truth values, or in_channels strings of "X" and "." as LeCun's table I has
                 them: whether filter k reads channel c
    weight       (number of connections, R, S), in the order filter by filter, channel by channel; bias (out_channels,)

    x (N, H, W, in_channels) -> (N, P, Q, out_channels). The weights are put at their places in a dense filter whose other
    elements are 0, so the convolution computes with the zeros too; `macs` counts what is connected.
    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998, section II.B.
    """

    def __init__(self, connections, kernel_size: IntOrPair, stride: IntOrPair = 1, padding: IntOrPair = 0):
        super().__init__()
        rows = [[mark == "X" for mark in row] if isinstance(row, str) else row for row in connections]
        table = np.array(rows, bool)
        if table.ndim != 2 or not table.any(axis=0).all():
            raise OpError("PartialConv2d: connections must be (in_channels, out_channels), each filter with an input")
        self.in_channels, self.out_channels = table.shape
        self.kernel_size = pair(kernel_size, "PartialConv2d: kernel_size", 1)
        self.stride, self.padding = stride, padding
        filters, channels = np.nonzero(table.T)
        self.fan_in = table.sum(axis=0)[filters] * math.prod(self.kernel_size)
        placement = np.zeros((table.size, len(filters)), np.float32)
        placement[filters * self.in_channels + channels, np.arange(len(filters))] = 1
        self.placement = Buffer(placement)
        self.weight = parameter(np.zeros((len(filters), *self.kernel_size), np.float32))
        self.bias = parameter(np.zeros(self.out_channels, np.float32))
        self.draw_normal()

    def draw_normal(self, gain: float = math.sqrt(2.0)) -> None:
        """weight ~ N(0, gain^2 / fan_in), where fan_in is that of the filter it belongs to."""
        init.normal_(self.weight, 1.0)
        self.weight.copy_(self.weight.numpy() * (gain / np.sqrt(self.fan_in))[:, None, None])

    def dense_weight(self) -> Tensor:
        """The filter (K, R, S, C) that a convolution without a table would have, 0 where nothing is connected."""
        placed = self.placement @ self.weight.reshape(self.weight.shape[0], -1)
        return placed.reshape(self.out_channels, self.in_channels, *self.kernel_size).permute(0, 2, 3, 1)

    def forward(self, x):
        return functional.conv2d(x, self.dense_weight(), self.bias, self.stride, self.padding)

    def macs(self, x_shape: tuple[int, ...]) -> int:
        dense = (self.out_channels, *self.kernel_size, self.in_channels)
        shape = ConvShape.of("PartialConv2d", x_shape, dense, self.stride, self.padding, dilation=1, groups=1)
        return shape.n * shape.p * shape.q * self.weight.size

    def extra_repr(self):
        channels = f"{self.in_channels}, {self.out_channels}, {self.kernel_size}"
        return f"{channels}, connections={self.weight.shape[0]}, stride={self.stride}, padding={self.padding}"


class Subsampling2d(Module):
    """y = weight[c] * (sum of a window of channel c) + bias[c]: windows of kernel_size side by side, weight and bias (C,).

    x (N, H, W, C) -> (N, P, Q, C). The weights start as those of a mean. Source: LeCun et al. 1998, section II.B.
    """

    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        self.kernel_size = self.stride = kernel_size
        self.weight = parameter(np.full(channels, 1 / kernel_size**2, np.float32))
        self.bias = parameter(np.zeros(channels, np.float32))

    def forward(self, x):
        window = functional.avg_pool2d(x, self.kernel_size)
        return window * (self.weight * float(self.kernel_size**2)) + self.bias

    def macs(self, x_shape: tuple[int, ...]) -> int:
        """One an output: the sum is made of additions."""
        n, h, w, c = x_shape
        return n * (h // self.stride) * (w // self.stride) * c

    def extra_repr(self):
        return f"{self.weight.shape[0]}, {self.kernel_size}"


class ScaledTanh(Module):
    """y = 1.7159 tanh(2 x / 3), which is close to 1 at 1 and bends most there. Source: LeCun et al. 1998, appendix A."""

    amplitude, slope = 1.7159, 2 / 3

    def forward(self, x):
        return functional.tanh(x * self.slope) * self.amplitude


class RadialBasis(Module):
    """y[n, k] = -|x[n] - codes[k]|^2: x (N, features) -> (N, classes), for fixed codes (classes, features).

    Up to a constant the log-likelihoods of Gaussians of variance 1/2 round the codes: logits, of which the largest belongs
    to the nearest code. Source: LeCun et al. 1998, section II.B, equation 7, whose y is this one's negative.
    """

    def __init__(self, codes):
        super().__init__()
        codes = np.asarray(codes, np.float32)
        if codes.ndim != 2:
            raise OpError(f"RadialBasis: codes must be (classes, features), got {codes.shape}")
        self.codes = Buffer(codes)

    def forward(self, x):
        distance = x.reshape(x.shape[0], 1, -1) - self.codes
        return -(distance * distance).sum(axis=2)

    def macs(self, x_shape: tuple[int, ...]) -> int:
        """One a feature and class: the square of a difference."""
        return x_shape[0] * math.prod(self.codes.shape)

    def extra_repr(self):
        return ", ".join(map(str, reversed(self.codes.shape)))
