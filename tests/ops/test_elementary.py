"""exp, log, sqrt, powers: reference, gradient, kernels, edges of the domains, errors."""

import math

import numpy as np
import pytest
from checks import check_accumulates, check_deterministic, check_kernels, leaf, run
from tolerances import assert_close

import minicnn

FUNCTIONS = {  # (of a tensor, of a number, its derivative); on positive numbers
    "exp": (lambda x: x.exp(), math.exp, math.exp),
    "log": (lambda x: x.log(), math.log, lambda x: 1 / x),
    "sqrt": (lambda x: x.sqrt(), math.sqrt, lambda x: 0.5 / math.sqrt(x)),
    "square": (lambda x: x**2, lambda x: x * x, lambda x: 2 * x),
    "reciprocal_cube": (lambda x: x**-3, lambda x: x**-3.0, lambda x: -3 * x**-4.0),
    "power_of_a_fraction": (lambda x: x**0.75, lambda x: x**0.75, lambda x: 0.75 * x**-0.25),
    "power_of_one": (lambda x: x**1, lambda x: x, lambda x: 1.0),
    "power_of_zero": (lambda x: x**0, lambda x: 1.0, lambda x: 0.0),
}
SHAPES = {"empty": (0, 4), "no_axes": (), "tail_after_vectors": (3, 7, 5), "past_one_block": (1037,)}


@pytest.fixture(params=FUNCTIONS.values(), ids=FUNCTIONS.keys())
def case(request):
    return request.param


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def x(request, rng):
    return rng.uniform(0.25, 3, request.param)


def test_reference_matches_a_loop(case, x):
    function, value, slope = case
    y, (dx,) = run(function, [x], "numpy")
    for index in np.ndindex(x.shape):
        assert y[index] == pytest.approx(value(x[index]), rel=1e-14)
        assert dx[index] == pytest.approx(slope(x[index]), rel=1e-14)


def test_gradient_of_the_reference(case, x):
    minicnn.gradcheck(case[0], [leaf(x, "numpy")])


def test_kernels_match_the_reference(case, x, kernel_device, rng):
    check_kernels(case[0], [x], kernel_device, rng)


def test_gradient_of_the_kernels(case, kernel_device, rng):
    x = rng.uniform(1, 2, (3, 7)).astype(np.float32)
    minicnn.gradcheck(case[0], [leaf(x, kernel_device)], eps=0.01, rtol=2e-3)


def test_gradients_accumulate(case, device, rng):
    check_accumulates(case[0], [rng.uniform(1, 2, (5, 9))], device)


def test_thread_order_does_not_matter(case, kernel_device, rng):
    check_deterministic(case[0], [rng.uniform(1, 2, (3, 350))], kernel_device, rng)


@pytest.mark.parametrize("name", ["exp", "log", "sqrt"])
def test_edges_of_the_domain_are_as_in_torch(name, device, torch):
    values = np.array([0.0, -0.0, -1.0, np.inf, -np.inf, np.nan, 1e-30, 200.0, -200.0], np.float32)
    y, (dx,) = run(lambda x: getattr(x, name)(), [values], device)
    second = torch.tensor(values, requires_grad=True)
    result = getattr(torch, name)(second)
    result.sum().backward()
    assert_close(y, result.detach().numpy())
    assert_close(dx, second.grad.numpy())


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, -2, 0.75, -0.75])
def test_edges_of_powers_are_as_in_torch(exponent, device, torch):
    values = np.array([0.0, -0.0, -1.5, 1.5, np.inf, -np.inf, np.nan], np.float32)
    y, (dx,) = run(lambda x: x**exponent, [values], device)
    second = torch.tensor(values, requires_grad=True)
    result = second**exponent
    result.sum().backward()
    assert_close(y, result.detach().numpy())
    assert_close(dx, second.grad.numpy())


@pytest.mark.parametrize("exponent", [minicnn.tensor([2.0]), "2"], ids=["tensor", "text"])
def test_refuses_an_exponent_that_is_no_number(exponent):
    with pytest.raises(minicnn.OpError, match=rf"^pow: the exponent must be a number, got {type(exponent).__name__}$"):
        minicnn.tensor([1.0]) ** exponent
