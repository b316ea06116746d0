"""Extents of convolution and pooling: the twins of csrc/shapes.h, and the only place where output sizes are computed.

Letters: input N H W C, filter K R S C, output N P Q K.
"""

from __future__ import annotations

import enum
import math
import os
from typing import NamedTuple

from minicnn.errors import OpError

IntOrPair = int | tuple[int, int]


def pair(value: IntOrPair, what: str, least: int) -> tuple[int, int]:
    """An integer or a (height, width) pair -> the pair; OpError unless both are integers of at least `least`."""
    both = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(both) != 2 or not all(isinstance(v, int) and v >= least for v in both):
        raise OpError(f"{what} must be an integer of at least {least} or a pair of them, got {value!r}")
    return both


def window_count(
    op: str, axis: str, extent: int, size: int, stride: int, padding: int, dilation=1, ceil_mode=False
) -> int:
    """How many windows fit: floor((extent + 2*padding - dilation*(size - 1) - 1) / stride) + 1.

    With `ceil_mode` the division rounds up, but no window may start in the padding behind the input.
    """
    span = dilation * (size - 1) + 1
    room = extent + 2 * padding - span
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= extent + padding:
        count -= 1
    if count < 1:
        raise OpError(
            f"{op}: a window of {span} does not fit into {axis} {extent} + 2*{padding} padding; "
            "use a larger image, a smaller kernel_size or more padding"
        )
    return count


def split_at(op: str, shape: tuple[int, ...], dim: int) -> tuple[int, int, int]:
    """(outer, reduced, inner): the elements before, along and behind axis `dim`; OpError where it is no axis."""
    if not isinstance(dim, int) or not -len(shape) <= dim < len(shape):
        raise OpError(f"{op}: dim={dim!r} is no axis of x, whose shape is {shape}")
    axis = dim % len(shape)
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


class ConvShape(NamedTuple):
    """One convolution: x (N, H, W, C), weight (K, R, S, C/groups), y (N, P, Q, K)."""

    n: int
    h: int
    w: int
    c: int
    k: int
    r: int
    s: int
    p: int
    q: int
    stride_h: int
    stride_w: int
    padding_h: int
    padding_w: int
    dilation_h: int
    dilation_w: int
    groups: int

    @classmethod
    def of(
        cls, op: str, x, weight, stride: IntOrPair, padding: IntOrPair, dilation: IntOrPair, groups: int
    ) -> ConvShape:
        """From the shapes of x and weight; OpError that says what does not fit."""
        if len(x) != 4 or len(weight) != 4:
            raise OpError(f"{op}: x must be (N, H, W, C) and weight (K, R, S, C/groups), got {x} and {weight}")
        if 0 in weight:
            raise OpError(f"{op}: weight must have at least one element, got {weight}")
        (n, h, w, c), (k, r, s, c_group) = x, weight
        stride_h, stride_w = pair(stride, f"{op}: stride", 1)
        padding_h, padding_w = pair(padding, f"{op}: padding", 0)
        dilation_h, dilation_w = pair(dilation, f"{op}: dilation", 1)
        if not isinstance(groups, int) or groups < 1 or c % groups or k % groups:
            raise OpError(f"{op}: groups={groups!r} must divide the {c} input and the {k} output channels")
        if c_group * groups != c:
            raise OpError(
                f"{op}: weight expects {c_group * groups} input channels but x has {c} (x is {x}, weight {weight})"
            )
        p = window_count(op, "height", h, r, stride_h, padding_h, dilation_h)
        q = window_count(op, "width", w, s, stride_w, padding_w, dilation_w)
        strides = (stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w)
        return cls(n, h, w, c, k, r, s, p, q, *strides, groups)

    @property
    def out(self) -> tuple[int, int, int, int]:
        return self.n, self.p, self.q, self.k

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one pass; its FLOPs are twice that."""
        return self.n * self.p * self.q * self.k * self.r * self.s * (self.c // self.groups)


class PoolShape(NamedTuple):
    """One pooling: x (N, H, W, C), windows of R x S, y (N, P, Q, C)."""

    n: int
    h: int
    w: int
    c: int
    r: int
    s: int
    p: int
    q: int
    stride_h: int
    stride_w: int
    padding_h: int
    padding_w: int

    @classmethod
    def of(
        cls, op: str, x, kernel_size: IntOrPair, stride: IntOrPair | None, padding: IntOrPair, ceil_mode=False
    ) -> PoolShape:
        """From the shape of x; `stride` None means kernel_size. OpError that says what does not fit.

        Any padding is allowed, also one that leaves whole windows outside the input.
        """
        if len(x) != 4:
            raise OpError(f"{op}: x must be (N, H, W, C), got {x}")
        n, h, w, c = x
        r, s = pair(kernel_size, f"{op}: kernel_size", 1)
        stride_h, stride_w = (r, s) if stride is None else pair(stride, f"{op}: stride", 1)
        padding_h, padding_w = pair(padding, f"{op}: padding", 0)
        p = window_count(op, "height", h, r, stride_h, padding_h, ceil_mode=ceil_mode)
        q = window_count(op, "width", w, s, stride_w, padding_w, ceil_mode=ceil_mode)
        return cls(n, h, w, c, r, s, p, q, stride_h, stride_w, padding_h, padding_w)

    @property
    def out(self) -> tuple[int, int, int, int]:
        return self.n, self.p, self.q, self.c

    @property
    def windows_are_apart(self) -> bool:
        """Whether no element is in two windows."""
        return self.stride_h >= self.r and self.stride_w >= self.s


class GemmShape(NamedTuple):
    """One matrix product: c (m, n) = op(a) (m, k) times op(b) (k, n); ld: elements from one row in memory to the next."""

    m: int
    n: int
    k: int
    lda: int
    ldb: int
    ldc: int


class Activation(enum.IntEnum):
    """What a kernel does to a sum before it stores it, or what has been done to its input; kernels.h has the twin."""

    none = 0
    relu = 1

    @classmethod
    def of(cls, op: str, name: str | None) -> Activation:
        """That which users call `name`: None or "relu"; OpError that begins with the op's name for another."""
        if name not in (None, "relu"):
            raise OpError(f"{op}: activation must be None or 'relu', got {name!r}")
        return cls[name or "none"]


class Layout(enum.IntEnum):
    """How the operands of a product lie in memory, row by row; kernels.h has the twin."""

    nn = 0  # a (m, k), b (k, n)
    nt = 1  # a (m, k), b (n, k)
    tn = 2  # a (k, m), b (k, n)


class Math(enum.IntEnum):
    """How float32 arrays are multiplied on the devices that have kernels; csrc/gemm/precision.h has the arithmetic."""

    float32 = 0  # by float32 arithmetic
    tf32 = 1  # on tensor cores, each element rounded to 11 significant bits
    tf32x3 = 2  # on tensor cores, each element as two TF32 numbers: float32's accuracy


class Schedule(NamedTuple):
    """How a kernel cuts a product: tiles of tile x tile (64 or 128), the reduction in `splits`; 0 leaves it to the kernel.
    Operands that do not lie in quads of 16 bytes are cut in tiles of 64 whatever is asked. And how it multiplies.
    """

    tile: int = 0
    splits: int = 0
    math: Math = Math.float32


def _math() -> Math:
    name = os.environ.get("MINICNN_MATH", Math.float32.name)
    if name not in Math.__members__:
        raise ValueError(f"MINICNN_MATH must be one of {', '.join(Math.__members__)}, got {name!r}")
    return Math[name]


AUTOMATIC = Schedule(math=_math())
