"""Local response normalisation, across channels."""

from __future__ import annotations

import numpy as np

from minicnn.autograd import Op
from minicnn.errors import OpError
from minicnn.shapes import Activation
from minicnn.threads import in_shares

DIALECTS = ("mean", "sum")
CHUNK = 1 << 16  # elements: larger chunks were measured to be no faster


class LocalResponseNorm(Op):
    """y[..., c] = x[..., c] * s[..., c]**-beta with s[..., c] = k + a * sum of x[..., j]**2 over the window of c.

    x, y (..., C). The window of c: c - size//2 <= j <= c + (size - 1)//2, cut off at the first and last channel;
    PyTorch's, which for even sizes reaches one channel further down than up. dialect "mean": a = alpha/size (PyTorch,
    Caffe, the author's own code); "sum": a = alpha (the paper's formula).

    dx[c] = dy[c] * s[c]**-beta - 2*a*beta * x[c] * sum of dy[i] * x[i] * s[i]**(-beta-1) over the i with c in their window.
    Nothing but x is kept: s costs less to compute again than to store.
    Source: Krizhevsky et al. 2012, section 3.3.
    """

    name = "local_response_norm"

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1.0, dialect="mean"):
        self.size, self.alpha, self.beta, self.k, self.dialect = size, alpha, beta, k, dialect

    def _agree(self, inputs):
        super()._agree(inputs)
        self.numbers = inputs[0].numbers  # of 16 bits; y has more

    def read(self, x):
        return x.read(self.numbers)

    def check(self, x):
        if not isinstance(self.size, int) or self.size < 1:
            raise OpError(f"{self.name}: size must be an integer of at least 1, got {self.size!r}")
        if self.dialect not in DIALECTS:
            raise OpError(
                f"{self.name}: dialect must be 'mean' (alpha/size, as in PyTorch) or 'sum' (the paper's alpha), "
                f"got {self.dialect!r}"
            )
        if x.ndim < 2:
            raise OpError(f"{self.name}: x must be (..., C) with at least two dimensions, got {x.shape}")
        self.scale = self.alpha / self.size if self.dialect == "mean" else self.alpha
        reach = max(x.shape[-1] - 1, 0)
        self.below, self.above = min(self.size // 2, reach), min((self.size - 1) // 2, reach)
        return x.shape

    def forward_numpy(self, x, y):
        self.x = x

        def of_pixels(xs, ys):
            np.divide(xs, self._power(self._s(xs))[:, : xs.shape[1]], out=ys)

        _in_chunks(of_pixels, x, y)

    def backward_numpy(self, dy):
        def of_pixels(dys, xs, dxs):
            s, channels = self._s(xs), slice(xs.shape[1])
            direct = dys / self._power(s)[:, channels]
            sums = _window_sums(np.divide, direct * xs, s[:, channels], self.above, self.below)
            through_s = sums[:, channels] * xs
            through_s *= 2 * self.scale * self.beta
            np.subtract(direct, through_s, out=dxs)

        _in_chunks(of_pixels, dy, self.x, self.grad_array(0))

    def _s(self, x):
        """s of the channels x (pixels, C), and in the columns behind them what nobody needs: (pixels, C + size - 1)."""
        s = _window_sums(np.multiply, x, x, self.below, self.above)
        s *= self.scale
        s += self.k
        return s

    def _power(self, s):
        """s**beta; for 0.75 by square roots, several times as fast."""
        if self.beta != 0.75:
            return s**self.beta
        root = np.sqrt(s)
        return np.multiply(root, np.sqrt(root), out=root)

    def forward_kernel(self, x, y):
        self.x = x
        forward = self.kernel_of("lrn_forward", self.numbers)
        forward(x, y, *self._parameters(x))

    def backward_kernel(self, dy):
        x, numbers = self.x, self.numbers
        dx, accumulate = self.grad_out(0, numbers, rounded=False)
        of_x = Activation(self.grad_mask(0, numbers) is not None)
        if x.dtype != dx.dtype:
            x, numbers = numbers.widened(x), None
        backward = self.kernel_of("lrn_backward", numbers)
        backward(dy, x, of_x, dx, accumulate, *self._parameters(dy))

    def _parameters(self, x):
        return self.below, self.above, self.scale, self.beta, self.k, x.size // max(x.shape[-1], 1), x.shape[-1]


def _in_chunks(work, *arrays) -> None:
    """work(*the same pixels of each array (..., C)), as (pixels, C), as many at a time as make about CHUNK elements."""
    channels = arrays[0].shape[-1]
    flat = [array.reshape(array.size // max(channels, 1), channels) for array in arrays]
    step = max(1, CHUNK // max(channels, 1))

    def of_share(share):
        for start in range(share.start, share.stop, step):
            work(*(array[start : min(start + step, share.stop)] for array in flat))

    in_shares(of_share, len(flat[0]), arrays[0].size)


def _window_sums(term, a, b, below: int, above: int):
    """The sums of term(a, b)[:, j] over c - below <= j <= c + above, for every c: (pixels, C + below + above).

    The terms stand in one line, zeros between the pixels, and every sum is one of neighbours in it: an operation on a
    long array is several times as fast as one on many short rows. The last columns are sums across two pixels.
    """
    pixels, channels = a.shape
    gap = below + above
    line = np.empty(pixels * (channels + gap) + gap, a.dtype)
    terms = line[: pixels * (channels + gap)].reshape(pixels, channels + gap)
    terms[:, :below] = 0
    terms[:, below + channels :] = 0
    line[terms.size :] = 0
    term(a, b, out=terms[:, below : below + channels])
    return _sliding_sums(line, gap + 1).reshape(terms.shape)


def _sliding_sums(values, size: int):
    """values[i] + ... + values[i + size - 1] for every i: 2*log2(size) additions, of sums of 1, 2, 4, ... neighbours."""
    total, taken = None, 0
    block, width = values, 1
    while True:
        if size & width:
            total = block if total is None else total[: block.size - taken] + block[taken:]
            taken += width
        if taken == size:
            return total
        block = block[:-width] + block[width:]
        width *= 2
