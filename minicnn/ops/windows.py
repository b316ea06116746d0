"""Windows over images in NumPy: what the pooling ops share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from minicnn.shapes import PoolShape

CHUNK = 1 << 19  # elements of x: larger chunks were measured to be no faster


def chunks(shape: PoolShape, share: slice) -> Iterator[tuple[slice, slice]]:
    """(images, rows of y) that cover the images `share` of y in order, each over about CHUNK elements of x: many images
    or a part of one.
    """
    images = max(1, CHUNK // max(1, shape.h * shape.w * shape.c))
    rows = max(1, CHUNK // max(1, shape.stride_h * shape.w * shape.c))
    for n in range(share.start, share.stop, images):
        for p in range(0, shape.p, rows):
            yield slice(n, min(n + images, share.stop)), slice(p, min(p + rows, shape.p))


class Footprint:
    """The part of x under some rows of y: every input row and column that their windows touch.

    It may reach beyond the image, into the padding. `inside` is the part of the image in it, `place` where that part
    lies within it.
    """

    def __init__(self, shape: PoolShape, rows: slice):
        self.height = (rows.stop - rows.start - 1) * shape.stride_h + shape.r
        self.width = (shape.q - 1) * shape.stride_w + shape.s
        inside_h, place_h = _clip(rows.start * shape.stride_h - shape.padding_h, self.height, shape.h)
        inside_w, place_w = _clip(-shape.padding_w, self.width, shape.w)
        self.inside, self.place = (slice(None), inside_h, inside_w), (slice(None), place_h, place_w)
        self.padded = (place_h, place_w) != (slice(0, self.height), slice(0, self.width))

    def read(self, x, fill: float):
        """The footprint of images x (N, H, W, C), `fill` in the padding; a view where there is none."""
        return self._with_padding(x, fill) if self.padded else x[self.inside]

    @contextlib.contextmanager
    def adding_to(self, dx):
        """The footprint as an array to add to: the sums come to dx (N, H, W, C), what falls into the padding is lost."""
        if not self.padded:
            yield dx[self.inside]
            return
        array = np.zeros((len(dx), self.height, self.width, dx.shape[-1]), dx.dtype)
        yield array
        dx[self.inside] += array[self.place]

    def _with_padding(self, x, fill: float):
        array = np.full((len(x), self.height, self.width, x.shape[-1]), fill, x.dtype)
        array[self.place] = x[self.inside]
        return array


def _clip(start: int, length: int, extent: int) -> tuple[slice, slice]:
    """(the part of start .. start + length within 0 .. extent, the same part counted from start)."""
    first = min(max(start, 0), extent)
    last = max(min(start + length, extent), first)
    return slice(first, last), slice(first - start, last - start)


def taps(array, axis: int, size: int, stride: int) -> list:
    """Along `axis` of a footprint: for each place in the window, the elements that stand there, one a window."""
    last = array.shape[axis] - size
    lead = (slice(None),) * axis
    return [array[(*lead, slice(tap, tap + last + 1, stride))] for tap in range(size)]
