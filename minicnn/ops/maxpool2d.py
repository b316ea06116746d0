"""Max pooling."""

from __future__ import annotations

import numpy as np

from minicnn.autograd import Op
from minicnn.errors import OpError
from minicnn.ops.windows import Footprint, chunks, taps
from minicnn.shapes import Activation, PoolShape
from minicnn.threads import in_shares

PLACES = (1 << 16) - 1  # of a window: more do not fit into the index, whose last number is nobody's


class MaxPool2d(Op):
    """y[n,p,q,c] = max over r, s of x[n, p*stride_h + r - padding_h, q*stride_w + s - padding_w, c].

    x (N, H, W, C), y (N, P, Q, C); windows may overlap. Padding never wins: a window wholly in the padding gives -inf,
    and no gradient. The first of equals wins, in the order r, s; the last NaN wins over everything. As in PyTorch.

    dx[n,h,w,c] = sum of dy[n,p,q,c] over the windows that this element won. Kept is the winner's place r*S + s, a byte a
    window up to 255 places.
    Source: overlapping windows, Krizhevsky et al. 2012, section 3.4.
    """

    name = "max_pool2d"

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False):
        self.window = kernel_size, stride, padding, ceil_mode

    def _agree(self, inputs):
        super()._agree(inputs)
        self.narrow = inputs[0].numbers  # a maximum of such numbers is such a number

    def read(self, x):
        return x.read(self.narrow)

    def check(self, x):
        self.shape = PoolShape.of(self.name, x.shape, *self.window)
        places = self.shape.r * self.shape.s
        if places > PLACES:
            size = self.shape.r, self.shape.s
            raise OpError(f"max_pool2d: windows of {size} have {places} places, at most {PLACES} are possible")
        self.index_dtype = np.dtype(np.uint8 if places <= 255 else np.uint16)
        if self.index_dtype == np.uint16:
            self.narrow = None  # such an index has kernels of float32 alone
        return self.shape.out

    def forward_numpy(self, x, y):
        """Chunk by chunk: the maxima along the rows, then of those along the columns. The index only if backward follows."""
        shape, recorded = self.shape, self.number >= 0
        if recorded:
            self.index = self.empty(y.shape, self.index_dtype)

        def of_images(share):
            for images, rows in chunks(shape, share):
                seen = Footprint(shape, rows).read(x[images], -np.inf)
                row_maxima = _largest(taps(seen, 1, shape.r, shape.stride_h))
                _largest(taps(row_maxima, 2, shape.s, shape.stride_w), y[images, rows])
                if recorded:
                    self._find_winners(seen, rows, y[images, rows], self.index[images, rows])

        in_shares(of_images, shape.n, x.size)

    def _find_winners(self, seen, rows, y, index):
        """index = the first place where y stands in its window: the largest of those numbered backward, the last being 0."""
        shape, number = self.shape, self.index_dtype.type
        values = [v for row in taps(seen, 1, shape.r, shape.stride_h) for v in taps(row, 2, shape.s, shape.stride_w)]
        last = len(values) - 1
        index[...] = 0
        for place, value in enumerate(values[:last]):
            found = np.equal(value, y).view(np.uint8)
            np.maximum(index, np.multiply(found, number(last - place)), out=index)
        np.subtract(number(last), index, out=index)
        if not (y > -np.inf).all():
            self._find_odd_winners(values, rows, y, index)

    def _find_odd_winners(self, values, rows, y, index):
        """Where y is -inf, padding must not win; where it is NaN, it equals nothing and the last NaN wins."""
        shape = self.shape
        first_r = _first_inside(shape.r, shape.stride_h, shape.padding_h, rows.start, rows.stop)
        first_s = _first_inside(shape.s, shape.stride_w, shape.padding_w, 0, shape.q)
        first = np.add.outer(first_r * shape.s, first_s).astype(index.dtype)[:, :, None]
        np.copyto(index, first, where=y == -np.inf)
        for place, value in enumerate(values):
            index[np.isnan(value)] = place

    def backward_numpy(self, dy):
        """Chunk by chunk: each window adds to its winner in the flat dx; windows wholly in the padding have none."""
        shape, dx = self.shape, self.grad_array(0)
        if dx.size == 0:
            return
        p = _touching(shape.h, shape.r, shape.stride_h, shape.padding_h, shape.p)
        q = _touching(shape.w, shape.s, shape.stride_w, shape.padding_w, shape.q)
        place = np.add.outer(np.arange(shape.r) * shape.w, np.arange(shape.s)).ravel() * shape.c
        corner_q = (np.arange(q.start, q.stop) * shape.stride_w - shape.padding_w) * shape.c
        along_row = np.add.outer(corner_q, np.arange(shape.c)).ravel()

        def of_images(share):
            for images, rows in chunks(shape, share):
                if rows.start == 0:
                    dx[images] = 0
                rows = slice(max(rows.start, p.start), max(min(rows.stop, p.stop), p.start))
                image = np.arange(images.stop - images.start) * shape.h
                corner_p = np.arange(rows.start, rows.stop) * shape.stride_h - shape.padding_h
                winner = place.take(self.index[images, rows, q]).reshape(len(image), len(corner_p), along_row.size)
                winner += along_row
                winner += np.add.outer(image, corner_p)[:, :, None] * (shape.w * shape.c)
                np.add.at(dx[images].reshape(-1), winner.reshape(-1), dy[images, rows, q].reshape(-1))

        in_shares(of_images, shape.n, dx.size)

    def forward_kernel(self, x, y):
        self.index = self.empty(y.shape, self.index_dtype)
        of_relu = self.number >= 0 and self.slots[0].mask is not None  # then the index says where its gradient is 0
        forward = self.kernel_of("maxpool2d_forward", self.narrow)
        forward(x, Activation(of_relu), y, *self._index_arguments(self.narrow), self.shape)

    def backward_kernel(self, dy):
        """In 16 bits where both sides are, else in float32."""
        narrow = self.narrow if dy.dtype != self.dtype else None
        dx, accumulate = self.grad_out(0, narrow, rounded=self.shape.windows_are_apart)
        self.grad_mask(0, self.narrow)
        if narrow is not None and dx.dtype == self.dtype:
            narrow, dy = None, narrow.widened(dy)
        backward = self.kernel_of("maxpool2d_backward", narrow)
        backward(dy, *self._index_arguments(narrow), dx, accumulate, self.shape)

    def _index_arguments(self, narrow) -> tuple:
        """(as uint8, as uint16): kernels take the index as one of them, the other is absent; those of 16 bits as uint8."""
        if narrow is not None:
            return (self.index,)
        return (self.index, None) if self.index_dtype == np.uint8 else (None, self.index)


def _touching(extent: int, size: int, stride: int, padding: int, count: int) -> slice:
    """Which of the windows along an axis contain an element of the image, rather than padding alone."""
    start = max(0, (padding - size) // stride + 1)
    return slice(start, max(start, min(count, (extent + padding - 1) // stride + 1)))


def _first_inside(size: int, stride: int, padding: int, start: int, stop: int):
    """Of the windows start .. stop along an axis the first place in the image; some place where there is none."""
    return np.clip(padding - np.arange(start, stop) * stride, 0, size - 1)


def _largest(values: list, out=None):
    """The maximum over the arrays, element by element."""
    first, second = values[0], values[min(1, len(values) - 1)]
    out = np.maximum(first, second, out=out)
    for value in values[2:]:
        np.maximum(out, value, out=out)
    return out
