"""Sigmoid: reference, extremes, gradient, kernels, errors."""

import math

import numpy as np
import pytest
from checks import check_accumulates, check_deterministic, check_float64, check_kernels, leaf, run
from tolerances import assert_close

import minicnn
from minicnn.functional import sigmoid

SHAPES = {
    "empty": (0, 4),
    "no_axes": (),
    "shorter_than_a_vector_access": (3,),
    "whole_vectors": (2, 4, 4, 8),
    "tail_after_vectors": (3, 7, 5, 3),
    "past_one_block": (1037,),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def x(request, rng):
    return 3 * rng.standard_normal(request.param)


def test_reference_is_the_formula(x):
    y, (dx,) = run(sigmoid, [x], "numpy")
    for index in np.ndindex(x.shape):
        expected = 1 / (1 + math.exp(-x[index]))
        assert y[index] == pytest.approx(expected, rel=1e-14)
        assert dx[index] == pytest.approx(expected * (1 - expected), rel=1e-12)


def test_extremes_are_as_in_torch(device, torch):
    values = np.array(
        [np.nan, np.inf, -np.inf, 0.0, 1e-20, -1e-20, 20, -20, 87, -87, 100, -100, 1e30, -1e30], np.float32
    )
    y, (dx,) = run(sigmoid, [values], device)
    second = torch.tensor(values, requires_grad=True)
    torch.sigmoid(second).sum().backward()
    assert_close(y, torch.sigmoid(second).detach().numpy())
    assert_close(dx, second.grad.numpy())


def test_small_results_keep_their_precision(device):
    x = np.array([-20.0, -50.0, -85.0], np.float32)
    y, (dx,) = run(sigmoid, [x], device)
    expected = np.exp(x.astype(np.float64))  # 1 / (1 + exp(-x)) to 9 digits
    assert_close(y, expected, atol=0)
    assert_close(dx, expected, atol=0)


def test_gradient_of_the_reference(x):
    minicnn.gradcheck(sigmoid, [leaf(x, "numpy")])


def test_kernels_match_the_reference(x, kernel_device, rng):
    check_kernels(sigmoid, [x], kernel_device, rng)


def test_gradient_of_the_kernels(kernel_device, rng):
    x = rng.standard_normal((3, 7)).astype(np.float32)
    minicnn.gradcheck(sigmoid, [leaf(x, kernel_device)], eps=0.02, rtol=2e-3)


def test_gradients_accumulate(device, rng):
    check_accumulates(sigmoid, [rng.standard_normal((5, 9))], device)


def test_thread_order_does_not_matter(kernel_device, rng):
    check_deterministic(sigmoid, [rng.standard_normal((3, 350))], kernel_device, rng)


def test_the_layer_is_the_function(rng):
    x = minicnn.tensor(rng.standard_normal((2, 3)))
    np.testing.assert_array_equal(minicnn.nn.Sigmoid()(x).numpy(), sigmoid(x).numpy())


def test_float64_beside_the_kernels(kernel_device):
    check_float64(sigmoid, kernel_device)
