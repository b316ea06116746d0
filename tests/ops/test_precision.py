"""Reduced precision: what it rounds, on which side of a product, and that each device computes the same."""

from fractions import Fraction

import numpy as np
import pytest
from checks import check_accumulates, check_exact, run
from number_formats import BFLOAT16, FLOAT16
from tolerances import assert_close

import minicnn
from minicnn.functional import conv2d, linear
from minicnn.ops import DropoutMask
from minicnn.ops import precision as op_file
from minicnn.tensor import Accumulate

REDUCED = ("tf32", "bfloat16", "float16")
SIGNIFICANT_BITS = {"tf32": 11, "bfloat16": 8, "float16": 11}
each_precision = pytest.mark.parametrize("name", REDUCED)


def rounded(name, x):
    y = np.empty_like(x, np.float32)
    op_file.ROUNDING[name](np.asarray(x, np.float32), y)
    return y


def nearest(name, x: float) -> float:
    """The nearest number of the format, by exact fractions: of two as near the one with the even last digit."""
    _, exponent = np.frexp(x)
    least = -24 if name == "float16" else -149 + 24 - SIGNIFICANT_BITS[name]
    step = Fraction(2) ** max(int(exponent) - SIGNIFICANT_BITS[name], least)
    value = round(Fraction(x) / step) * step
    largest = {"float16": Fraction(65504)}.get(name, Fraction(2) ** 128 - Fraction(2) ** (128 - SIGNIFICANT_BITS[name]))
    return float(value) if abs(value) <= largest else np.copysign(np.inf, x)


@each_precision
def test_rounding_is_to_the_nearest_and_of_two_to_the_even(name, rng):
    x = rng.integers(0, 2**32, 4000, np.uint32).view(np.float32)
    x = np.concatenate([x[np.isfinite(x)], rng.standard_normal(1000).astype(np.float32) * 300])
    halfway = rounded("bfloat16", x[:500]).view(np.uint32) | 0x8000
    x = np.concatenate([x, halfway.view(np.float32), np.float32([65519, 65520, 2**-25, 3 * 2**-25, 0, 3.4e38])])
    x = x[np.isfinite(x)]
    np.testing.assert_array_equal(rounded(name, x), np.float32([nearest(name, float(v)) for v in x]))


@each_precision
def test_rounding_keeps_what_is_special(name):
    x = np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0])
    got = rounded(name, x)
    np.testing.assert_array_equal(got, x)
    np.testing.assert_array_equal(np.signbit(got[1:]), np.signbit(x[1:]))
    payload = np.uint32([0x7F800001, 0xFFFFFFFF]).view(np.float32)  # which must not become infinite, nor 0
    assert np.isnan(rounded(name, payload)).all()


@pytest.mark.parametrize("name", ("bfloat16", "float16"))
def test_rounding_is_pytorchs(name, rng, torch):
    x = np.concatenate([rng.standard_normal(3000) * 10.0**e for e in (-8, -3, 0, 4)]).astype(np.float32)
    expected = torch.from_numpy(x).to(getattr(torch, name)).float().numpy()
    np.testing.assert_array_equal(rounded(name, x), expected)


CASES = {
    "conv2d": (lambda *t, **k: conv2d(*t, stride=2, padding=1, **k), (2, 9, 8, 8), (16, 3, 3, 8)),
    "groups": (lambda *t, **k: conv2d(*t, padding=1, groups=2, **k), (2, 5, 6, 6), (10, 3, 3, 3)),
    "linear": (linear, (6, 40), (12, 40)),
}
each_product = pytest.mark.parametrize("function, x, weight", CASES.values(), ids=CASES.keys())


def drawn(rng, x, weight):
    return [rng.standard_normal(shape).astype(np.float32) for shape in (x, weight, weight[:1])]


def within(name, function, **keywords):
    """The function in a precision; its backward pass is called outside."""

    def in_precision(*tensors):
        with minicnn.precision(name):
            return function(*tensors, **keywords)

    return in_precision


@each_precision
@each_product
def test_the_reference_rounds_operands_and_results(function, x, weight, name, rng):
    x, weight, bias = drawn(rng, x, weight)
    dy = rng.standard_normal(run(function, (x, weight, bias), "numpy")[0].shape).astype(np.float32)
    y, (dx, dweight, _) = run(within(name, function), (x, weight, bias), "numpy", dy)
    result = (lambda array: array) if name == "tf32" else (lambda array: rounded(name, array))
    operands = rounded(name, x), rounded(name, weight), bias
    expected_y, (expected_dx, expected_dweight, _) = run(function, operands, "numpy", rounded(name, dy))
    np.testing.assert_array_equal(y, result(expected_y))
    np.testing.assert_array_equal(dx, result(expected_dx))
    np.testing.assert_array_equal(dweight, expected_dweight)
    assert not np.array_equal(y, run(function, (x, weight, bias), "numpy", dy)[0])


@pytest.mark.parametrize("name", op_file.NAMES)
@each_product
def test_a_bias_learns_beside_a_frozen_weight(function, x, weight, name, device, rng):
    """What it would beside one that learns, but for the order of sums."""
    inputs, gradients = drawn(rng, x, weight), []
    for learns in (True, False):
        flags = (False, learns, True)
        tensors = [minicnn.tensor(a, device=device, requires_grad=f) for a, f in zip(inputs, flags, strict=True)]
        y = within(name, function)(*tensors)
        y.backward(np.ones(y.shape, np.float32))
        assert (tensors[1].grad is not None) == learns
        gradients.append(tensors[2].grad.numpy())
    assert_close(*gradients, what="gradient of the bias")


@each_precision
@each_product
@pytest.mark.parametrize("activation", [None, "relu"])
def test_every_device_computes_what_the_reference_does(function, x, weight, activation, name, kernel_device, rng):
    """Sums may fall on the other side of a halfway point: a result may stand one number of the format away. And the
    tensor cores round what they multiply alone, so that dbias of TF32 sums the dy that came."""
    inputs = drawn(rng, x, weight)
    in_precision = within(name, function, activation=activation)
    dy = rng.standard_normal(run(in_precision, inputs, "numpy")[0].shape).astype(np.float32)
    expected, expected_grads = run(in_precision, inputs, "numpy", dy)
    got, grads = run(in_precision, inputs, kernel_device, dy)
    step = 0.0 if name == "tf32" else 2.0 ** (1 - SIGNIFICANT_BITS[name])
    assert_close(got, expected, what="y", rtol=step + 2e-5, atol=1e-5)
    for what, grad, expected_grad in zip(("dx", "dweight", "dbias"), grads, expected_grads, strict=True):
        of_result = step if what == "dx" else 0.0
        of_dy = 2.0**-12 * np.abs(dy).sum() if (what, name) == ("dbias", "tf32") else 0.0
        assert_close(grad, expected_grad, what=what, rtol=of_result + 2e-5, atol=of_dy + 1e-4)


@each_precision
@each_product
def test_integers_are_exact(function, x, weight, name, kernel_device, rng):
    inputs = [rng.integers(-2, 3, shape) for shape in (x, weight, weight[:1])]
    shape = run(function, [np.asarray(array, np.float32) for array in inputs], "numpy")[0].shape
    check_exact(within(name, function), inputs, kernel_device, rng.integers(-2, 3, shape))


@each_precision
@each_product
def test_gradients_accumulate(function, x, weight, name, device, rng):
    check_accumulates(within(name, function), drawn(rng, x, weight), device)


@each_precision
def test_a_gradient_that_meets_another_is_rounded_alone(name, device, rng):
    """dx of two products of one x: each is rounded, their sum is not."""
    x, weight, _ = drawn(rng, *CASES["linear"][1:])

    def twice(x, w):
        with minicnn.precision(name):
            return linear(x, w) + linear(x, w * 2.0)

    _, (dx, _) = run(twice, (x, weight), device)
    _, (once, _) = run(within(name, linear), (x, weight), device)
    np.testing.assert_array_equal(dx, 3 * once)


@each_precision
def test_the_gradient_of_a_relu_before_is_masked(name, kernel_device, rng):
    """dx of the second product is 0 where the first one's y was cut, on its way to memory."""
    x, first, _ = drawn(rng, *CASES["conv2d"][1:])
    second = rng.standard_normal((5, 3, 3, 16)).astype(np.float32)

    def both(x, first, second):
        with minicnn.precision(name):
            return conv2d(conv2d(x, first, activation="relu"), second)

    _, expected = run(both, (x, first, second), "numpy")
    _, grads = run(both, (x, first, second), kernel_device)
    for grad, expected_grad in zip(grads, expected, strict=True):
        assert_close(grad, expected_grad, what="gradient", rtol=2.0**-7, atol=0.05)


@each_precision
def test_dropout_within_multiplies_what_was_rounded(name, kernel_device, rng):
    x, weight, bias = drawn(rng, *CASES["linear"][1:])

    def fused(*tensors):
        minicnn.manual_seed(3)
        return linear(*tensors, activation="relu", dropout=DropoutMask(0.5))

    y, grads = run(within(name, fused), (x, weight, bias), kernel_device)
    expected, expected_grads = run(within(name, fused), (x, weight, bias), "numpy")
    assert_close(y, expected, what="y", rtol=2.0**-7, atol=1e-5)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert_close(grad, expected_grad, what="gradient", rtol=2.0**-7, atol=1e-4)


@pytest.mark.parametrize("format", (BFLOAT16, FLOAT16), ids=lambda format: format.name)
@pytest.mark.parametrize("count", (1, 3, 4, 1023, 1030))
def test_narrow_and_widen(ladder_device, format, count, rng):
    """Narrow to the nearest; widen exactly, masked, overwriting and adding; nothing past the end."""
    kernels = ladder_device.kernels
    narrow, widen = (getattr(kernels, f"{verb}_{format.name}") for verb in ("narrow", "widen"))
    x = (rng.standard_normal(count) * 100).astype(np.float32)
    x[-1] = np.nan if count == 3 else 1e6
    halves = ladder_device.empty((count,), np.float16 if format.name == "float16" else np.uint16)
    narrow(ladder_device.array(x), halves, count)
    expected = rounded(format.name, x)
    np.testing.assert_array_equal(format.decode(ladder_device.to_numpy(halves)), expected)
    mask = rng.standard_normal(count).astype(np.float32)
    before = rng.standard_normal(count).astype(np.float32)
    for given in (None, mask):
        value = expected if given is None else np.where(given <= 0, np.float32(0), expected)
        for accumulate in Accumulate:
            y = ladder_device.array(before)
            widen(halves, None if given is None else ladder_device.array(given), y, accumulate, count)
            wanted = value + before if accumulate is Accumulate.add else value
            np.testing.assert_array_equal(ladder_device.to_numpy(y), wanted)


def test_a_float64_computation_stays_what_it_is(rng):
    x, weight, bias = (array.astype(np.float64) for array in drawn(rng, *CASES["linear"][1:]))
    y, _ = run(within("bfloat16", linear), (x, weight, bias), "numpy")
    np.testing.assert_array_equal(y, run(linear, (x, weight, bias), "numpy")[0])


def test_blocks_nest_and_end():
    assert op_file.active() == "float32"
    with minicnn.precision("bfloat16"):
        with minicnn.precision("float32"):
            assert op_file.active() == "float32"
        assert op_file.active() == "bfloat16"
        with pytest.raises(RuntimeError), minicnn.precision("tf32"):
            raise RuntimeError
        assert op_file.active() == "bfloat16"
    assert op_file.active() == "float32"


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"^precision must be one of float32, tf32, bfloat16, float16, got 'half'$"):
        minicnn.precision("half")
