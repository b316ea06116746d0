"""Concatenate: reference, gradient, kernels, errors."""

import re

import numpy as np
import pytest
from checks import check_accumulates, check_deterministic, check_exact, leaf, run
from tolerances import assert_close

import minicnn
from minicnn.functional import concatenate

CASES = {  # shapes, axis
    "one": ([(2, 3)], 0),
    "vectors": ([(3,), (5,), (1,)], 0),
    "rows": ([(2, 3), (4, 3)], 0),
    "columns": ([(2, 3), (2, 5)], 1),
    "columns_of_vectors": ([(3, 8), (3, 4)], -1),
    "middle": ([(2, 1, 3), (2, 4, 3), (2, 2, 3)], 1),
    "an_empty_one": ([(2, 3), (2, 0), (2, 1)], 1),
    "all_empty": ([(0, 3), (0, 2)], 1),
    "channels_of_images": ([(2, 5, 4, 16), (2, 5, 4, 3), (2, 5, 4, 8)], -1),
    "past_one_block": ([(1037,), (1500,)], 0),
}


def along(axis):
    return lambda *tensors: concatenate(tensors, axis)


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request, rng):
    shapes, axis = request.param
    return [rng.integers(-8, 9, shape) for shape in shapes], axis


def test_reference_matches_loops(case, rng):
    xs, axis = case
    total = list(xs[0].shape)
    total[axis] = sum(x.shape[axis] for x in xs)
    dy = rng.integers(-8, 9, total)
    y, grads = run(along(axis), [x * 1.0 for x in xs], "numpy", dy)
    assert y.shape == tuple(total)
    start = 0
    for x, grad in zip(xs, grads, strict=True):
        for index in np.ndindex(x.shape):
            place = list(index)
            place[axis] += start
            assert y[tuple(place)] == x[index]
            assert grad[index] == dy[tuple(place)]
        start += x.shape[axis]


def test_reference_matches_torch(case, torch):
    xs, axis = case
    y, _ = run(along(axis), [x * 1.0 for x in xs], "numpy")
    assert_close(y, torch.cat([torch.tensor(x * 1.0) for x in xs], axis).numpy())


def test_gradient_of_the_reference(case):
    xs, axis = case
    minicnn.gradcheck(along(axis), [leaf(x * 1.0, "numpy") for x in xs])


def test_kernels_are_exact(case, kernel_device, rng):
    xs, axis = case
    check_exact(along(axis), xs, kernel_device, rng.integers(-8, 9, np.concatenate(xs, axis).shape))


def test_adjoint_identity(case, device, rng):
    """<concatenate(x_0, x_1, ...), g> = sum of <x_i, dx_i>."""
    xs, axis = case
    g = rng.integers(-8, 9, np.concatenate(xs, axis).shape)
    y, grads = run(along(axis), [x.astype(np.float32) for x in xs], device, g)
    assert (y * g).sum() == sum((x * grad).sum() for x, grad in zip(xs, grads, strict=True))


def test_gradient_of_the_kernels(kernel_device, rng):
    inputs = [leaf(rng.standard_normal(shape).astype(np.float32), kernel_device) for shape in ((2, 3, 2), (2, 1, 2))]
    minicnn.gradcheck(along(1), inputs, eps=1, rtol=1e-5)


def test_gradients_accumulate(device, rng):
    check_accumulates(along(1), [rng.standard_normal((3, 2)), rng.standard_normal((3, 5))], device)


def test_one_tensor_twice(device, rng):
    x, dy = rng.integers(-8, 9, (3, 2)), rng.integers(-8, 9, (3, 4))
    y, (dx,) = run(lambda x: concatenate([x, x], 1), [x.astype(np.float32)], device, dy)
    np.testing.assert_array_equal(y, np.concatenate([x, x], 1))
    np.testing.assert_array_equal(dx, dy[:, :2] + dy[:, 2:])


def test_an_input_that_needs_no_gradient(device, rng):
    x, constant = leaf(np.ones((2, 3), np.float32), device), leaf(np.ones((2, 1), np.float32), device, False)
    concatenate([constant, x], 1).backward(np.arange(8.0).reshape(2, 4))
    assert constant.grad is None
    assert x.grad.numpy().tolist() == [[1, 2, 3], [5, 6, 7]]


def test_thread_order_does_not_matter(kernel_device, rng):
    check_deterministic(along(1), [rng.standard_normal((40, 7)), rng.standard_normal((40, 12))], kernel_device, rng)


def test_refuses_shapes_that_differ_elsewhere():
    with pytest.raises(
        minicnn.OpError,
        match=r"^concatenate: tensors must agree in all axes but 1, tensor 0 is \(2, 3\), tensor 1 \(4, 3\)$",
    ):
        concatenate([minicnn.tensor(np.zeros((2, 3))), minicnn.tensor(np.zeros((4, 3)))], 1)


@pytest.mark.parametrize("first, second, axis", [((2,), (2, 1), 0), ((2, 3), (2,), 1), ((2,), (), 0)])
def test_refuses_other_numbers_of_axes(first, second, axis):
    with pytest.raises(
        minicnn.OpError,
        match=rf"^concatenate: tensors must agree in all axes but {axis}, "
        rf"tensor 0 is {re.escape(str(first))}, tensor 1 {re.escape(str(second))}$",
    ):
        concatenate([minicnn.tensor(np.zeros(first)), minicnn.tensor(np.zeros(second))], axis)


@pytest.mark.parametrize("shape, axis", [((2, 3), 2), ((2, 3), -3), ((), 0)])
def test_refuses_an_axis_that_is_not_there(shape, axis):
    with pytest.raises(
        minicnn.OpError, match=rf"^concatenate: axis {axis} is not there, the tensor has {len(shape)} axes$"
    ):
        concatenate([minicnn.tensor(np.zeros(shape))], axis)


def test_refuses_no_tensor():
    with pytest.raises(minicnn.OpError, match=r"^concatenate: at least one tensor is needed, got none$"):
        concatenate([])
