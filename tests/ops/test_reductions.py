"""Sum, mean and maximum over axes: reference, gradient, kernels, error bound, ties, errors."""

import functools
import itertools

import numpy as np
import pytest
from checks import check_accumulates, check_deterministic, check_exact, check_kernels, leaf, run
from tolerances import assert_close

import minicnn
from minicnn import Tensor

FUNCTIONS = {"sum": Tensor.sum, "mean": Tensor.mean, "max": Tensor.max}
CASES = {  # shape, axis, keepdims
    "all_axes": ((3, 4, 5), None, False),
    "all_axes_kept": ((3, 4), None, True),
    "no_axes_to_reduce": ((), None, False),
    "an_empty_tuple": ((3, 4), (), False),
    "first_axis": ((5, 3, 2), 0, False),
    "last_axis": ((5, 3, 2), -1, False),
    "middle_axis_kept": ((5, 3, 2), 1, True),
    "neighbours": ((2, 3, 4, 5), (1, 2), False),
    "neighbours_in_any_order": ((2, 3, 4, 5), (2, 1), True),
    "images_to_channels": ((2, 4, 3, 5), (0, 1, 2), False),
    "two_runs": ((3, 4, 5, 2), (0, 2), False),
    "two_runs_kept": ((3, 4, 5, 2), (1, -1), True),
    "three_runs": ((2, 3, 2, 3, 2), (0, 2, 4), False),
    "extent_of_one": ((3, 1, 4), 1, False),
    "empty_result": ((0, 3), 1, False),
    "row_of_one_vector": ((3, 4), 1, False),
    "rows_past_a_block": ((2, 1031), 1, False),
    "rows_of_many": ((300, 6), 1, False),
    "row_of_one_chunk": ((1, 4096), 1, False),
    "row_of_two_chunks": ((2, 4099), 1, False),
    "columns_of_one_lane": ((16, 200), 0, False),
    "columns_of_odd_channels": ((70, 3), 0, False),
    "columns_of_one_chunk": ((128, 128), 0, False),
    "columns_of_two_chunks": ((129, 131), 0, False),
    "columns_of_many_outers": ((37, 20, 6), 1, False),
    "columns_of_long_chunks": ((4200, 2), 0, False),
}


@pytest.fixture(params=FUNCTIONS.values(), ids=FUNCTIONS.keys())
def function(request):
    return request.param


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request, function, rng):
    """(the reduction with its arguments, x without ties, axes as places)."""
    shape, axis, keepdims = request.param
    x = rng.permutation(np.arange(float(np.prod(shape)))).reshape(shape) / 64
    axes = tuple(range(len(shape))) if axis is None else (axis,) if isinstance(axis, int) else axis
    axes = tuple(a % len(shape) for a in axes)
    return functools.partial(function, axis=axis, keepdims=keepdims), x, axes


def naive(function, x, axes, keepdims, dy):
    """(y, dx) by one loop over the outputs and one over what each reduces."""
    kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(x.shape))
    y, dx = np.zeros(kept), np.zeros(x.shape)
    dy = dy.reshape(kept)
    for out in np.ndindex(kept):
        places = list(itertools.product(*(range(x.shape[a]) if a in axes else [out[a]] for a in range(x.ndim))))
        values = [x[place] for place in places]
        if function is Tensor.max:
            y[out] = max(values)
            dx[places[values.index(y[out])]] += dy[out]
        else:
            weight = 1 if function is Tensor.sum else 1 / len(places)
            y[out] = sum(values) * weight
            for place in places:
                dx[place] += dy[out] * weight
    if not keepdims:
        y = y.reshape(tuple(extent for axis, extent in enumerate(x.shape) if axis not in axes))
    return y, dx


def test_reference_matches_loops(case, rng):
    reduction, x, axes = case
    dy = rng.standard_normal(reduction(minicnn.tensor(x)).shape)
    expected, expected_dx = naive(reduction.func, x, axes, reduction.keywords["keepdims"], dy)
    if not axes:
        return  # nothing is reduced: the next test looks at that
    y, (dx,) = run(reduction, [x], "numpy", dy)
    assert_close(y, expected)
    assert_close(dx, expected_dx)


def test_no_axes_leave_the_tensor_as_it_is(function, device):
    for x in (leaf(np.float32(3), device), leaf(np.ones((2, 3), np.float32), device)):
        np.testing.assert_array_equal(function(x, axis=()).numpy(), x.numpy())


def test_reference_matches_torch(case, torch, rng):
    reduction, x, axes = case
    if not axes:
        return
    y, (dx,) = run(reduction, [x], "numpy")
    second = torch.tensor(x, requires_grad=True)
    name = {Tensor.sum: "sum", Tensor.mean: "mean", Tensor.max: "amax"}[reduction.func]
    result = getattr(torch, name)(second, axes, keepdim=reduction.keywords["keepdims"])
    result.sum().backward()
    assert_close(y, result.detach().numpy())
    assert_close(dx, second.grad.numpy())


def test_gradient_of_the_reference(case):
    reduction, x, axes = case
    if axes and x.size < 2000:
        minicnn.gradcheck(reduction, [leaf(x, "numpy")], eps=1e-4)


def test_kernels_match_the_reference(case, kernel_device, rng):
    reduction, x, axes = case
    if axes:
        check_kernels(reduction, [x], kernel_device, rng)


@pytest.mark.parametrize("case", [c for c in CASES.values() if c[1] != () and c[0]], ids=str)
def test_sums_are_exact_on_integers(case, kernel_device, rng):
    shape, axis, keepdims = case
    x = rng.integers(-8, 9, shape)
    reduction = functools.partial(Tensor.sum, axis=axis, keepdims=keepdims)
    check_exact(reduction, [x], kernel_device, rng.integers(-8, 9, reduction(minicnn.tensor(x * 1.0)).shape))


def test_a_sum_of_three_passes_is_exact_on_integers(kernel_device, rng):
    x, y = rng.integers(-8, 9, (16500, 125)), rng.integers(-8, 9, 125)
    check_exact(functools.partial(Tensor.sum, axis=0), [x], kernel_device, y)


@pytest.mark.parametrize("shape, axis", [((1 << 17,), 0), ((1 << 14, 4), 0)], ids=["row", "columns"])
def test_the_error_of_a_sum_stays_below_its_bound(shape, axis, kernel_device, rng):
    """(23 * passes + 1) * 2^-24 * sum |x|; one after another, such a sum is off by more."""
    x = rng.uniform(0.5, 1, shape).astype(np.float32)
    y = leaf(x, kernel_device).sum(axis=axis).numpy()
    exact = x.sum(axis=axis, dtype=np.float64)
    bound = (23 * 2 + 1) * 2.0**-24 * exact
    assert (np.abs(y - exact) <= bound).all()
    one_by_one = functools.reduce(np.add, x)
    assert (np.abs(one_by_one - exact) > np.abs(y - exact)).all()


def test_gradient_of_the_kernels(function, kernel_device, rng):
    x = rng.permutation(3.0 * np.arange(60)).reshape(3, 4, 5).astype(np.float32)
    reduction = functools.partial(function, axis=(0, 2))
    minicnn.gradcheck(reduction, [leaf(x, kernel_device)], eps=1, rtol=1e-4)


def test_gradients_accumulate(function, device, rng):
    for axis in (0, 1, (0, 2), None):
        check_accumulates(functools.partial(function, axis=axis), [rng.standard_normal((5, 3, 4))], device)


def test_thread_order_does_not_matter(function, kernel_device, rng):
    for shape, axis in (((3, 130, 6), 1), ((2, 4100), 1)):
        check_deterministic(functools.partial(function, axis=axis), [rng.standard_normal(shape)], kernel_device, rng)


TIES = {
    "all_equal": ([[2.0, 2, 2], [2, 2, 2]], 1),
    "later_ones_lose": ([[1.0, 3, 3], [3, 1, 3]], 1),
    "along_columns": ([[1.0, 3], [4, 3], [4, 3]], 0),
    "minus_infinities": ([[-np.inf, -np.inf], [-np.inf, 1]], 1),
    "infinities": ([[1.0, np.inf, np.inf]], 1),
    "zeros_of_both_signs": ([[-0.0, 0.0], [0.0, -0.0]], 1),
    "nan_wins": ([[1.0, np.nan, 9], [np.inf, 2, np.nan]], 1),
    "first_nan": ([[np.nan, np.nan], [1, 2]], 1),
}


@pytest.mark.parametrize("values, axis", TIES.values(), ids=TIES.keys())
def test_the_first_maximum_gets_the_gradient_as_in_torch(values, axis, device, torch):
    values = np.array(values, np.float32)
    y, (dx,) = run(functools.partial(Tensor.max, axis=axis), [values], device)
    second = torch.tensor(values, requires_grad=True)
    result = torch.max(second, axis).values
    result.sum().backward()
    assert_close(y, result.detach().numpy())
    assert_close(dx, second.grad.numpy())


@pytest.mark.parametrize("axis", [None, (0, 2), (1, 2), (0, 1)], ids=str)
def test_the_first_maximum_of_several_axes(axis, device):
    y, (dx,) = run(functools.partial(Tensor.max, axis=axis), [np.ones((2, 3, 2), np.float32)], device)
    assert (y == 1).all()
    first = np.zeros((2, 3, 2), np.float32)
    first[tuple(0 if axis is None or a in axis else slice(None) for a in range(3))] = 1
    np.testing.assert_array_equal(dx, first)


def test_ties_far_apart(kernel_device):
    """In other lanes, chunks and passes."""
    for shape in ((1, 9000), (9000, 1, 2)):
        axis = int(np.argmax(shape))
        x = np.zeros(shape, np.float32)
        x.swapaxes(0, axis)[[4097, 4100, 8999]] = 5
        _, (dx,) = run(functools.partial(Tensor.max, axis=axis), [x], kernel_device)
        assert (dx.swapaxes(0, axis)[4097] == 1).all()
        assert dx.sum() == x.size / 9000


def test_refuses_an_axis_that_is_not_there(function):
    with pytest.raises(minicnn.OpError, match=rf"^{function.__name__}: axis 2 is not there, the tensor has 2 axes$"):
        function(minicnn.tensor(np.zeros((2, 3))), axis=2)


def test_refuses_an_axis_twice(function):
    with pytest.raises(minicnn.OpError, match=rf"^{function.__name__}: axes \(1, -1\) name one axis twice$"):
        function(minicnn.tensor(np.zeros((2, 3))), axis=(1, -1))


def test_refuses_an_axis_that_is_no_integer(function):
    with pytest.raises(minicnn.OpError, match=rf"^{function.__name__}: axis must be an integer, got 1.0$"):
        function(minicnn.tensor(np.zeros((2, 3))), axis=1.0)


@pytest.mark.parametrize("function", [Tensor.mean, Tensor.max], ids=["mean", "max"])
def test_refuses_to_reduce_nothing(function, device):
    x = minicnn.tensor(np.zeros((2, 0, 3), np.float32), device=device)
    with pytest.raises(
        minicnn.OpError,
        match=rf"^{function.__name__}: axes 1 to 1 of x have no elements \(x is \(2, 0, 3\)\)$",
    ):
        function(x, axis=1)


def test_the_sum_of_nothing_is_zero(device):
    y, (dx,) = run(functools.partial(Tensor.sum, axis=0), [np.zeros((0, 3), np.float32)], device)
    assert y.tolist() == [0, 0, 0]
    assert dx.shape == (0, 3)
