"""Addition and ReLU in one pass: reference, gradient, kernels, the two ops that it stands for, errors."""

import itertools
import re

import numpy as np
import pytest
from checks import (
    check_accumulates,
    check_deterministic,
    check_float64,
    check_gradient_of_kernels,
    check_kernels,
    leaf,
    run,
)
from tolerances import assert_close

import minicnn
from minicnn import functional
from minicnn.functional import add_relu
from minicnn.tensor import Accumulate

SHAPES = {
    "empty": (0, 4),
    "no_axis": (),
    "one_element": (1,),
    "shorter_than_a_vector_access": (3,),
    "whole_vectors": (2, 4, 4, 8),
    "tail_after_vectors": (3, 7, 5, 3),
    "past_one_block": (1037,),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def inputs(request, rng):
    """a and b whose sum is at least 0.1 from the kink."""
    a, total = rng.standard_normal(request.param), rng.standard_normal(request.param)
    return [a, total + np.copysign(0.1, total) - a]


def apart(a, b):
    """The two ops that it stands for."""
    return functional.relu(a + b)


def test_reference_is_the_formula():
    a, b, dy = np.array([-2.0, -0.5, 1.0, 0.5, 3.0]), np.array([1.0, 0.75, -1.0, 0.5, -4.0]), np.arange(1.0, 6)
    y, (da, db) = run(add_relu, [a, b], "numpy", dy)
    assert y.tolist() == [0, 0.25, 0, 1, 0]
    assert da.tolist() == db.tolist() == [0, 2, 0, 4, 0]


def test_everything_matches_torch(inputs, torch, rng):
    dy = rng.standard_normal(inputs[0].shape)
    y, gradients = run(add_relu, inputs, "numpy", dy)
    second = [torch.tensor(v, requires_grad=True) for v in inputs]
    result = torch.relu(second[0] + second[1])
    result.backward(torch.tensor(dy))
    assert_close(y, result.detach().numpy())
    for ours, theirs in zip(gradients, second, strict=True):
        assert_close(ours, theirs.grad.numpy())


def test_nan_stays_nan_as_in_torch(device, torch):
    a = np.array([np.nan, -np.inf, np.inf, -1.0, 2.0, 0.0, np.inf], np.float32)
    b = np.array([1.0, 3.0, 2.0, np.nan, -3.0, 0.0, -np.inf], np.float32)
    y, (da, db) = run(add_relu, [a, b], device)
    second = torch.tensor(a, requires_grad=True)
    result = torch.relu(second + torch.tensor(b))
    result.sum().backward()
    assert_close(y, result.detach().numpy())
    assert_close(da, second.grad.numpy())
    assert_close(db, second.grad.numpy())


def test_gradient_of_the_reference(inputs):
    if inputs[0].size:
        minicnn.gradcheck(add_relu, [leaf(v, "numpy") for v in inputs])


def test_kernels_match_the_reference(inputs, kernel_device, rng):
    """To the bit of a sum in float32: the reference adds the same numbers in float64."""
    check_kernels(add_relu, inputs, kernel_device, rng, rtol=2**-24, atol=0)


def test_gradient_of_the_kernels(kernel_device, rng):
    a, total = rng.standard_normal((2, 3, 37))
    b = total + np.copysign(0.5, total) - a
    check_gradient_of_kernels(add_relu, [a, b], kernel_device, eps=0.0625, rtol=1e-3)


def test_the_same_bits_as_two_ops(inputs, device, rng):
    inputs, dy = [v.astype(np.float32) for v in inputs], rng.standard_normal(inputs[0].shape)
    (y, gradients), (expected, expected_gradients) = (run(f, inputs, device, dy) for f in (add_relu, apart))
    np.testing.assert_array_equal(y, expected)
    for got, gradient in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_array_equal(got, gradient)


def test_gradients_accumulate(device, rng):
    check_accumulates(add_relu, list(rng.standard_normal((2, 5, 9))), device)


def test_only_wanted_gradients_are_written(device, rng):
    values = [np.array([1.0, -2, 3], np.float32), np.array([1.0, 1, 1], np.float32)]
    for wanted in ((1, 0), (0, 1)):
        leaves = [leaf(v, device, need) for v, need in zip(values, wanted, strict=True)]
        add_relu(*leaves).backward(np.array([5.0, 6, 7], np.float32))
        for x, need in zip(leaves, wanted, strict=True):
            assert (x.grad is not None) == bool(need)
            assert not need or x.grad.numpy().tolist() == [5, 0, 7]


def test_a_tensor_and_itself(device):
    """Both gradients go to one array: the second one adds."""
    y, (dx,) = run(lambda x: add_relu(x, x), [np.array([-1.0, 2, 3, -4, 5], np.float32)], device, np.arange(1.0, 6))
    assert y.tolist() == [0, 4, 6, 0, 10]
    assert dx.tolist() == [0, 4, 6, 0, 10]


def with_consumers(add, dropped=0.5):
    """y is read by an op that masks what it writes, and by one that does not."""

    def function(a, b, weight):
        y = add(a, b)
        return functional.linear(y, weight) + y.sum() * dropped

    return function


def test_consumers_that_mask_and_consumers_that_do_not(device, rng):
    inputs = [rng.integers(-3, 4, shape).astype(np.float32) for shape in ((5, 7), (5, 7), (3, 7))]
    dy = rng.integers(-3, 4, (5, 3))
    for dropped in (0.0, 0.5):
        (y, gradients), (expected, expected_gradients) = (
            run(with_consumers(add, dropped), inputs, device, dy) for add in (add_relu, apart)
        )
        np.testing.assert_array_equal(y, expected)
        for got, gradient in zip(gradients, expected_gradients, strict=True):
            np.testing.assert_array_equal(got, gradient)


def test_y_is_read_again_only_where_a_consumer_did_not_mask(kernel_device, rng, monkeypatch):
    seen = []

    class Recorder:
        def __getattr__(self, name):
            return getattr(kernels, name)

        def add_relu_backward(self, dy, y, *rest):
            seen.append(y is not None)
            kernels.add_relu_backward(dy, y, *rest)

    kernels = kernel_device.kernels
    monkeypatch.setattr(type(kernel_device), "kernels_for", lambda self, dtype: Recorder())
    a, b, weight = (leaf(rng.standard_normal(s).astype(np.float32), kernel_device) for s in ((5, 7), (5, 7), (3, 7)))
    functional.linear(add_relu(a, b), weight).backward(np.ones((5, 3)))
    with_consumers(add_relu)(a, b, weight).backward(np.ones((5, 3)))
    add_relu(a, b).backward(np.ones((5, 7)))
    assert seen == [False, True, True]


def padded(values, offset):
    """The values between others, which nobody may change."""
    return np.concatenate([np.full(offset, 99), values, np.full(8 - offset, 99)]).astype(np.float32)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 1024, 1029])
def test_every_alignment_and_either_mode(count, kernel_device, rng):
    """Without y, dy goes through as it is."""
    kernels, (dy, y, before) = kernel_device.kernels, rng.standard_normal((3, count)).astype(np.float32)
    modes = list(itertools.product(Accumulate, Accumulate))
    for offset, (mode_a, mode_b), masked in itertools.product(range(4), modes, (True, False)):
        arrays = [kernel_device.array(padded(values, offset)) for values in (dy, y, before, before)]
        own_dy, own_y, da, db = (array[offset : offset + count] for array in arrays)
        kernels.add_relu_backward(own_dy, own_y if masked else None, da, mode_a, db, mode_b, count)
        gradient = np.where(y > 0, dy, 0) if masked else dy
        for array, mode in zip(arrays[2:], (mode_a, mode_b), strict=True):
            expected = gradient + before if mode is Accumulate.add else gradient
            np.testing.assert_array_equal(kernel_device.to_numpy(array), padded(expected, offset))


@pytest.mark.parametrize("offset", range(4))
def test_sums_at_every_alignment(offset, kernel_device, rng):
    a, b = rng.standard_normal((2, 1029)).astype(np.float32)
    arrays = [kernel_device.array(padded(values, offset)) for values in (a, b, np.full_like(a, np.nan))]
    kernel_device.kernels.add_relu_forward(*(array[offset : offset + a.size] for array in arrays), a.size)
    np.testing.assert_array_equal(kernel_device.to_numpy(arrays[2]), padded(np.maximum(a + b, 0), offset))


def test_thread_order_does_not_matter(kernel_device, rng):
    check_deterministic(add_relu, list(rng.standard_normal((2, 1500))), kernel_device, rng)


def test_float64_beside_the_kernels(kernel_device):
    def add_relu_itself(x):
        return add_relu(x, x)

    add_relu_itself.__name__ = "add_relu"
    check_float64(add_relu_itself, kernel_device)


@pytest.mark.parametrize("other", [(3,), (2, 1), (3, 2), (2, 3, 1)])
def test_refuses_two_shapes(other):
    message = f"add_relu: a and b must have one shape, got (2, 3) and {other}; use relu(a + b)"
    with pytest.raises(minicnn.OpError, match=f"^{re.escape(message)}$"):
        add_relu(minicnn.tensor(np.ones((2, 3))), minicnn.tensor(np.ones(other)))
