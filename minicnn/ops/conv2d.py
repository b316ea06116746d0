"""Convolution in two dimensions, in groups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minicnn.ops.affine import Affine, add_bias
from minicnn.shapes import ConvShape
from minicnn.threads import in_shares, share_count

PATCH_BYTES = 8 << 20  # a chunk of im2col: a last-level cache holds it; with less, BLAS packs the filters too often
SHARE_BYTES = 1 << 20  # a chunk of col2im: a second-level cache holds it, each is read once for every tap
FLOAT = 4  # bytes
RUNGS = ("implicit", "im2col", "direct")


def rung() -> str:
    """What MINICNN_CONV asks for at this moment: csrc/ops/conv2d_implicit.cu, or the ladder's lower rung
    csrc/ops/conv2d_im2col.cu. Device "cpu" has no ladder: with any of the names csrc/ops/conv2d.cpp leaves Winograd's
    algorithms out. Raises ValueError for another name.
    """
    name = os.environ.get("MINICNN_CONV", RUNGS[0])
    if name not in RUNGS:
        raise ValueError(f"MINICNN_CONV must be one of {', '.join(RUNGS)}, got {name!r}")
    return name


class Conv2d(Affine):
    """y[n,p,q,k] = activation(bias[k] + sum over r, s, c of x[n, h, w, c] * weight[k, r, s, c]), where x is 0 outside its
    borders and h = p*stride - padding + r*dilation, w = q*stride - padding + s*dilation.

    x (N, H, W, C), weight (K, R, S, C/groups), bias (K,) or absent, y (N, P, Q, K). With groups, output channels
    [g*K/groups, (g+1)*K/groups) see input channels [g*C/groups, (g+1)*C/groups) alone.

    Sources: LeCun et al. 1998; groups from Krizhevsky et al. 2012, section 3.5; as GEMM: Chellapilla et al. 2006.
    """

    name = "conv2d"

    def __init__(self, stride=1, padding=0, dilation=1, groups: int = 1, activation: str | None = None):
        super().__init__(activation)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def check(self, x, weight, bias=None):
        self.shape = ConvShape.of(
            self.name, x.shape, weight.shape, self.stride, self.padding, self.dilation, self.groups
        )
        self.check_bias(bias, self.shape.k)
        return self.shape.out

    def forward_numpy(self, x, weight, *bias_and_y):
        bias, y = self.keep(x, weight, *bias_and_y)

        def of_images(images):
            for group in range(self.groups):
                filters, ks = group_filters(self.weight, self.groups, group)
                for pixels, patches in im2col(self.x[images], self._shape_of(images), group, self.empty):
                    np.matmul(patches, filters.T, out=as_matrix(y[images])[pixels, ks])
            if bias is not None:
                add_bias(y[images], bias)
            if self.relu_within:
                np.maximum(y[images], 0, out=y[images])

        in_shares(of_images, self.shape.n, self.shape.macs)
        self.numbers.round_result(y)

    def backward_numpy(self, dy):
        self.mask_gradient(dy)
        dy = self.numbers.operand(dy)
        if (dx := self.grad_array(0)) is not None:
            in_shares(
                lambda images: col2im(dy[images], self.weight, dx[images], self._shape_of(images), self.empty),
                self.shape.n,
                self.shape.macs,
            )
            self.numbers.round_result(dx)
        if (dweight := self.grad_array(1)) is not None:
            first, *others = in_shares(
                lambda images: self._gradient_of_weight(dy, images), self.shape.n, self.shape.macs
            )
            dweight[...] = first
            for share in others:
                dweight += share
        self.bias_backward_numpy(dy)

    def _gradient_of_weight(self, dy, images: slice):
        """What some of the images give: dweight[k] = sum over pixels of dy[pixel, k] * patches[pixel]."""
        dweight = self.empty(self.weight.shape)
        dweight[...] = 0
        for group in range(self.groups):
            target, ks = group_filters(dweight, self.groups, group)
            product = self.empty(target.shape)
            for pixels, patches in im2col(self.x[images], self._shape_of(images), group, self.empty):
                target += np.matmul(as_matrix(dy[images])[pixels, ks].T, patches, out=product)
        return dweight

    def _shape_of(self, images: slice) -> ConvShape:
        return self.shape._replace(n=images.stop - images.start)

    def launch(self, direction, *arguments):
        """conv2d_forward, conv2d_im2col_backward_input, ...: each with the workspace that it asks for."""
        has_rung = rung() == "im2col" and hasattr(self.kernels, "conv2d_im2col_forward") and not self.numbers.suffix
        kernel = f"conv2d_im2col_{direction}" if has_rung else f"conv2d_{direction}"
        self.launch_scheduled(kernel, (self.shape,), *arguments)


def as_matrix(activations):
    """(N, P, Q, K) -> (N*P*Q, K), the same memory."""
    return activations.reshape(-1, activations.shape[-1])


def group_filters(weight, groups: int, group: int):
    """The filters of one group as a matrix (K/groups, R*S*C/groups), and which of the K they are."""
    size = weight.shape[0] // groups
    ks = slice(group * size, (group + 1) * size)
    return weight[ks].reshape(size, -1), ks


def group_channels(array, groups: int, group: int):
    """The channels of one group, a view."""
    size = array.shape[-1] // groups
    return array[..., group * size : (group + 1) * size]


class Chunk(NamedTuple):
    """The output rows [first_row, last_row) of the images [first_image, last_image): all rows where images are many."""

    first_image: int
    last_image: int
    first_row: int
    last_row: int

    @property
    def images(self) -> slice:
        return slice(self.first_image, self.last_image)

    def extents(self, shape: ConvShape) -> tuple[int, int, int]:
        """(images, rows, pixels a row)."""
        return self.last_image - self.first_image, self.last_row - self.first_row, shape.q

    def pixels(self, shape: ConvShape) -> slice:
        """Which of the N*P*Q output pixels."""
        first = (self.first_image * shape.p + self.first_row) * shape.q
        return slice(first, first + math.prod(self.extents(shape)))


def chunks(shape: ConvShape, row_bytes: int, chunk_bytes: int) -> Iterator[Chunk]:
    """All output rows, chunk_bytes at a time: whole images where one fits, else rows of one image."""
    fitting = max(1, chunk_bytes // max(1, row_bytes))
    images, rows = max(1, fitting // shape.p), min(fitting, shape.p)
    for n in range(0, shape.n, images):
        for p in range(0, shape.p, rows):
            yield Chunk(n, min(n + images, shape.n), p, min(p + rows, shape.p))


def is_pointwise(shape: ConvShape) -> bool:
    """Whether x is its own im2col: each output sees the one pixel at its own place."""
    return (shape.r, shape.s, shape.stride_h, shape.stride_w, shape.padding_h, shape.padding_w) == (1, 1, 1, 1, 0, 0)


def im2col(x, shape: ConvShape, group: int, empty) -> Iterator[tuple[slice, np.ndarray]]:
    """What the filters of one group see, a row an output pixel: matrices (pixels, R*S*C/groups), chunk by chunk.

    Yields (which of the N*P*Q pixels, their rows). The chunks share one buffer: use each before asking for the next.
    """
    x = group_channels(x, shape.groups, group)
    if is_pointwise(shape):
        yield slice(None), as_matrix(x)
        return
    depth = shape.r * shape.s * x.shape[-1]
    buffer = None
    for chunk in chunks(shape, shape.q * depth * x.itemsize, PATCH_BYTES):
        pixels = chunk.pixels(shape)
        if buffer is None:  # the first chunk is the largest
            buffer = empty((pixels.stop, depth))
        patches = buffer[: pixels.stop - pixels.start]
        windows = sliding_windows(input_rows(x, shape, chunk, empty), shape, chunk)
        if x.shape[-1] == 1:  # tap by tap: lines of pixels are longer runs than windows of one channel
            patches = patches.reshape(depth, -1).T
            windows = np.moveaxis(windows, (0, 1, 2), (-3, -2, -1))
            np.copyto(patches.T.reshape(windows.shape), windows)
        else:
            np.copyto(patches.reshape(windows.shape), windows)
        yield pixels, patches


def input_rows(x, shape: ConvShape, chunk: Chunk, empty):
    """The part of x that the windows of a chunk touch, with zeros where they reach over its borders.

    A view of x where there are none; always one whose channels lie side by side, for runs of S*C/groups in im2col.
    """
    first_h = chunk.first_row * shape.stride_h - shape.padding_h
    height = (chunk.last_row - chunk.first_row - 1) * shape.stride_h + shape.dilation_h * (shape.r - 1) + 1
    width = (shape.q - 1) * shape.stride_w + shape.dilation_w * (shape.s - 1) + 1
    inside_h, to_h = overlap(first_h, height, shape.h)
    inside_w, to_w = overlap(-shape.padding_w, width, shape.w)
    inside = x[chunk.images, inside_h, inside_w]
    if inside.shape[1:3] == (height, width) and shape.groups == 1:
        return inside
    rows = empty((inside.shape[0], height, width, x.shape[-1]))
    rows[...] = 0
    rows[:, to_h, to_w] = inside
    return rows


def overlap(first: int, count: int, extent: int) -> tuple[slice, slice]:
    """[first, first + count) within [0, extent): the part inside, and where that part lies counted from `first`."""
    start = min(max(first, 0), extent)
    stop = max(min(first + count, extent), start)
    return slice(start, stop), slice(start - first, stop - first)


def sliding_windows(rows, shape: ConvShape, chunk: Chunk):
    """View of input_rows as (images, rows, Q, R, S*C), or (..., R, S, C) where the channels of two taps are apart."""
    image, row, pixel, channel = rows.strides
    window = (shape.r, shape.s, rows.shape[-1]), (shape.dilation_h * row, shape.dilation_w * pixel, channel)
    if shape.dilation_w == 1 and pixel == channel * rows.shape[-1]:
        window = (shape.r, shape.s * rows.shape[-1]), (shape.dilation_h * row, channel)
    strides = (image, shape.stride_h * row, shape.stride_w * pixel, *window[1])
    return as_strided(rows, (*chunk.extents(shape), *window[0]), strides, writeable=False)


def col2im(dy, weight, dx, shape: ConvShape, empty) -> None:
    """dx = the sum over the taps of dy @ weight[:, r, s], each added where that tap reads."""
    channels = shape.c // shape.groups
    for group in range(shape.groups):
        _, ks = group_filters(weight, shape.groups, group)
        target = group_channels(dx, shape.groups, group)
        for chunk in chunks(shape, shape.q * channels * dx.itemsize, SHARE_BYTES):
            images, rows, q = chunk.extents(shape)
            if chunk.first_row == 0:
                padded = empty((images, shape.h + 2 * shape.padding_h, shape.w + 2 * shape.padding_w, channels))
                padded[...] = 0
            gradient = as_matrix(dy)[chunk.pixels(shape), ks]
            share = empty((len(gradient), channels))
            for r, s in np.ndindex(shape.r, shape.s):
                np.matmul(gradient, weight[ks, r, s], out=share)
                h, w = chunk.first_row * shape.stride_h + r * shape.dilation_h, s * shape.dilation_w
                rows_read = slice(h, h + rows * shape.stride_h, shape.stride_h)
                columns_read = slice(w, w + q * shape.stride_w, shape.stride_w)
                view = padded[:, rows_read, columns_read]
                view += share.reshape(images, rows, q, channels)
            if chunk.last_row == shape.p:
                target[chunk.images] = padded[:, shape.padding_h :, shape.padding_w :][:, : shape.h, : shape.w]


def _patches_workspace(shape: ConvShape) -> int:
    """Elements that im2col takes: its buffer, and the padded rows behind it."""
    chunk, channels = next(chunks(shape, shape.q * _depth(shape) * FLOAT, PATCH_BYTES), None), shape.c // shape.groups
    if chunk is None or is_pointwise(shape):
        return 0
    images, rows, _ = chunk.extents(shape)
    padded = shape.padding_h or shape.padding_w or shape.groups > 1
    height = (rows - 1) * shape.stride_h + shape.dilation_h * (shape.r - 1) + 1
    width = (shape.q - 1) * shape.stride_w + shape.dilation_w * (shape.s - 1) + 1
    buffers = 2 if shape.groups > 1 else 1  # that of the group before goes when the next one has come
    return buffers * chunk.pixels(shape).stop * _depth(shape) + images * height * width * channels * bool(padded)


def _gradient_of_input_workspace(shape: ConvShape) -> int:
    chunk, channels = (
        next(chunks(shape, shape.q * shape.c // shape.groups * FLOAT, SHARE_BYTES), None),
        shape.c // shape.groups,
    )
    if chunk is None:
        return 0
    images = chunk.last_image - chunk.first_image
    padded = images * (shape.h + 2 * shape.padding_h) * (shape.w + 2 * shape.padding_w) * channels
    return padded + chunk.pixels(shape).stop * channels


def _gradient_of_weight_workspace(shape: ConvShape) -> int:
    weights = shape.k * _depth(shape)
    return _patches_workspace(shape) + weights + weights // shape.groups


def _depth(shape: ConvShape) -> int:
    return shape.r * shape.s * (shape.c // shape.groups)


def _of_all_threads(workspace):
    def of_shape(shape: ConvShape, _schedule) -> int:
        shares = share_count(shape.n, shape.macs)
        return shares * workspace(shape._replace(n=-(-shape.n // shares)))

    return of_shape


# What the NumPy path takes as scratch, elements by name of the kernel that asks for as much elsewhere: for memory_plan.py.
numpy_workspaces = {
    "conv2d_forward_workspace": _of_all_threads(_patches_workspace),
    "conv2d_backward_input_workspace": _of_all_threads(_gradient_of_input_workspace),
    "conv2d_backward_weight_workspace": _of_all_threads(_gradient_of_weight_workspace),
}
