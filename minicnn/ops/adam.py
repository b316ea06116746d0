"""Adam, in place over flat arrays: no node of the graph, yet an op."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicnn.ops.segments import BLOCK, Segment, Segments
from minicnn.threads import in_shares


class AdamRule(NamedTuple):
    """g = gradient + weight_decay * w; m <- beta1*m + (1 - beta1)*g; v <- beta2*v + (1 - beta2)*g^2;
    w <- w - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) at step t = 1, 2, ...

    Source: Kingma and Ba 2015, algorithm 1; PyTorch's Adam for where weight decay and eps stand.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def hyper(self, lr: float, grad_scale: float, step: int) -> tuple[float, float, float]:
        """What `adam_step` reads on the device, so that a captured graph can follow a schedule and the corrections."""
        return lr / (1 - self.beta1**step), grad_scale, (1 - self.beta2**step) ** -0.5


def adam_step(device, weights, grads, mean, square, segments: Segments, hyper, rule: AdamRule) -> None:
    """One step. `hyper` is a device array of AdamRule.hyper's values."""
    kernels = device.kernels_for(weights.dtype)
    if kernels is None:
        for segment in segments.host:
            _adam_numpy(weights, grads, mean, square, segment, hyper, rule)
    else:
        table = (segments.bounds, segments.multipliers, len(segments.host))
        rates = 1 - rule.beta1, 1 - rule.beta2
        kernels.adam_step(
            weights, grads, mean, square, *table, hyper, *rates, rule.eps, rule.weight_decay, weights.size
        )


@np.errstate(all="ignore")  # a training that diverges is the trainer's to notice
def _adam_numpy(weights, grads, mean, square, segment: Segment, hyper, rule: AdamRule) -> None:
    if segment.lr_multiplier == 0:
        return
    dtype = weights.dtype.type
    lr, scale, correction = map(dtype, hyper)
    lr, decay = lr * dtype(segment.lr_multiplier), rule.weight_decay * segment.decay_multiplier
    arrays = [array[segment.start : segment.stop] for array in (weights, grads, mean, square)]
    in_shares(
        lambda share: _adam_blocks(*(array[share] for array in arrays), lr, scale, correction, decay, rule),
        segment.stop - segment.start,
        segment.stop - segment.start,
    )


def _adam_blocks(weights, grads, mean, square, lr, scale, correction, decay, rule: AdamRule) -> None:
    """Block by block: each array passes through the cache once."""
    for start in range(0, weights.size, BLOCK):
        part = slice(start, start + BLOCK)
        w, m, v = weights[part], mean[part], square[part]
        g = grads[part] * scale
        g += w * decay
        m += (g - m) * (1 - rule.beta1)
        g *= g
        v += (g - v) * (1 - rule.beta2)
        w -= lr * m / (np.sqrt(v) * correction + rule.eps)
