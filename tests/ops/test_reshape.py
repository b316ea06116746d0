"""reshape, flatten, permute, transpose, indexing: reference, gradient, kernels, memory, errors."""

import functools

import numpy as np
import pytest
from checks import check_accumulates, check_deterministic, check_exact, leaf, run

import minicnn
from minicnn.functional import flatten

RESHAPES = {
    "same": ((2, 3), (2, 3)),
    "flat": ((2, 3, 4), (24,)),
    "what_is_left": ((2, 3, 4), (4, -1)),
    "ones": ((6,), (1, 6, 1)),
    "no_axes": ((1, 1), ()),
    "from_no_axes": ((), (1, 1)),
    "empty": ((0, 3), (3, 0)),
}
PERMUTATIONS = {
    "no_axes": ((), ()),
    "identity": ((2, 3, 4), (0, 1, 2)),
    "matrix": ((3, 5), (1, 0)),
    "from_the_end": ((3, 4, 5), (-1, 0, 1)),
    "extents_of_one": ((1, 5, 1, 3), (3, 2, 1, 0)),
    "empty": ((3, 0, 2), (2, 0, 1)),
    "images_to_channels_first": ((2, 5, 7, 3), (0, 3, 1, 2)),
    "images_to_channels_last": ((2, 3, 5, 7), (0, 2, 3, 1)),
    "six_axes": ((2, 3, 2, 3, 2, 3), (5, 3, 1, 4, 2, 0)),
    "seven_axes_of_which_two_stay_neighbours": ((2, 2, 2, 2, 2, 2, 3), (1, 0, 2, 3, 6, 5, 4)),
    "half_a_tile": ((16, 16), (1, 0)),
    "a_tile": ((32, 32), (1, 0)),
    "past_a_tile": ((33, 65), (1, 0)),
    "tiles_of_channels": ((2, 5, 7, 33), (0, 3, 1, 2)),
    "tiles_between_other_axes": ((2, 17, 3, 35), (2, 3, 0, 1)),
    "inner_axis_stays": ((20, 30, 4), (1, 0, 2)),
}
KEYS = {
    "integer": ((5, 3), 2),
    "integer_from_the_end": ((5, 3), -1),
    "all_integers": ((5, 3), (4, 1)),
    "slice": ((9, 3), slice(2, 7)),
    "slice_to_the_end": ((9, 3), slice(-4, None)),
    "step": ((9, 8), (slice(None), slice(1, None, 3))),
    "step_past_the_end": ((4, 3), slice(0, 100, 3)),
    "steps_along_both": ((9, 8), (slice(1, 9, 2), slice(0, 8, 3))),
    "nothing_left": ((4, 3), slice(3, 1)),
    "ellipsis": ((2, 3, 4), (..., 1)),
    "ellipsis_in_the_middle": ((2, 3, 4, 5), (1, ..., slice(0, 4))),
    "ellipsis_of_nothing": ((2, 3), (0, ..., 1)),
    "only_ellipsis": ((2, 3), ...),
    "empty_key": ((2, 3), ()),
    "none": ((2, 3), None),
    "none_between": ((2, 3), (slice(None), None, 1)),
    "none_and_ellipsis": ((2, 3, 4), (None, ..., None, slice(1, 3))),
    "no_axes": ((), ()),
    "numpy_integer": ((5, 3), np.int64(3)),
    "rows_of_vectors": ((7, 8), slice(2, 6)),
    "columns_of_vectors": ((7, 12), (slice(None), slice(4, 8))),
    "columns_off_a_vector": ((7, 12), (slice(None), slice(3, 11))),
    "windows_of_images": ((2, 8, 9, 3), (slice(None), slice(1, 6), slice(2, 8), slice(None))),
    "six_steps": ((4, 4, 4, 4, 4, 4), (slice(None, None, 2),) * 6),
}


def case(kind, shape, argument):
    """(function of a tensor, the same of a NumPy array, shape)."""
    if kind == "reshape":
        return lambda x: x.reshape(argument), lambda x: x.reshape(argument), shape
    if kind == "permute":
        return lambda x: x.permute(argument), lambda x: x.transpose(argument), shape
    return lambda x: x[argument], lambda x: x[argument], shape


TABLES = {"reshape": RESHAPES, "permute": PERMUTATIONS, "index": KEYS}
CASES = {f"{kind}-{name}": case(kind, *args) for kind, table in TABLES.items() for name, args in table.items()}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def moved(request):
    return request.param


def gradient_by_loop(of_array, shape, dy):
    """Each element of y carries its dy to the element of x from which it came."""
    source = of_array(np.arange(np.prod(shape, dtype=int)).reshape(shape))
    dx = np.zeros(shape)
    for place, gradient in zip(np.ravel(source), np.ravel(dy), strict=True):
        dx.ravel()[place] += gradient
    return dx


def test_every_device_matches_numpy(moved, device, rng):
    of_tensor, of_array, shape = moved
    x = rng.standard_normal(shape).astype(np.float32)
    expected = of_array(x)
    dy = rng.standard_normal(expected.shape).astype(np.float32)
    y, (dx,) = run(of_tensor, [x], device, dy)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(dx, gradient_by_loop(of_array, shape, dy))


def test_results_are_contiguous(moved, device, rng):
    of_tensor, _, shape = moved
    assert of_tensor(leaf(rng.standard_normal(shape).astype(np.float32), device)).data.flags.c_contiguous


def test_gradient_of_the_reference(moved, rng):
    of_tensor, of_array, shape = moved
    if of_array(np.zeros(shape)).size:
        minicnn.gradcheck(of_tensor, [leaf(rng.standard_normal(shape), "numpy")])


def test_gradient_of_the_kernels(kernel_device, rng):
    x = leaf(rng.standard_normal((3, 4, 5)).astype(np.float32), kernel_device)
    minicnn.gradcheck(lambda x: x.permute(2, 0, 1)[1:, :, ::2].reshape(-1), [x], eps=1, rtol=1e-5)


def test_adjoint_identity(moved, device, rng):
    """<move(x), g> = <x, gradient of move at g>, exactly, on integers."""
    of_tensor, of_array, shape = moved
    x = rng.integers(-8, 9, shape).astype(np.float32)
    g = rng.integers(-8, 9, of_array(x).shape)
    y, (dx,) = run(of_tensor, [x], device, g)
    assert (y * g).sum() == (x * dx).sum()


def test_gradients_accumulate(moved, device, rng):
    of_tensor, _, shape = moved
    check_accumulates(of_tensor, [rng.standard_normal(shape)], device)


def test_gradients_of_two_uses_meet(moved, device, rng):
    """Both write into one slot, within one walk: whoever comes second must add."""
    of_tensor, of_array, shape = moved
    x = rng.integers(-8, 9, shape)
    dy = rng.integers(-8, 9, of_array(x).shape)
    _, (dx,) = run(lambda x: of_tensor(x * 2) + of_tensor(x * 3), [x.astype(np.float32)], device, dy)
    np.testing.assert_array_equal(dx, 5 * gradient_by_loop(of_array, shape, dy))


def test_thread_order_does_not_matter(kernel_device, rng):
    for name in ("permute-past_a_tile", "permute-six_axes", "index-windows_of_images"):
        of_tensor, _, shape = CASES[name]
        check_deterministic(of_tensor, [rng.standard_normal(shape)], kernel_device, rng)


@pytest.mark.parametrize("start, shape", [(0, (24,)), (1, (2, 12)), (2, (2, 3, 4)), (-2, (2, 12))])
def test_flatten(start, shape, device):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for function in (functools.partial(flatten, start_dim=start), lambda x: minicnn.nn.Flatten(start)(x)):
        y, (dx,) = run(function, [x], device)
        np.testing.assert_array_equal(y, x.reshape(shape))
        assert dx.shape == (2, 3, 4)


def test_transpose_exchanges_two_axes(device, rng):
    check_exact(lambda x: x.transpose(0, -1), [rng.integers(-8, 9, (3, 4, 5))], device, rng.integers(-8, 9, (5, 4, 3)))


def test_rows_of_a_tensor(device):
    x = leaf(np.arange(6, dtype=np.float32).reshape(3, 2), device)
    assert [row.numpy().tolist() for row in x] == [[0, 1], [2, 3], [4, 5]]


def test_reshape_copies_nothing_forward(device):
    x = leaf(np.zeros((2, 3), np.float32), device)
    assert x.reshape(3, 2).data.base is not None
    x.copy_(np.ones((2, 3)))
    for view in (x.reshape(3, 2), x.detach().reshape(6)):
        x.copy_(np.full((2, 3), 7.0))
        assert (view.numpy() == 7).all()


def test_reshape_copies_nothing_backward(device, monkeypatch):
    """The gradient that arrives is the gradient that is passed on: one block of memory for three ops."""
    x = leaf(np.zeros((2, 3), np.float32), device)
    y = x.reshape(3, 2).reshape(6).reshape(1, 6)
    taken = []
    empty = type(device).empty
    monkeypatch.setattr(type(device), "empty", lambda *args: taken.append(args) or empty(*args))
    y.backward(np.ones((1, 6)))
    assert len(taken) == 1
    assert (x.grad.numpy() == 1).all()


def test_a_write_through_a_view_is_seen(device):
    """An unrecorded view shares its tensor's count of writes, so that backward refuses what changed under it."""
    x = leaf(np.ones((2, 3), np.float32), device, requires_grad=False)
    w = leaf(np.ones(6, np.float32), device)
    y = x.reshape(6) * w
    x.copy_(np.zeros((2, 3)))
    with pytest.raises(minicnn.GraphError, match=r"that mul uses was changed in place"):
        y.backward(np.ones(6))


@pytest.mark.parametrize("shape", [(4,), (2, 2), (-1, -1), (-1, 4), (-2, -3), (0, -1)], ids=str)
def test_reshape_refuses_what_does_not_fit(shape):
    with pytest.raises(
        minicnn.OpError,
        match=r"^reshape: 6 elements of shape \(2, 3\) do not fit into "
        + str(shape).replace("(", r"\(").replace(")", r"\)")
        + "$",
    ):
        minicnn.tensor(np.zeros((2, 3))).reshape(shape)


@pytest.mark.parametrize("axes", [(0,), (0, 0), (0, 1, 2)], ids=str)
def test_permute_refuses_what_is_no_permutation(axes):
    x = minicnn.tensor(np.zeros((2, 3)))
    with pytest.raises(minicnn.OpError, match=r"^permute: "):
        x.permute(axes)
    with pytest.raises(
        minicnn.OpError, match=r"^permute: axes \(1, 1\) must name each of the 2 axes of x once \(x is \(2, 3\)\)$"
    ):
        x.permute(1, 1)


def test_refuses_too_many_axes_apart(device):
    x = minicnn.tensor(np.zeros((2,) * 7, np.float32), device=device)
    with pytest.raises(
        minicnn.OpError, match=r"^permute: at most 6 axes can be walked apart, \(2, 2, 2, 2, 2, 2, 2\) has 7$"
    ):
        x.permute(6, 5, 4, 3, 2, 1, 0)
    with pytest.raises(minicnn.OpError, match=r"^getitem: at most 6 axes can be walked apart"):
        minicnn.tensor(np.zeros((2,) * 14, np.float32), device=device)[(slice(None), 0) * 7]


MISTAKES = {
    "index_too_large": (5, r"getitem: index 5 is out of range for axis 0 of extent 2"),
    "index_too_small": ((0, -4), r"getitem: index -4 is out of range for axis 1 of extent 3"),
    "too_many": ((0, 0, 0), r"getitem: 3 places are too many for a tensor of shape \(2, 3\)"),
    "two_ellipses": ((..., ...), r"getitem: \.\.\. may stand once only"),
    "negative_step": (slice(None, None, -1), r"getitem: the step of a slice must be positive, got -1"),
    "list": ([0, 1], r"getitem: integers, slices, \.\.\. and None are understood, got list"),
    "array": (np.array([0, 1]), r"getitem: integers, slices, \.\.\. and None are understood, got ndarray"),
    "mask": (np.array([True, False]), r"getitem: integers, slices, \.\.\. and None are understood, got ndarray"),
    "bool": (True, r"getitem: integers, slices, \.\.\. and None are understood, got bool"),
    "float": (1.0, r"getitem: integers, slices, \.\.\. and None are understood, got float"),
}


@pytest.mark.parametrize("key, message", MISTAKES.values(), ids=MISTAKES.keys())
def test_indexing_refuses_what_it_does_not_know(key, message):
    with pytest.raises(minicnn.OpError, match=f"^{message}$"):
        minicnn.tensor(np.zeros((2, 3)))[key]


def test_refuses_shapes_that_are_no_integers():
    x = minicnn.tensor(np.zeros((2, 3)))
    with pytest.raises(minicnn.OpError, match=r"^reshape: integers are expected, got \(2.0, 3\)$"):
        x.reshape(2.0, 3)
    with pytest.raises(minicnn.OpError, match=r"^permute: integers are expected, got \('a', 'b'\)$"):
        x.permute("a", "b")
