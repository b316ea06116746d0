"""Arithmetic and broadcasting: reference, gradient, kernels, numbers, errors."""

import operator

import numpy as np
import pytest
from checks import check_accumulates, check_deterministic, check_exact, check_kernels, leaf, run
from tolerances import assert_close

import minicnn

OPERATIONS = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}
SHAPES = {
    "empty": ((0, 4), (0, 4)),
    "empty_against_a_row": ((0, 4), (4,)),
    "no_axes": ((), ()),
    "one_element_each": ((1,), (1, 1)),
    "equal_with_a_tail": ((3, 5), (3, 5)),
    "equal_past_one_block": ((1037,), (1037,)),
    "a_bias": ((2, 3, 5, 4), (4,)),
    "a_bias_of_odd_channels": ((2, 3, 5, 3), (3,)),
    "a_row_first": ((4,), (3, 2, 4)),
    "a_column": ((6, 1), (6, 9)),
    "an_image_s_mean": ((2, 1, 1, 3), (2, 4, 5, 3)),
    "outer_product": ((5, 1), (1, 7)),
    "a_tensor_without_axes": ((), (3, 4)),
    "extents_of_one_stay": ((1, 3, 1), (2, 1, 1)),
    "six_axes_that_cannot_be_merged": ((2, 1, 3, 1, 2, 1), (1, 2, 1, 3, 1, 4)),
    "seven_axes_that_can": ((1, 2, 1, 1, 2, 1, 3), (1, 2, 1, 1, 2, 1, 3)),
    "a_sum_of_two_passes": ((1,), (4100,)),
    "columns_of_two_passes": ((132,), (130, 132)),
}


@pytest.fixture(params=OPERATIONS.values(), ids=OPERATIONS.keys())
def operation(request):
    return request.param


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def operands(request, rng):
    a, b = (rng.standard_normal(shape) for shape in request.param)
    return [a, b + np.copysign(0.5, b)]  # a divisor stays away from 0


def naive(operation, a, b, dy):
    """(y, [da, db]) by one loop over the elements of y, which is dy's shape."""

    def place(array, index):
        index = index[len(index) - array.ndim :]
        return tuple(0 if extent == 1 else i for i, extent in zip(index, array.shape, strict=True))

    slopes = {
        operator.add: lambda a, b: (1, 1),
        operator.sub: lambda a, b: (1, -1),
        operator.mul: lambda a, b: (b, a),
        operator.truediv: lambda a, b: (1 / b, -a / b**2),
    }[operation]
    y, da, db = np.zeros(dy.shape), np.zeros(a.shape), np.zeros(b.shape)
    for index in np.ndindex(dy.shape):
        at_a, at_b = place(a, index), place(b, index)
        y[index] = operation(a[at_a], b[at_b])
        slope_a, slope_b = slopes(a[at_a], b[at_b])
        da[at_a] += dy[index] * slope_a
        db[at_b] += dy[index] * slope_b
    return y, [da, db]


def test_reference_matches_a_loop(operation, operands, rng):
    dy = rng.standard_normal(np.broadcast_shapes(*(x.shape for x in operands)))
    y, grads = run(operation, operands, "numpy", dy)
    expected, expected_grads = naive(operation, *operands, dy)
    assert_close(y, expected)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert_close(grad, expected_grad)


def test_reference_matches_torch(operation, operands, torch):
    y, grads = run(operation, operands, "numpy")
    second = [torch.tensor(x, requires_grad=True) for x in operands]
    result = operation(*second)
    result.sum().backward()
    assert_close(y, result.detach().numpy())
    for grad, x in zip(grads, second, strict=True):
        assert_close(grad, x.grad.numpy())


def test_gradient_of_the_reference(operation, operands):
    minicnn.gradcheck(operation, [leaf(x, "numpy") for x in operands])


def test_kernels_match_the_reference(operation, operands, kernel_device, rng):
    check_kernels(operation, operands, kernel_device, rng)


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_kernels_are_exact_on_integers(name, shapes, kernel_device, rng):
    a, b = (rng.integers(-8, 9, shape) for shape in shapes)
    dy = rng.integers(-8, 9, np.broadcast_shapes(*shapes))
    check_exact(OPERATIONS[name], [a, b], kernel_device, dy)


def test_division_by_powers_of_two_is_exact(kernel_device, rng):
    a, b = rng.integers(-8, 9, (9, 6)), 2.0 ** rng.integers(-3, 4, (9, 1))
    check_exact(operator.truediv, [a, b], kernel_device, rng.integers(-8, 9, (9, 6)))


def test_gradient_of_the_kernels(operation, kernel_device, rng):
    a, b = rng.standard_normal((3, 4, 5)), rng.standard_normal((4, 1))
    inputs = [leaf(x.astype(np.float32), kernel_device) for x in (a, b + np.copysign(2, b))]
    bilinear = operation is not operator.truediv
    minicnn.gradcheck(operation, inputs, eps=1 if bilinear else 0.02, rtol=1e-5 if bilinear else 1e-3)


def test_gradients_accumulate(operation, device, rng):
    check_accumulates(operation, [rng.standard_normal((5, 3)) + 4, rng.standard_normal(3) + 4], device)


def test_thread_order_does_not_matter(operation, kernel_device, rng):
    check_deterministic(
        operation, [rng.standard_normal((3, 50, 3)), rng.standard_normal((50, 1)) + 4], kernel_device, rng
    )


@pytest.mark.parametrize("shape", [(7,), (2, 130, 4)], ids=str)
def test_one_tensor_as_both_operands(operation, shape, device, rng):
    x = rng.standard_normal(shape) + 4
    dy = rng.standard_normal(shape)
    y, (dx,) = run(lambda x: operation(x, x), [x.astype(np.float32)], device, dy)
    expected, (da, db) = naive(operation, x, x, dy)
    assert_close(y, expected, atol=1e-5)
    assert_close(dx, da + db, atol=1e-5)


NUMBERS = {
    "x+2.5": lambda x: x + 2.5,
    "2.5+x": lambda x: 2.5 + x,
    "x-2.5": lambda x: x - 2.5,
    "2.5-x": lambda x: 2.5 - x,
    "x*3": lambda x: x * 3,
    "3*x": lambda x: 3 * x,
    "x/3": lambda x: x / 3,
    "3/x": lambda x: 3 / x,
    "-x": lambda x: -x,
}


@pytest.mark.parametrize("function", NUMBERS.values(), ids=NUMBERS.keys())
def test_numbers_take_the_tensor_s_dtype(function, device, rng):
    x = (rng.standard_normal((3, 7)) + 4).astype(np.float32)
    y, _ = run(function, [x], device)
    assert y.dtype == np.float32
    one_by_one = [[function(element) for element in row] for row in x]  # NumPy: float32 with a weak Python number
    np.testing.assert_array_equal(y, np.array(one_by_one, np.float32))


@pytest.mark.parametrize(
    "number", [np.float64(0.1), np.float32(0.1), np.int64(7), True], ids=lambda n: type(n).__name__
)
def test_numpy_s_numbers_are_numbers(number, device):
    x = leaf(np.array([1, 2, 3], np.float32), device)
    for y in (x * number, number * x):
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y.numpy(), np.array([1, 2, 3], np.float32) * np.float32(number))


@pytest.mark.parametrize("function", NUMBERS.values(), ids=NUMBERS.keys())
def test_gradient_with_numbers(function, rng):
    minicnn.gradcheck(function, [leaf(rng.standard_normal((3, 7)) + 4, "numpy")])


@pytest.mark.parametrize("function", NUMBERS.values(), ids=NUMBERS.keys())
def test_kernels_with_numbers_match_the_reference(function, kernel_device, rng):
    check_kernels(function, [rng.standard_normal((3, 7)) + 4], kernel_device, rng)


def test_minus_keeps_the_sign_of_zero(device):
    y, _ = run(lambda x: -x, [np.array([0.0, -0.0, 1.0], np.float32)], device)
    assert np.signbit(y).tolist() == [True, False, True]


def test_division_by_zero_is_ieee(device):
    y, _ = run(operator.truediv, [np.array([1, -1, 0], np.float32), np.zeros(3, np.float32)], device)
    np.testing.assert_array_equal(y, np.array([np.inf, -np.inf, np.nan], np.float32))


def test_a_constant_operand_gets_no_gradient(operation, device):
    a, b = leaf(np.ones((2, 3), np.float32), device), leaf(np.ones(3, np.float32), device, requires_grad=False)
    operation(a, b).backward(np.ones((2, 3)))
    assert a.grad is not None
    assert b.grad is None


def test_the_gradient_of_a_sum_keeps_no_operand(device):
    y = leaf(np.ones(3, np.float32), device) + leaf(np.ones(3, np.float32), device)
    assert y.op.operands == (None, None)


def test_refuses_shapes_that_do_not_broadcast(operation):
    name = next(name for name, function in OPERATIONS.items() if function is operation)
    with pytest.raises(
        minicnn.OpError,
        match=rf"^{name}: shapes \(2, 3\) and \(2, 4\) do not broadcast: 3 against 4 at axis -1; "
        r"each pair of extents, from the last, must agree or hold a 1$",
    ):
        operation(minicnn.tensor(np.zeros((2, 3))), minicnn.tensor(np.zeros((2, 4))))


def test_refuses_too_many_axes_apart(device):
    a, b = np.zeros((2, 1) * 4, np.float32), np.zeros((1, 2) * 4, np.float32)
    with pytest.raises(
        minicnn.OpError,
        match=r"^add: at most 6 axes can be walked apart, \(2, 2, 2, 2, 2, 2, 2, 2\) has 8$",
    ):
        minicnn.tensor(a, device=device) + minicnn.tensor(b, device=device)


@pytest.mark.parametrize("stranger", [np.ones(2), [1.0, 2.0], "2"], ids=["array", "list", "text"])
def test_refuses_what_is_neither_tensor_nor_number(stranger):
    message = rf"^mul: inputs must be tensors, got {type(stranger).__name__}; use minicnn.tensor\(...\)$"
    with pytest.raises(minicnn.OpError, match=message):
        minicnn.tensor([1.0, 2.0]) * stranger
    with pytest.raises(minicnn.OpError, match=message):
        stranger * minicnn.tensor([1.0, 2.0])


def test_refuses_mixed_dtypes():
    with pytest.raises(
        minicnn.OpError, match=r"^add: inputs must share one floating-point dtype, got float32, float64$"
    ):
        minicnn.tensor([1.0]) + minicnn.tensor(np.array([1.0]))


def test_refuses_mixed_devices():
    with pytest.raises(
        minicnn.OpError, match=r"^add: inputs are on different devices \(cpu, numpy\); move them with .to\(device\)$"
    ):
        minicnn.tensor([1.0]) + minicnn.tensor([1.0], device="numpy")
