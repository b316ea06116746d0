"""Gradient clipping by norm, in place over flat arrays: no node of the graph, yet an op."""

from __future__ import annotations

import math

import numpy as np

from minicnn.threads import one_blas_thread


def clip_norm(device, grads: list, max_norm: float):
    """Scale the flat arrays `grads` by min(1, max_norm / (norm + 1e-6)), norm the root of the sum of their squares.

    Returns the norm as a device array (), without waiting for it.
    Source: Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", section 3.2.
    """
    norm = device.empty((), grads[0].dtype)
    clip = _clip_numpy if device.kernels_for(grads[0].dtype) is None else _clip_kernels
    clip(device, grads, max_norm, norm)
    return norm


@np.errstate(all="ignore")
def _clip_numpy(device, grads, max_norm, norm) -> None:
    with one_blas_thread():
        norm[...] = math.sqrt(sum(float(np.dot(grad, grad)) for grad in grads))
    factor = max_norm / (float(norm) + 1e-6)
    if not factor >= 1:  # NaN scales too
        for grad in grads:
            grad *= factor


def _clip_kernels(device, grads, max_norm, norm) -> None:
    kernels, factor = device.kernels_for(grads[0].dtype), device.empty((), grads[0].dtype)
    sizes = [kernels.clip_workspace(grad.size) for grad in grads]
    partial = device.empty((sum(sizes),), grads[0].dtype)
    stop = 0
    for grad, size in zip(grads, sizes, strict=True):
        kernels.clip_squares(grad, partial[stop : stop + size], grad.size)
        stop += size
    kernels.clip_factor(partial, max_norm, norm, factor, partial.size)
    for grad in grads:
        kernels.clip_scale(grad, factor, grad.size)
