"""Axes of arrays: which are meant, how they broadcast, and the walks that kernels take (csrc/device/strided.h)."""

from __future__ import annotations

import operator
from typing import NamedTuple

from minicnn.errors import OpError

AXES = 6  # of a walk, as in csrc/shapes.h
LARGEST_EXTENT = 2**31 - 1

Shape = tuple[int, ...]


def normalize_axis(op: str, axis: int, ndim: int) -> int:
    """The place 0..ndim-1 of an axis that may count from the end; OpError for one that is not there."""
    try:
        place = operator.index(axis)
    except TypeError:
        raise OpError(f"{op}: axis must be an integer, got {axis!r}") from None
    if not -ndim <= place < ndim:
        raise OpError(f"{op}: axis {axis} is not there, the tensor has {ndim} axes")
    return place % ndim


def normalize_axes(op: str, axes: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """The places of these axes, ascending; None means all. OpError for one that is not there or named twice."""
    if axes is None:
        return tuple(range(ndim))
    places = [normalize_axis(op, axis, ndim) for axis in (axes if isinstance(axes, (tuple, list)) else (axes,))]
    if len(set(places)) != len(places):
        raise OpError(f"{op}: axes {tuple(axes)} name one axis twice")
    return tuple(sorted(places))


def runs(axes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Ascending axes as runs of neighbours: (0, 2, 3) -> [(0, 1), (2, 4)], from the first to one past the last."""
    found: list[tuple[int, int]] = []
    for axis in axes:
        if found and found[-1][1] == axis:
            found[-1] = (found[-1][0], axis + 1)
        else:
            found.append((axis, axis + 1))
    return found


def strides(shape: Shape) -> Shape:
    """Elements from one index to the next along each axis of a C-contiguous array."""
    steps = [1]
    for extent in reversed(shape[1:]):
        steps.insert(0, extent * steps[0])
    return tuple(steps[: len(shape)])


def broadcast_shape(op: str, a: Shape, b: Shape) -> Shape:
    """NumPy's rule: shapes are aligned at their last axes; extents agree, or one of them is 1 and repeats."""
    ndim = max(len(a), len(b))
    pairs = list(zip((1,) * (ndim - len(a)) + a, (1,) * (ndim - len(b)) + b, strict=True))
    for axis, (extent_a, extent_b) in enumerate(pairs):
        if extent_a != extent_b and 1 not in (extent_a, extent_b):
            raise OpError(
                f"{op}: shapes {a} and {b} do not broadcast: {extent_a} against {extent_b} at axis {axis - ndim}; "
                "each pair of extents, from the last, must agree or hold a 1"
            )
    return tuple(extent_b if extent_a == 1 else extent_a for extent_a, extent_b in pairs)


def broadcast_strides(shape: Shape, to: Shape) -> Shape:
    """The strides at which an array of `shape` is walked along the axes of `to`: 0 where it repeats."""
    steps = tuple(0 if extent == 1 else step for extent, step in zip(shape, strides(shape), strict=True))
    return (0,) * (len(to) - len(shape)) + steps


class Walk(NamedTuple):
    """All indices below `extents` in C order, and what a step along each axis takes in two arrays a and b.

    As few axes as say it: those of extent 1 are gone, and two neighbours are one where a step along the outer is a
    whole row of the inner in both arrays. `padded` has the fixed number of axes that kernels take.
    """

    extents: Shape
    a_strides: Shape
    b_strides: Shape

    @classmethod
    def of(cls, op: str, extents: Shape, a_strides: Shape, b_strides: Shape) -> Walk:
        """OpError where more than AXES axes are left."""
        merged: list[tuple[int, int, int]] = []
        for extent, a, b in zip(extents, a_strides, b_strides, strict=True):
            if extent == 1:
                continue
            outer, outer_a, outer_b = merged[-1] if merged else (0, 0, 0)
            if merged and (outer_a, outer_b) == (extent * a, extent * b) and outer * extent <= LARGEST_EXTENT:
                merged[-1] = (outer * extent, a, b)
            else:
                merged.append((extent, a, b))
        if len(merged) > AXES:
            raise OpError(f"{op}: at most {AXES} axes can be walked apart, {tuple(extents)} has {len(merged)}")
        return cls(*map(tuple, zip(*merged, strict=True))) if merged else cls((1,), (0,), (0,))

    @property
    def padded(self) -> tuple[Shape, Shape, Shape]:
        missing = AXES - len(self.extents)
        return (1,) * missing + self.extents, (0,) * missing + self.a_strides, (0,) * missing + self.b_strides
