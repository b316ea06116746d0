"""The kernel behind permutation, indexing, concatenation and the gradients of what repeats or moves elements."""

from __future__ import annotations

from minicnn.axes import Walk, strides
from minicnn.tensor import Accumulate


def strided_copy(
    kernels, x, y, extents, x_strides, y_strides, accumulate=Accumulate.overwrite, *, scale=1.0, x_offset=0, y_offset=0
) -> None:
    """y[y_offset + i . y_strides] (+)= scale * x[x_offset + i . x_strides] for all indices i below `extents`.

    x and y are arrays of a device that has kernels; strides and offsets count elements. A stride of 0 in x repeats.
    """
    walk = Walk.of("strided_copy", extents, x_strides, y_strides)
    kernels.strided_copy(x, y, accumulate, scale, *walk.padded, x_offset, y_offset)


def copy(kernels, x, y, accumulate=Accumulate.overwrite, *, scale=1.0) -> None:
    """y (+)= scale * x, element by element in C order; the two may differ in shape."""
    strided_copy(kernels, x, y, y.shape, strides(y.shape), strides(y.shape), accumulate, scale=scale)
