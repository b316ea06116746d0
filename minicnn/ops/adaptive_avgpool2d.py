"""Average pooling to a given output size."""

from __future__ import annotations

import numpy as np

from minicnn.autograd import Op
from minicnn.errors import OpError
from minicnn.shapes import pair


class AdaptiveAvgPool2d(Op):
    """y[n,p,q,c] = mean of x[n,h,w,c] over floor(p*H/P) <= h < ceil((p+1)*H/P) and floor(q*W/Q) <= w < ceil((q+1)*W/Q).

    x (N, H, W, C), y (N, P, Q, C) with (P, Q) = output_size, smaller or larger than (H, W). Where P does not divide H,
    windows differ in size and overlap. As in PyTorch.

    dx[n,h,w,c] = sum of dy[n,p,q,c] / size(p, q) over the windows that contain the element: those with
    floor(h*P/H) <= p < ceil((h+1)*P/H), the windows of the opposite pooling from P to H.
    """

    name = "adaptive_avg_pool2d"

    def __init__(self, output_size):
        self.output_size = output_size

    def check(self, x):
        p, q = pair(self.output_size, f"{self.name}: output_size", 1)
        if x.ndim != 4 or 0 in x.shape[1:3]:
            raise OpError(f"{self.name}: x must be (N, H, W, C) with H and W of at least 1, got {x.shape}")
        n, h, w, c = x.shape
        self.rows, self.columns = (h, p), (w, q)
        return n, p, q, c

    def forward_numpy(self, x, y):
        row_sums = _sums(x, 1, *_windows(*self.rows))
        _sums(row_sums, 2, *_windows(*self.columns), out=y)
        y /= self._size()

    def backward_numpy(self, dy):
        row_sums = _sums(dy / self._size(), 2, *_windows(*reversed(self.columns)))
        _sums(row_sums, 1, *_windows(*reversed(self.rows)), out=self.grad_array(0))

    def _size(self):
        """Elements of each window, as an array (P, Q, 1)."""
        (first_h, last_h), (first_w, last_w) = _windows(*self.rows), _windows(*self.columns)
        return np.multiply.outer(last_h - first_h, last_w - first_w).astype(self.dtype)[:, :, None]

    def forward_kernel(self, x, y):
        self.kernels.adaptive_avgpool2d_forward(x, y, *x.shape, *y.shape[1:3])

    def backward_kernel(self, dy):
        dx, accumulate = self.grad_out(0)
        self.kernels.adaptive_avgpool2d_backward(dy, self.grad_mask(0), dx, accumulate, *dx.shape, *dy.shape[1:3])


def _windows(extent: int, count: int):
    """(start, stop) of each of `count` windows over `extent` elements."""
    i = np.arange(count)
    return i * extent // count, -(-(i + 1) * extent // count)


def _sums(x, axis: int, start, stop, out=None):
    """The sums of x over start[i] <= index < stop[i] along an axis, for every i."""
    lead = (slice(None),) * axis
    if out is None:
        out = np.empty((*x.shape[:axis], len(start), *x.shape[axis + 1 :]), x.dtype)
    for i, window in enumerate(map(slice, start, stop)):
        np.add.reduce(x[(*lead, window)], axis=axis, out=out[(*lead, i)])
    return out
