"""Softmax: reference, extremes, gradient, kernels, errors."""

import functools
import math

import numpy as np
import pytest
from checks import check_accumulates, check_kernels, check_thread_orders, leaf, run
from tolerances import assert_close

import minicnn
from minicnn.functional import softmax

CASES = {  # shape, dim
    "empty": ((0, 5), -1),
    "empty_rows": ((3, 0), -1),
    "one_class": ((4, 1), -1),
    "one_row": ((7,), 0),
    "shorter_than_a_warp": ((3, 10), -1),
    "a_warp_and_one": ((2, 33), 1),
    "several_warps": ((3, 257), -1),
    "threads_loop": ((2, 1025), -1),
    "threads_loop_by_fours": ((2, 1600), -1),
    "middle_axis": ((2, 5, 3), 1),
    "first_axis": ((4, 2, 3), -3),
}
EXTREMES = {
    "huge": [1e30, -1e30, 0.0, 1e30],
    "beyond_exp": [1000.0, 1001.0, 999.0, 1000.0],
    "all_masked": [-np.inf] * 4,
    "some_masked": [-np.inf, 0.0, 1.0, -np.inf],
    "infinity": [np.inf, 0.0, 1.0, 2.0],
    "nan": [0.0, np.nan, 1.0, 2.0],
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request, rng):
    shape, dim = request.param
    return 3 * rng.standard_normal(shape), functools.partial(softmax, dim=dim)


def test_reference_is_the_formula(rng):
    x = rng.standard_normal((2, 3, 4))
    y, _ = run(functools.partial(softmax, dim=1), [x], "numpy")
    for n, j in np.ndindex(2, 4):
        total = sum(math.exp(x[n, i, j]) for i in range(3))
        for i in range(3):
            assert y[n, i, j] == pytest.approx(math.exp(x[n, i, j]) / total, rel=1e-14)


def test_reference_matches_torch(case, torch, rng):
    x, function = case
    dy = rng.standard_normal(x.shape)
    y, (dx,) = run(function, [x], "numpy", dy)
    second = torch.tensor(x, requires_grad=True)
    result = torch.softmax(second, function.keywords["dim"])
    result.backward(torch.tensor(dy))
    assert_close(y, result.detach().numpy())
    assert_close(dx, second.grad.numpy())


@pytest.mark.parametrize("row", EXTREMES.values(), ids=EXTREMES.keys())
def test_extremes_are_as_in_torch(row, device, torch):
    values = np.array([row, [0.0, 1.0, 2.0, 3.0]], np.float32)
    y, _ = run(softmax, [values], device)
    assert_close(y, torch.softmax(torch.tensor(values), -1).numpy())


def test_gradient_of_the_reference(case):
    x, function = case
    if x.size:
        minicnn.gradcheck(function, [leaf(x, "numpy")])


def test_kernels_match_the_reference(case, kernel_device, rng):
    x, function = case
    check_kernels(function, [x], kernel_device, rng)


def test_gradient_of_the_kernels(kernel_device, rng):
    x = rng.standard_normal((3, 21)).astype(np.float32)
    minicnn.gradcheck(softmax, [leaf(x, kernel_device)], eps=0.02, rtol=2e-3)  # the difference errs by eps^2


def test_gradients_accumulate(device, rng):
    check_accumulates(softmax, [rng.standard_normal((2, 3))], device, dy=rng.standard_normal((2, 3)).astype(np.float32))


def test_a_single_class_is_exact(device):
    y, (dx,) = run(softmax, [np.array([[3.7], [-1e30]], np.float32)], device, np.array([[2.0], [5.0]]))
    assert y.tolist() == [[1], [1]]
    assert dx.tolist() == [[0], [0]]


def test_thread_order_does_not_matter(kernel_device, rng):
    x, dy = rng.standard_normal((2, 2, 300)).astype(np.float32)

    def compute():
        y, (dx,) = run(softmax, [x], kernel_device, dy)
        return y, dx

    check_thread_orders(compute, kernel_device)


@pytest.mark.parametrize("dim", [2, -3, 1.0, None], ids=str)
def test_refuses_an_axis_that_x_has_not(dim):
    with pytest.raises(minicnn.OpError, match=rf"^softmax: dim={dim} is no axis of x, whose shape is \(2, 3\)$"):
        softmax(minicnn.tensor(np.zeros((2, 3))), dim)
