"""Average pooling."""

from __future__ import annotations

import numpy as np

from minicnn.autograd import Op
from minicnn.ops.windows import Footprint, chunks, taps
from minicnn.shapes import PoolShape
from minicnn.threads import in_shares


class AvgPool2d(Op):
    """y[n,p,q,c] = sum over r, s of x[n, p*stride_h + r - padding_h, q*stride_w + s - padding_w, c] / count(p, q).

    x (N, H, W, C), y (N, P, Q, C). Padding adds zeros. count(p, q): the elements of the window that lie in the image or
    its padding (with ceil_mode the last windows may reach beyond both), or in the image alone where `count_include_pad`
    is False. A window wholly in the padding gives 0. As in PyTorch.

    dx[n,h,w,c] = sum of dy[n,p,q,c] / count(p, q) over the windows that contain the element.
    """

    name = "avg_pool2d"

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        self.window, self.count_include_pad = (kernel_size, stride, padding, ceil_mode), count_include_pad

    def check(self, x):
        self.shape = PoolShape.of(self.name, x.shape, *self.window)
        return self.shape.out

    def forward_numpy(self, x, y):
        """Chunk by chunk: sums along the rows, then sums of those along the columns."""
        shape, count = self.shape, self._count()

        def of_images(share):
            for images, rows in chunks(shape, share):
                seen = taps(Footprint(shape, rows).read(x[images], 0), 1, shape.r, shape.stride_h)
                row_sums = _sum(seen, np.empty(seen[0].shape, y.dtype))
                sums = _sum(taps(row_sums, 2, shape.s, shape.stride_w), y[images, rows])
                sums /= count[rows]

        in_shares(of_images, shape.n, x.size)

    def backward_numpy(self, dy):
        shape, dx, count = self.shape, self.grad_array(0), self._count()

        def of_images(share):
            for images, rows in chunks(shape, share):
                if rows.start == 0:
                    dx[images] = 0
                footprint = Footprint(shape, rows)
                part = dy[images, rows] / count[rows]
                row_sums = np.zeros((*part.shape[:2], footprint.width, shape.c), dx.dtype)
                for tap in taps(row_sums, 2, shape.s, shape.stride_w):
                    tap += part
                with footprint.adding_to(dx[images]) as seen:
                    for tap in taps(seen, 1, shape.r, shape.stride_h):
                        tap += row_sums

        in_shares(of_images, shape.n, dx.size)

    def _count(self):
        """count(p, q) as an array (P, Q, 1)."""
        s, include = self.shape, self.count_include_pad
        rows = _covered(s.h, s.r, s.stride_h, s.padding_h, s.p, include)
        columns = _covered(s.w, s.s, s.stride_w, s.padding_w, s.q, include)
        return np.multiply.outer(rows, columns).astype(self.dtype)[:, :, None]

    def forward_kernel(self, x, y):
        self.kernels.avgpool2d_forward(x, y, int(self.count_include_pad), self.shape)

    def backward_kernel(self, dy):
        dx, accumulate = self.grad_out(0)
        self.kernels.avgpool2d_backward(dy, self.grad_mask(0), dx, accumulate, int(self.count_include_pad), self.shape)


def _covered(extent: int, size: int, stride: int, padding: int, count: int, include_padding: bool):
    """How many elements each window along an axis averages; 1 where there are none."""
    start = np.arange(count) * stride - padding
    stop = np.minimum(start + size, extent + padding)
    if not include_padding:
        start, stop = np.maximum(start, 0), np.minimum(stop, extent)
    return np.maximum(stop - start, 1)


def _sum(values: list, out):
    """The sum of the arrays, from first to last."""
    np.copyto(out, values[0])
    for value in values[1:]:
        out += value
    return out
