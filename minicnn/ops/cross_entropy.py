"""Cross-entropy of logits, fused with softmax and its gradient."""

from __future__ import annotations

import numpy as np

from minicnn.autograd import Op
from minicnn.errors import OpError

REDUCTIONS = ("mean", "sum", "none")


class CrossEntropy(Op):
    """loss[n] = -sum_c q[n, c] * log softmax(logits[n])[c], with logits (N, C) and target (N,) int64 in [0, C).

    q[n, c] = (1 - label_smoothing) * [c == target[n]] + label_smoothing / C. The result is loss (N,), its sum () or its
    mean (); the mean over no rows is NaN, as in PyTorch. dlogits[n, c] = (softmax(logits[n])[c] - q[n, c]) * dloss[n].

    Devices that compute on the host refuse a target outside [0, C). The others' kernels cannot throw: they make the loss
    and the gradient of that row NaN.
    Source of label smoothing: Szegedy et al. 2015, "Rethinking the Inception architecture", section 7.
    """

    name = "cross_entropy"

    def __init__(self, label_smoothing: float = 0.0, reduction: str = "mean"):
        if not 0 <= label_smoothing <= 1:
            raise OpError(f"cross_entropy: label_smoothing must be between 0 and 1, got {label_smoothing}")
        if reduction not in REDUCTIONS:
            raise OpError(f"cross_entropy: reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
        self.label_smoothing, self.reduction = label_smoothing, reduction

    def check(self, logits, target):
        if logits.ndim != 2 or logits.shape[1] == 0 or target.shape != logits.shape[:1]:
            raise OpError(
                f"cross_entropy: logits must be (N, classes) and target (N,), got {logits.shape} and {target.shape}"
            )
        if target.dtype != np.int64:
            raise OpError(f"cross_entropy: target must hold class numbers as int64, got {target.dtype.name}")
        if self.device.computes_on_host:
            self.check_classes(target.data, logits.shape[1])
        self.divisor = logits.shape[0] if self.reduction == "mean" else 1
        return logits.shape[:1] if self.reduction == "none" else ()

    def check_classes(self, target, classes: int) -> None:
        wrong = np.flatnonzero((target < 0) | (target >= classes))
        if wrong.size:
            raise OpError(
                f"cross_entropy: target[{wrong[0]}] is {target[wrong[0]]}, but there are {classes} classes, "
                f"0 to {classes - 1}"
            )

    def forward_numpy(self, logits, target, y):
        log_softmax = logits - logits.max(1, keepdims=True)
        self.softmax, self.target = np.exp(log_softmax), target
        total = self.softmax.sum(1, keepdims=True)
        self.softmax /= total
        log_softmax -= np.log(total)
        loss = -(1 - self.label_smoothing) * log_softmax[np.arange(target.size), target]
        if self.label_smoothing:
            loss -= self.label_smoothing * log_softmax.mean(1)
        y[...] = loss if self.reduction == "none" else loss.sum() / self.dtype.type(self.divisor)

    def backward_numpy(self, dy):
        dlogits = self.grad_array(0)
        rows, classes = self.softmax.shape
        np.subtract(self.softmax, self.label_smoothing / classes, out=dlogits)
        dlogits[np.arange(rows), self.target] -= 1 - self.label_smoothing
        dlogits *= (dy / self.dtype.type(self.divisor)).reshape(-1, 1)

    def forward_kernel(self, logits, target, y):
        rows, classes = self.extents = logits.shape
        self.logits, self.target = logits, target
        self.peak, self.log_sum = self.empty((rows,)), self.empty((rows,))
        loss = y if self.reduction == "none" else self.empty((rows,))
        self.kernels.cross_entropy_forward(
            logits, target, self.peak, self.log_sum, loss, self.label_smoothing, rows, classes
        )
        if self.reduction != "none":
            self.kernels.cross_entropy_reduce(loss, y, self.divisor, rows)

    def backward_kernel(self, dy):
        dlogits, accumulate = self.grad_out(0)
        self.kernels.cross_entropy_backward(
            dy, self.logits, self.target, self.peak, self.log_sum, dlogits, accumulate, self.label_smoothing,
            self.divisor, int(self.reduction == "none"), *self.extents,
        )  # fmt: skip
