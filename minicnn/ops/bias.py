"""The bias of fully connected and convolutional layers."""

from __future__ import annotations

import math

import numpy as np

from minicnn.autograd import Op
from minicnn.ops.reductions import sum_into
from minicnn.threads import in_shares


def add_bias(y, bias) -> None:
    """y (..., Q, K) += bias (K,), a line of Q*K at a time: NumPy is slow on runs as short as K may be."""
    lines = y.reshape(-1, y.shape[-2] * y.shape[-1])
    lines += np.tile(bias, y.shape[-2])


def bias_backward(op: Op, i: int, dy) -> None:
    """Input i of `op` is a bias (K,): its gradient is dy (..., Q, K), summed over all axes but the last."""
    if op.kernels is None:
        if (dbias := op.grad_array(i)) is not None:
            lines = dy.reshape(math.prod(dy.shape[:-2]), dy.shape[-2] * dy.shape[-1])  # also of an empty batch
            sums = in_shares(lambda share: lines[share].sum(axis=0), len(lines), lines.size)
            np.sum(np.reshape(sums, (-1, dy.shape[-1])), axis=0, out=dbias)
        return
    rows = dy.reshape(-1, dy.shape[-1])
    dbias, accumulate = op.grad_out(i)
    if dbias is not None:
        sum_into(op, rows, dbias, (1, *rows.shape), accumulate)
