"""ReLU, the worked example: every other op file has this form."""

from __future__ import annotations

import numpy as np

from minicnn.autograd import Op
from minicnn.threads import elementwise


class ReLU(Op):
    """y = max(x, 0), any shape; NaN stays NaN.

    dx = dy where y is not 0: the gradient at x = 0 is 0, and y alone tells where, so x need not be kept.
    Source: Krizhevsky et al. 2012, section 3.1.
    """

    name = "relu"

    def check(self, x):
        return x.shape

    def forward_numpy(self, x, y):
        elementwise(lambda x, y: np.maximum(x, 0, out=y), x, y)
        self.y = y

    def backward_numpy(self, dy):
        elementwise(lambda dy, y, dx: np.multiply(dy, y != 0, out=dx), dy, self.y, self.grad_array(0))

    def forward_kernel(self, x, y):
        self.kernels.relu_forward(x, y, x.size)
        self.y = y

    def backward_kernel(self, dy):
        dx, accumulate = self.grad_out(0)
        self.kernels.relu_backward(dy, self.y, dx, accumulate, dy.size)


def mask_numpy(dy, y) -> None:
    """dy = 0, in place, where y is 0: for NumPy's ops that end in a ReLU. A y of None leaves dy as it is."""
    if y is not None:
        elementwise(lambda dy, y: np.multiply(dy, y != 0, out=dy), dy, y)
