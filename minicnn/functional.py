"""The ops as functions, with PyTorch's names and argument order. Images are (N, H, W, C), conv weights (K, R, S, C/groups)."""

from __future__ import annotations

from collections.abc import Sequence

from minicnn import ops
from minicnn.errors import OpError
from minicnn.ops import DropoutKey, DropoutMask
from minicnn.shapes import IntOrPair, pair
from minicnn.tensor import Tensor


def adaptive_avg_pool2d(x: Tensor, output_size: IntOrPair) -> Tensor:
    """Means over output_size windows that share x (N, H, W, C) out evenly -> (N, *output_size, C)."""
    return ops.AdaptiveAvgPool2d(output_size)(x)


def add_relu(a: Tensor, b: Tensor) -> Tensor:
    """max(a + b, 0), in one pass over memory, for tensors of one shape. Raises OpError for others."""
    return ops.AddReLU()(a, b)


def avg_pool2d(
    x: Tensor,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Means over windows of x (N, H, W, C) -> (N, P, Q, C); stride defaults to kernel_size.

    The padding's zeros count as elements unless `count_include_pad` is False. Raises OpError where no window fits.
    """
    return ops.AvgPool2d(kernel_size, stride, padding, ceil_mode, count_include_pad)(x)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str | None = None,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel: x (..., C), all else (C,).

    In training, mean and var are the batch's, over all axes but the last, and the running ones (if any) follow in
    place: running <- (1 - momentum) * running + momentum * batch, with the unbiased variance. Else they are the running
    ones. activation "relu": max(that, 0), in the same pass.
    Raises OpError where shapes, dtypes or devices do not fit, and for training on fewer than two values a channel.
    """
    if (weight is None) != (bias is None):
        raise OpError("batch_norm: weight and bias come together or not at all")
    op = ops.BatchNorm(running_mean, running_var, training, momentum, eps, activation)
    return op(x) if weight is None else op(x, weight, bias)


def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors one behind another along `axis`. Raises OpError where other extents differ, or without a tensor."""
    if not tensors:
        raise OpError("concatenate: at least one tensor is needed, got none")
    return ops.Concatenate(axis)(*tensors)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    activation: str | None = None,
) -> Tensor:
    """Cross-correlation of x (N, H, W, C) with weight (K, R, S, C/groups), plus bias (K,) -> (N, P, Q, K).

    P = floor((H + 2*padding - dilation*(R - 1) - 1) / stride) + 1, and Q likewise. Raises OpError that says what of x,
    weight, bias and groups does not fit, and where no window fits. activation "relu": max(that, 0), in the same pass.
    """
    op = ops.Conv2d(stride, padding, dilation, groups, activation)
    return op(x, weight) if bias is None else op(x, weight, bias)


def conv2d_relu_max_pool2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: IntOrPair,
    padding: IntOrPair,
    dilation: IntOrPair,
    groups: int,
    kernel_size: IntOrPair,
    pool_stride: IntOrPair | None = None,
    pool_padding: IntOrPair = 0,
    ceil_mode: bool = False,
) -> Tensor:
    """max_pool2d of conv2d with activation "relu", the arguments of both as they are there: in one pass over memory where
    the device has a kernel for it (windows of 2 x 2 side by side), else in two.
    """
    geometry, window = (stride, padding, dilation, groups), (kernel_size, pool_stride, pool_padding, ceil_mode)
    op = ops.Conv2dMaxPool2d(*geometry, window)
    if not op.fits(x, weight):
        return max_pool2d(conv2d(x, weight, bias, *geometry, activation="relu"), *window)
    return op(x, weight) if bias is None else op(x, weight, bias)


def cross_entropy(logits: Tensor, target: Tensor, label_smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
    """-sum_c q[n, c] * log softmax(logits[n])[c]: logits (N, C), target (N,) int64 -> mean () or sum (), or (N,).

    q[n, c] = (1 - label_smoothing) * [c == target[n]] + label_smoothing / C. reduction: "mean", "sum" or "none". Raises
    OpError where shapes or dtypes do not fit, and for a target outside [0, C); on devices that run kernels the loss of
    such a row is NaN instead.
    """
    return ops.CrossEntropy(label_smoothing, reduction)(logits, target)


def dropout(x: Tensor, p: float = 0.5, training: bool = True, key: DropoutKey | None = None) -> Tensor:
    """Each element of x times 0, with probability p, or 1 / (1 - p); outside of training x itself.

    The mask is a function of the key (seed, layer, counter), the same on every device; the counter advances. Without a
    key it is one that no other call since `manual_seed` has had. Raises OpError unless 0 <= p < 1.
    """
    mask = DropoutMask(p, key)
    return ops.Dropout(mask)(x) if training and p > 0 else x


def flatten(x: Tensor, start_dim: int = 1) -> Tensor:
    """x with the axes from start_dim on made one: (N, H, W, C) -> (N, H*W*C). Nothing is copied."""
    return x.flatten(start_dim)


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    dropout: DropoutMask | None = None,
) -> Tensor:
    """x @ weight.T + bias: x (N, in), weight (out, in), bias (out,) -> (N, out). Raises OpError where they do not fit.

    activation "relu": max(that, 0), in the same pass; `dropout`: times that mask, in the same pass.
    """
    op = ops.Linear(activation, dropout)
    return op(x, weight) if bias is None else op(x, weight, bias)


def local_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, dialect: str = "mean"
) -> Tensor:
    """x / (k + a * sum of x**2 over `size` neighbouring channels)**beta, x (..., C).

    a = alpha/size with dialect "mean" (PyTorch, Caffe), alpha with "sum" (Krizhevsky et al. 2012, section 3.3: there
    size=5, alpha=1e-4, beta=0.75, k=2). Raises OpError for a size below 1 or another dialect.
    """
    return ops.LocalResponseNorm(size, alpha, beta, k, dialect)(x)


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """x - log(sum of exp(x) along axis `dim`), any shape. Raises OpError where x has no such axis."""
    return ops.LogSoftmax(dim)(x)


def max_pool2d(
    x: Tensor,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    ceil_mode: bool = False,
) -> Tensor:
    """Maxima over windows of x (N, H, W, C) -> (N, P, Q, C); stride defaults to kernel_size.

    Padding never wins, a window wholly in it gives -inf. Raises OpError where no window fits, and for windows of more
    than 65535 elements.
    """
    return ops.MaxPool2d(kernel_size, stride, padding, ceil_mode)(x)


def prepare_images(images: Tensor, windows: Tensor, scale: Tensor, offset: Tensor, size: IntOrPair) -> Tensor:
    """images[i, top + p, left + (Q-1-q if mirrored else q), c] * scale[c] + offset[n, c] -> (N, P, Q, C), (P, Q) = size.

    images (M, H, W, C) uint8; windows (N, 4) int64: which image i, top, left and mirrored (0 or 1); scale (C,), offset
    (N, C). Outside of an image its pixels are 0. There is no gradient. In a precision of 16 bits the result is rounded to it
    (minicnn.precision). Raises OpError where shapes or dtypes do not fit.
    """
    return ops.PrepareImages(*pair(size, "prepare_images: size", 1))(images, windows, scale, offset)


def relu(x: Tensor) -> Tensor:
    """max(x, 0), element by element; NaN stays NaN."""
    return ops.ReLU()(x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), element by element."""
    return ops.Sigmoid()(x)


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """exp(x) / sum of exp(x) along axis `dim`, any shape. Raises OpError where x has no such axis."""
    return ops.Softmax(dim)(x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent, element by element."""
    return ops.Tanh()(x)


def to_device(x: Tensor, device) -> Tensor:
    """x on another device, through the host's memory; its gradient comes back the same way. `x.to(device)` makes a leaf."""
    return ops.ToDevice(device)(x)
