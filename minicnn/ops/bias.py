"""The gradient of a bias, which fully connected and convolutional layers share."""

from __future__ import annotations

import numpy as np

from minicnn.autograd import Op
from minicnn.ops.reductions import sum_into


def bias_backward(op: Op, i: int, dy) -> None:
    """Input i of `op` is a bias (K,): its gradient is dy (..., K), summed over all axes but the last."""
    rows = dy.reshape(-1, dy.shape[-1])
    if op.kernels is None:
        if (dbias := op.grad_array(i)) is not None:
            np.sum(rows, axis=0, out=dbias)
        return
    dbias, accumulate = op.grad_out(i)
    if dbias is not None:
        sum_into(op, rows, dbias, (1, *rows.shape), accumulate)
