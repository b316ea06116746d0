"""What every op's test asks, in the order of trust: naive loops < NumPy in float64 < kernels."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from tolerances import assert_close

import minicnn


def leaf(values, device, requires_grad=True):
    """A fresh leaf with these values."""
    return minicnn.tensor(
        np.asarray(values), device=device, requires_grad=requires_grad and np.asarray(values).dtype.kind == "f"
    )


def run(function, inputs, device, dy=None):
    """(y, gradients of the floating-point inputs) on `device`, as host arrays; dy defaults to ones."""
    leaves = [leaf(x, device) for x in inputs]
    y = function(*leaves)
    y.backward(np.ones(y.shape, y.dtype) if dy is None else dy.astype(y.dtype))
    return y.numpy(), [x.grad.numpy() if x.requires_grad and x.grad is not None else None for x in leaves]


def check_kernels(function, inputs, device, rng, **tolerance):
    """The kernels' y and gradients, in float32, against the reference in float64 at the same inputs and dy."""
    inputs = [x.astype(np.float32) if x.dtype.kind == "f" else x for x in map(np.asarray, inputs)]
    doubles = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in inputs]
    shape = function(*(leaf(x, "numpy") for x in doubles)).shape
    dy = rng.standard_normal(shape).astype(np.float32)
    expected, expected_grads = run(function, doubles, "numpy", dy)
    got, grads = run(function, inputs, device, dy)
    assert_close(got, expected, what="y", **tolerance)
    for i, (grad, expected_grad) in enumerate(zip(grads, expected_grads, strict=True)):
        assert (grad is None) == (expected_grad is None), f"gradient of input {i} is missing on one device"
        if grad is not None:
            assert_close(grad, expected_grad, what=f"gradient of input {i}", **tolerance)


def check_float64(function, device):
    """Kernels compute in float32. What lies on the host NumPy computes in float64; other devices refuse it."""
    x = minicnn.tensor(np.array([-1.5, 0.25, 3.0]), device=device)
    if device.computes_on_host:
        expected = function(minicnn.tensor(x.numpy(), device="numpy")).numpy()
        np.testing.assert_array_equal(function(x).numpy(), expected, strict=True)
    else:
        message = rf"^{function.__name__}: the kernels of '{device.name}' compute in float32, x is float64$"
        with pytest.raises(minicnn.OpError, match=message):
            function(x)


def check_exact(function, inputs, device, dy):
    """Integer-valued inputs small enough for exact float32 sums: kernels and reference agree bit for bit."""
    inputs = [np.asarray(x, np.float32) for x in inputs]
    expected, expected_grads = run(function, inputs, "numpy", dy)
    got, grads = run(function, inputs, device, dy)
    np.testing.assert_array_equal(got, expected)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        np.testing.assert_array_equal(grad, expected_grad)


def check_accumulates(function, inputs, device, dy=None):
    """Two backward passes into the same leaves double the gradient (Accumulate.add), on kernels and reference alike."""
    leaves = [leaf(np.asarray(x, np.float32), device) for x in inputs]
    gradients = []
    for _ in range(2):
        y = function(*leaves)
        y.backward(np.ones(y.shape, np.float32) if dy is None else dy)
        gradients.append([x.grad.numpy() for x in leaves])
    for once, twice in zip(*gradients, strict=True):
        assert_close(twice, 2 * once, what="accumulated gradient")


def check_gradient_of_kernels(function, inputs, device, *, eps, rtol, directions=3):
    """backward() of the kernels against central differences of their own forward pass, in float32, along random directions
    of each input."""
    leaves = [leaf(np.asarray(x, np.float32), device) for x in inputs]
    for seed in range(directions):
        minicnn.gradcheck(function, leaves, eps=eps, rtol=rtol, elementwise=False, seed=seed)


def check_thread_orders(compute, device):
    """compute() -> host arrays: the same bits in every order of the emulated threads (on a GPU: every time)."""
    expected = compute()
    for order, seed in SCHEDULES:
        with thread_order(device, order, seed):
            for got, first in zip(compute(), expected, strict=True):
                np.testing.assert_array_equal(got, first, err_msg=f"order {order}, seed {seed}")


SCHEDULES = [("forward", 0), ("reverse", 0), ("random", 1), ("random", 2)]


@contextlib.contextmanager
def thread_order(device, order, seed):
    """The emulated device's threads and blocks in this order; a GPU's in its own."""
    if device.name != "emulated":
        yield
        return
    before = device.module.configuration()
    device.module.configure(**before | {"order": order, "seed": seed})
    try:
        yield
    finally:
        device.module.configure(**before)


def check_deterministic(function, inputs, device, rng):
    """The same bits every time: on the emulated device in every order of threads and blocks, on a GPU run after run."""
    inputs = [np.asarray(x, np.float32) for x in inputs]
    dy = rng.standard_normal(function(*(leaf(x, device) for x in inputs)).shape)
    results = []
    for schedule in SCHEDULES:
        with thread_order(device, *schedule):
            y, grads = run(function, inputs, device, dy)
        results.append([y, *grads])
    for again in results[1:]:
        for got, expected in zip(again, results[0], strict=True):
            np.testing.assert_array_equal(got, expected)
