"""Stochastic gradient descent with momentum, in place over flat arrays: no node of the graph, yet an op."""

from __future__ import annotations

import enum
from typing import NamedTuple

import numpy as np

from minicnn.ops.segments import BLOCK, Segment, Segments
from minicnn.tensor import Narrow
from minicnn.threads import in_shares


class SgdRule(enum.IntEnum):
    """What a step does to the velocity v and the weights w. kernels.h has the twin.

    g is the scaled gradient + weight_decay * w. Sources: PyTorch's SGD; Krizhevsky et al. 2012, section 5.
    """

    torch = 0  # v <- momentum*v + g     ; w <- w - lr*v
    nesterov = 1  # v <- momentum*v + g     ; w <- w - lr*(g + momentum*v)
    paper = 2  # v <- momentum*v - lr*g  ; w <- w + v


class WeightStep(NamedTuple):
    """What the kernel that steps one weight in place of writing its gradient is told: an op of `steps_weight`."""

    velocity: object
    hyper: object
    lr_multiplier: float
    momentum: float
    weight_decay: float  # the weight's own
    rule: int


def sgd_step(
    device,
    weights,
    grads,
    velocity,
    segments: Segments,
    hyper,
    momentum: float,
    weight_decay: float,
    rule: SgdRule,
    copy: Narrow | None = None,
) -> None:
    """One step. `hyper` is a device array (lr, scale of grads), so that a captured graph can follow a schedule. `copy`, on
    devices with kernels for its numbers, becomes that of the weights wherever they move."""
    kernels = device.kernels_for(weights.dtype)
    if kernels is None:
        for segment in segments.host:
            _sgd_numpy(weights, grads, velocity, segment, hyper, momentum, weight_decay, rule)
    else:
        table = (segments.bounds, segments.multipliers, len(segments.host))
        arrays = grads, velocity, *table, hyper, momentum, weight_decay, int(rule), weights.size
        if copy is None:
            kernels.sgd_step(weights, *arrays)
        else:
            getattr(kernels, f"sgd_step{copy.numbers.suffix}")(weights, copy.array, *arrays)


@np.errstate(all="ignore")  # a training that diverges is the trainer's to notice
def _sgd_numpy(weights, grads, velocity, segment: Segment, hyper, momentum, weight_decay, rule: SgdRule) -> None:
    lr, scale = (weights.dtype.type(h) for h in hyper)
    lr, decay = lr * weights.dtype.type(segment.lr_multiplier), weight_decay * segment.decay_multiplier
    if segment.lr_multiplier == 0:
        return
    arrays = [array[segment.start : segment.stop] for array in (weights, grads, velocity)]
    in_shares(
        lambda share: _sgd_blocks(*(array[share] for array in arrays), lr, scale, momentum, decay, rule),
        segment.stop - segment.start,
        segment.stop - segment.start,
    )


def _sgd_blocks(weights, grads, velocity, lr, scale, momentum, decay, rule: SgdRule) -> None:
    """Block by block: each array passes through the cache once."""
    scratch = np.empty(min(BLOCK, weights.size), weights.dtype)
    for start in range(0, weights.size, BLOCK):
        part = slice(start, start + BLOCK)
        w, v = weights[part], velocity[part]
        g = np.multiply(w, decay, out=scratch[: w.size])
        g += grads[part] if scale == 1 else grads[part] * scale
        v *= momentum
        if rule is SgdRule.paper:
            g *= lr
            v -= g
            w += v
        else:
            v += g
            w -= lr * (g + momentum * v) if rule is SgdRule.nesterov else np.multiply(v, lr, out=g)
