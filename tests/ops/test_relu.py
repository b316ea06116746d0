"""ReLU, the worked example: reference, gradient, kernels, errors."""

import numpy as np
import pytest
from checks import check_accumulates, check_float64, check_kernels, leaf, run
from tolerances import assert_close

import minicnn
from minicnn.functional import relu

SHAPES = {
    "empty": (0, 4),
    "one_element": (1,),
    "shorter_than_a_vector_access": (3,),
    "whole_vectors": (2, 4, 4, 8),
    "tail_after_vectors": (3, 7, 5, 3),
    "past_one_block": (1037,),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def x(request, rng):
    values = rng.standard_normal(request.param)
    return values + np.copysign(0.1, values)  # away from the kink


def test_reference_is_the_formula():
    y, (dx,) = run(relu, [np.array([-2.0, -0.5, 0.0, 0.5, 3.0])], "numpy", np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert y.tolist() == [0, 0, 0, 0.5, 3]
    assert dx.tolist() == [0, 0, 0, 4, 5]


def test_nan_stays_nan_as_in_torch(device, torch):
    values = np.array([np.nan, -np.inf, np.inf, -1.0, 2.0, 0.0], np.float32)
    y, (dx,) = run(relu, [values], device)
    second = torch.tensor(values, requires_grad=True)
    torch.relu(second).sum().backward()
    assert_close(y, torch.relu(second).detach().numpy())
    assert_close(dx, second.grad.numpy())


def test_gradient_of_the_reference(x):
    if x.size:
        minicnn.gradcheck(relu, [leaf(x, "numpy")])


def test_kernels_match_the_reference(x, kernel_device, rng):
    check_kernels(relu, [x], kernel_device, rng, rtol=0, atol=0)


def test_gradient_of_the_kernels(kernel_device, rng):
    x = rng.standard_normal((3, 37))
    x = (x + np.copysign(0.5, x)).astype(np.float32)
    minicnn.gradcheck(relu, [leaf(x, kernel_device)], eps=0.125, rtol=1e-4)  # the step stays clear of the kink


def test_gradients_accumulate(device, rng):
    check_accumulates(relu, [rng.standard_normal((5, 9))], device)


def test_float64_beside_the_kernels(kernel_device):
    check_float64(relu, kernel_device)
