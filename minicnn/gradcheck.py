"""Numerical against analytical gradients: the check that every op and every kernel passes."""

from __future__ import annotations

import numpy as np

from minicnn.tensor import Tensor


def gradcheck(function, inputs, *, eps=None, rtol=1e-6, atol=None, elementwise=None, seed=0, weights=None) -> None:
    """Compare backward() with central differences, for every input of `function` that requires a gradient.

    function      (*inputs) -> Tensor; evaluated again at shifted inputs, so it must be deterministic
    inputs        tensors; in float64 on "numpy" the default tolerances hold
    eps           step; default 1e-6 in float64, 1e-2 in float32. For an op that is linear in each input alone (bilinear)
                  any step is exact: use 1 on the float32 kernels
    elementwise   True: one difference an element, which names the place of a fault. False: one along a random direction,
                  <v, J u> with random u and v. Default: elementwise up to 64 elements
    weights       the fixed v that turns y into a number, sum(v * y); random by default

    Raises AssertionError with the argument, the index, both values and the step at the worst place. Only leaves
    are shifted: their values are restored afterwards.
    """
    rng = np.random.default_rng(seed)
    y = function(*inputs)
    v = rng.standard_normal(y.shape) if weights is None else np.asarray(weights)
    checked = [(i, x) for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError("gradcheck: no input requires a gradient")
    for _, x in checked:
        x.zero_grad()
    y.backward(v.astype(y.dtype))
    for i, x in checked:
        double = x.dtype == np.float64
        step = eps if eps is not None else 1e-6 if double else 1e-2
        if elementwise if elementwise is not None else x.size <= 64:
            directions = [(index, _unit(x.shape, index)) for index in np.ndindex(x.shape)]
        else:
            directions = [("along a random direction", rng.standard_normal(x.shape))]
        gradient = x.grad.numpy().astype(np.float64) if x.grad is not None else np.zeros(x.shape)
        for where, u in directions:
            numerical = _difference(function, inputs, x, u, v, step)
            analytical = float((gradient * u).sum())
            scale = max(abs(numerical), abs(analytical), float(np.abs(gradient).max(initial=0)))
            allowed = rtol * scale + (atol if atol is not None else 1e-9 if double else 1e-5)
            if not abs(numerical - analytical) <= allowed:
                raise AssertionError(
                    f"gradient of argument {i} at {where}: numerical {numerical:.9g}, analytical {analytical:.9g}, "
                    f"difference {abs(numerical - analytical):.3g}, allowed {allowed:.3g}, step {step:g}"
                )


def _unit(shape, index):
    unit = np.zeros(shape)
    unit[index] = 1
    return unit


def _difference(function, inputs, x, u, v, step) -> float:
    """d sum(v * function(inputs)) / d step along u, by a central difference, summed in float64."""
    at = x.numpy()
    ends = []
    for sign in (1, -1):
        x.copy_((at + sign * step * u).astype(at.dtype))
        ends.append(function(*inputs).numpy().astype(np.float64))
    x.copy_(at)
    return float((v * (ends[0] - ends[1])).sum()) / (2 * step)
