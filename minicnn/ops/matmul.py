"""Product of two matrices."""

from __future__ import annotations

import numpy as np

from minicnn.autograd import Op
from minicnn.errors import OpError
from minicnn.shapes import AUTOMATIC, GemmShape, Layout
from minicnn.tensor import Accumulate, Tensor


class MatMul(Op):
    """y = a @ b, with a (M, K), b (K, N), y (M, N); da = dy @ b.T, db = a.T @ dy."""

    name = "matmul"

    def check(self, a, b):
        if a.ndim != 2 or b.ndim != 2:
            raise OpError(f"matmul: a and b must be matrices, got {a.shape} and {b.shape}; reshape them first")
        if a.shape[1] != b.shape[0]:
            raise OpError(f"matmul: a has {a.shape[1]} columns but b {b.shape[0]} rows (a is {a.shape}, b {b.shape})")
        return a.shape[0], b.shape[1]

    def forward_numpy(self, a, b, y):
        np.matmul(a, b, out=y)
        self.a, self.b = a, b

    def backward_numpy(self, dy):
        if (da := self.grad_array(0)) is not None:
            np.matmul(dy, self.b.T, out=da)
        if (db := self.grad_array(1)) is not None:
            np.matmul(self.a.T, dy, out=db)

    def forward_kernel(self, a, b, y):
        (m, k), n = a.shape, b.shape[1]
        self.a, self.b = a, b
        self._gemm(a, b, y, Layout.nn, Accumulate.overwrite, GemmShape(m, n, k, k, n, n))

    def backward_kernel(self, dy):
        (m, k), n = self.a.shape, dy.shape[1]
        da, accumulate = self.grad_out(0)
        if da is not None:
            self._gemm(dy, self.b, da, Layout.nt, accumulate, GemmShape(m, k, n, n, n, k))
        db, accumulate = self.grad_out(1)
        if db is not None:
            self._gemm(self.a, dy, db, Layout.tn, accumulate, GemmShape(k, n, m, k, n, n))

    def _gemm(self, a, b, c, layout, accumulate, shape):
        workspace = self.workspace("gemm", shape, AUTOMATIC)
        self.kernels.gemm(a, b, None, c, workspace, shape, layout, accumulate, AUTOMATIC)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b: (M, K), (K, N) -> (M, N). Raises OpError where they are no matrices or do not fit."""
    return MatMul()(a, b)


Tensor.__matmul__ = matmul
