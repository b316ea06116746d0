"""The sum of two tensors through ReLU, where a residual block joins its shortcut."""

from __future__ import annotations

import numpy as np

from minicnn.autograd import Op
from minicnn.errors import OpError
from minicnn.ops.relu import mask_numpy
from minicnn.tensor import Accumulate
from minicnn.threads import elementwise


class AddReLU(Op):
    """y = max(a + b, 0), for a and b of one shape; NaN stays NaN.

    da = db = dy where y is not 0, the first of them in dy's own memory where it can be. Source: He et al. 2015, figure 2.
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
        adopted = self._hand_over(dy)
        for i in (1,) if adopted else (0, 1):
            if (dx := self.grad_array(i)) is not None:
                dx[...] = dy

    def forward_kernel(self, a, b, y):
        self.kernels.add_relu_forward(a, b, y, y.size)

    def backward_kernel(self, dy):
        y = self.pending_mask
        masked_in_place = (None if y is None else dy), Accumulate.overwrite  # None: dy is da as it stands
        da = masked_in_place if self._hand_over(dy) else self.grad_out(0)
        self.kernels.add_relu_backward(dy, y, *da, *self.grad_out(1), dy.size)

    def _hand_over(self, dy) -> bool:
        """Whether dy, which nobody needs any more, is now da itself: where a's gradient has no memory yet."""
        return self.needs_grad(0) and self.slots[0].adopt(dy)
