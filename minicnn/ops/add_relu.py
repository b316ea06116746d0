"""The sum of two tensors through ReLU, where a residual block joins its shortcut."""

from __future__ import annotations

import numpy as np

from minicnn.autograd import Op
from minicnn.errors import OpError
from minicnn.ops.relu import mask_numpy
from minicnn.threads import elementwise


class AddReLU(Op):
    """y = max(a + b, 0), for a and b of one shape; NaN stays NaN.

    da = db = dy where y is not 0. Source: He et al. 2015, figure 2.
    """

    name = "add_relu"
    relu_within = True

    def check(self, a, b):
        if a.shape != b.shape:
            raise OpError(f"add_relu: a and b must have one shape, got {a.shape} and {b.shape}; use relu(a + b)")
        return a.shape

    def forward_numpy(self, a, b, y):
        def add(a, b, y):
            np.add(a, b, out=y)
            np.maximum(y, 0, out=y)

        elementwise(add, a, b, y)

    def backward_numpy(self, dy):
        mask_numpy(dy, self.pending_mask)
        for i in (0, 1):
            if (dx := self.grad_array(i)) is not None:
                dx[...] = dy

    def forward_kernel(self, a, b, y):
        self.kernels.add_relu_forward(a, b, y, y.size)

    def backward_kernel(self, dy):
        self.kernels.add_relu_backward(dy, self.pending_mask, *self.grad_out(0), *self.grad_out(1), dy.size)
