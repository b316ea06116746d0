"""Max pooling: reference, ties and NaN, gradient, kernels, errors."""

import dataclasses
import re

import numpy as np
import pytest
from checks import (
    SCHEDULES,
    check_accumulates,
    check_deterministic,
    check_exact,
    check_kernels,
    leaf,
    run,
    thread_order,
)
from number_formats import BFLOAT16, FLOAT16
from pooling import CASES, Case
from tolerances import assert_close

import minicnn
from minicnn import nn
from minicnn.functional import max_pool2d
from minicnn.ops import windows
from minicnn.shapes import Activation, PoolShape
from minicnn.tensor import Accumulate

# More than 255 places: the index takes two bytes.
WIDE_CASES = {
    "wide_index": Case((1, 19, 20, 4), 17, 2),
    "wide_index_padded": Case((2, 9, 20, 3), (16, 17), 3, 5),
}
ALL_CASES = CASES | WIDE_CASES


def cases(condition=lambda case: True):
    chosen = {name: case for name, case in ALL_CASES.items() if condition(case)}
    return pytest.mark.parametrize("case", chosen.values(), ids=chosen.keys())


def separated(shape, rng):
    """Distinct values, at least 1 apart: no step of a numerical gradient changes who wins."""
    return rng.permutation(np.prod(shape)).reshape(shape).astype(np.float64)


def pool(case):
    return lambda x: max_pool2d(x, *case.arguments)


def naive(x, dy, case):
    """(y, dx) by plain loops; dy fits y."""
    y, dx = np.full(dy.shape, -np.inf), np.zeros(x.shape)
    for p, q, places in case.windows():
        for n, c in np.ndindex(x.shape[0], x.shape[3]):
            winner = None
            for _, _, h, w in places:
                if not case.is_inside(h, w):
                    continue
                value = x[n, h, w, c]
                if winner is None or value > y[n, p, q, c] or np.isnan(value):
                    y[n, p, q, c], winner = value, (n, h, w, c)
            if winner is not None:
                dx[winner] += dy[n, p, q, c]
    return y, dx


@cases()
def test_reference_is_the_formula(case, rng):
    x = rng.standard_normal(case.x)
    dy = rng.standard_normal(pool(case)(leaf(x, "numpy")).shape)
    y, (dx,) = run(pool(case), [x], "numpy", dy)
    expected_y, expected_dx = naive(x, dy, case)
    np.testing.assert_array_equal(y, expected_y)
    assert_close(dx, expected_dx, what="dx")


def torch_pool(torch, x, dy, case):
    leaf = torch.tensor(x.transpose(0, 3, 1, 2)).requires_grad_()
    y = torch.nn.functional.max_pool2d(leaf, *case.arguments[:3], ceil_mode=case.ceil_mode)
    y.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    return y.detach().numpy().transpose(0, 2, 3, 1), leaf.grad.numpy().transpose(0, 2, 3, 1)


def special_values(name, shape, rng):
    """Values of which windows hold many equals."""
    if name == "ties":
        return rng.integers(-1, 2, shape).astype(np.float32)
    choices = {"nan": [np.nan, 0.0, 1.0], "infinities": [-np.inf, -np.inf, np.inf], "minus_infinity": [-np.inf]}
    return rng.choice(np.float32([*choices[name], -0.0, 0.0] if name == "nan" else choices[name]), shape)


SPECIAL = pytest.mark.parametrize("values", ["ties", "nan", "infinities", "minus_infinity"])


@SPECIAL
@cases(lambda case: case.known_to_torch)
def test_equal_and_special_values_as_in_torch(case, values, device, torch, rng):
    x = special_values(values, case.x, rng)
    dy = rng.integers(-9, 10, pool(case)(leaf(x, device)).shape).astype(np.float32)
    y, (dx,) = run(pool(case), [x], device, dy)
    expected_y, expected_dx = torch_pool(torch, x, dy, case)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(dx, expected_dx)


@SPECIAL
@cases(lambda case: not case.known_to_torch)
def test_equal_and_special_values_are_the_formula(case, values, device, rng):
    x = special_values(values, case.x, rng)
    dy = rng.integers(-9, 10, pool(case)(leaf(x, device)).shape).astype(np.float32)
    y, (dx,) = run(pool(case), [x], device, dy)
    expected_y, expected_dx = naive(x, dy, case)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(dx, expected_dx)


def test_a_gradient_that_is_infinite_stays_with_the_winner(device):
    y, (dx,) = run(
        lambda x: max_pool2d(x, 2), [np.float32([[[[1], [2]], [[3], [0]]]])], device, np.float32([[[[np.inf]]]])
    )
    assert y.item() == 3
    assert dx.ravel().tolist() == [0, 0, np.inf, 0]


@pytest.mark.parametrize("size", [1, 50, 200])
@cases(lambda case: case not in WIDE_CASES.values())
def test_chunks_of_the_reference_do_not_show(case, size, monkeypatch, rng):
    x = rng.integers(-3, 4, case.x).astype(np.float64)
    dy = rng.integers(-9, 10, pool(case)(leaf(x, "numpy")).shape)
    monkeypatch.setattr(windows, "CHUNK", size)
    y, (dx,) = run(pool(case), [x], "numpy", dy)
    expected_y, expected_dx = naive(x, dy, case)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(dx, expected_dx)


@cases(lambda case: 0 not in case.x and case.leaves_no_window_empty)
def test_gradient_of_the_reference(case, rng):
    minicnn.gradcheck(pool(case), [leaf(separated(case.x, rng), "numpy")])


@cases()
def test_kernels_match_the_reference(case, kernel_device, rng):
    check_kernels(pool(case), [rng.standard_normal(case.x)], kernel_device, rng)


@cases()
def test_kernels_are_exact_on_integers(case, kernel_device, rng):
    x = rng.integers(-4, 5, case.x)
    dy = rng.integers(-9, 10, pool(case)(leaf(x.astype(np.float64), "numpy")).shape)
    check_exact(pool(case), [x], kernel_device, dy)


def test_arrays_off_a_16_byte_boundary(unaligned_device, rng):
    check_kernels(lambda x: max_pool2d(x, 3, 2), [rng.standard_normal((2, 7, 8, 8))], unaligned_device, rng)


def test_gradient_of_the_kernels(kernel_device, rng):
    x = leaf(separated((2, 7, 8, 5), rng).astype(np.float32), kernel_device)
    minicnn.gradcheck(lambda x: max_pool2d(x, 3, 2, 1), [x], eps=0.0625, rtol=1e-4, elementwise=False)


@pytest.mark.parametrize("kernel_size", [3, 17])
def test_gradients_accumulate(kernel_size, device, rng):
    check_accumulates(lambda x: max_pool2d(x, kernel_size, 2, 1), [rng.standard_normal((2, 17, 18, 4))], device)


@pytest.mark.parametrize("channels", [4, 3])
def test_the_same_bits_in_every_order(channels, kernel_device, rng):
    check_deterministic(lambda x: max_pool2d(x, 3, 2), [rng.standard_normal((2, 11, 13, channels))], kernel_device, rng)


def with_channels(case, count):
    return dataclasses.replace(case, x=(*case.x[:3], count))


# Most cases have four channels: of 16 bits, whole runs are of eight.
EIGHTS = {f"{name}_in_eights": with_channels(case, 8) for name, case in ALL_CASES.items() if case.x[3] == 4}
HALVES_CASES = ALL_CASES | EIGHTS | {"several_runs": with_channels(CASES["padded"], 24)}
HALVES_CASES = {name: case for name, case in HALVES_CASES.items() if not name.startswith("wide_index")}
each_format = pytest.mark.parametrize("format", (BFLOAT16, FLOAT16), ids=lambda format: format.name)


def pooled(device, suffix, x, dy, case, of_x, before=None):
    """(y, index, dx) by the kernels whose names end in `suffix`, of host arrays; `before` stood in dx."""
    shape = PoolShape.of("max_pool2d", x.shape, *case.arguments)
    is_wide = shape.r * shape.s > 255
    y, index = device.empty(shape.out, x.dtype), device.empty(shape.out, np.uint16 if is_wide else np.uint8)
    indices = (index,) if suffix else (None, index) if is_wide else (index, None)
    getattr(device.kernels, f"maxpool2d_forward{suffix}")(device.array(x), of_x, y, *indices, shape)
    dx = device.empty(x.shape, x.dtype) if before is None else device.array(before)
    accumulate = Accumulate.overwrite if before is None else Accumulate.add
    getattr(device.kernels, f"maxpool2d_backward{suffix}")(device.array(dy), *indices, dx, accumulate, shape)
    return [device.to_numpy(array) for array in (y, index, dx)]


def check_halves(device, format, x, dy, case, of_x, before=None):
    """Of 16 bits the maxima and places of float32, and its sums, rounded once."""
    halves = [None if array is None else format.encode(array) for array in (x, dy, before)]
    wide = [None if array is None else format.decode(array) for array in halves]
    got = pooled(device, format.suffix, *halves[:2], case, of_x, halves[2])
    y, index, dx = pooled(device, "", *wide[:2], case, of_x, wide[2])
    np.testing.assert_array_equal(got[1], index)
    for what, of_16_bits, expected in (("y", got[0], y), ("dx", got[2], dx)):
        is_number = ~np.isnan(expected)
        bits = of_16_bits.view(np.uint16)[is_number]
        np.testing.assert_array_equal(bits, format.encode(expected).view(np.uint16)[is_number], err_msg=what)
        assert np.isnan(format.decode(of_16_bits)[~is_number]).all()


@each_format
@pytest.mark.parametrize("case", HALVES_CASES.values(), ids=HALVES_CASES.keys())
def test_kernels_of_16_bits_are_those_of_float32(case, format, ladder_device, rng):
    dy = rng.standard_normal(PoolShape.of("", case.x, *case.arguments).out)
    for values in ("ties", "nan", "infinities", "minus_infinity", None):
        x = special_values(values, case.x, rng) if values else rng.standard_normal(case.x)
        for of_x in Activation:
            check_halves(ladder_device, format, x, dy, case, of_x)


@each_format
@pytest.mark.parametrize("channels", [8, 5])
def test_gradients_of_16_bits_are_added_before_they_are_rounded(channels, format, ladder_device, rng):
    case = with_channels(CASES["overlapping_as_in_alexnet"], channels)
    dy, before = rng.standard_normal(PoolShape.of("", case.x, *case.arguments).out), rng.standard_normal(case.x)
    check_halves(ladder_device, format, rng.standard_normal(case.x), dy, case, Activation.none, before)


@each_format
@pytest.mark.parametrize("kernel_device", ["emulated"], indirect=True)
def test_16_bits_off_a_16_byte_boundary(unaligned_device, format, rng):
    case = with_channels(CASES["overlapping_as_in_alexnet"], 16)
    dy = rng.standard_normal(PoolShape.of("", case.x, *case.arguments).out)
    check_halves(unaligned_device, format, rng.standard_normal(case.x), dy, case, Activation.relu)


@each_format
@pytest.mark.parametrize("channels", [16, 3])
def test_16_bits_in_every_order_of_threads(channels, format, ladder_device, rng):
    case = with_channels(CASES["overlapping_as_in_alexnet"], channels)
    x, dy = rng.standard_normal(case.x), rng.standard_normal(PoolShape.of("", case.x, *case.arguments).out)
    results = []
    for schedule in SCHEDULES:
        with thread_order(ladder_device, *schedule):
            arrays = format.encode(x), format.encode(dy)
            results.append(pooled(ladder_device, format.suffix, *arrays, case, Activation.none))
    for again in results[1:]:
        for got, expected in zip(again, results[0], strict=True):
            np.testing.assert_array_equal(got, expected)


def test_the_index_takes_two_bytes_only_where_it_must():
    for kernel_size, itemsize in (((15, 17), 1), (16, 2)):
        y = max_pool2d(leaf(np.zeros((1, 17, 17, 1)), "numpy"), kernel_size)
        assert y.op.index.itemsize == itemsize


def test_layer():
    layer = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)
    x = minicnn.tensor(np.arange(36.0).reshape(1, 6, 6, 1))
    np.testing.assert_array_equal(layer(x).numpy(), max_pool2d(x, 3, 2, 1, True).numpy())
    assert repr(layer) == "MaxPool2d(3, stride=2, padding=1, ceil_mode=True)"
    assert repr(nn.MaxPool2d(2)) == "MaxPool2d(2, stride=2, padding=0, ceil_mode=False)"


X = (1, 6, 5, 2)


@pytest.mark.parametrize(
    "shape, arguments, message",
    [
        ((6, 5, 2), (2,), "max_pool2d: x must be (N, H, W, C), got (6, 5, 2)"),
        (X, (0,), "max_pool2d: kernel_size must be an integer of at least 1 or a pair of them, got 0"),
        (X, ((2, 2, 2),), "max_pool2d: kernel_size must be an integer of at least 1 or a pair of them, got (2, 2, 2)"),
        (X, (2, 0), "max_pool2d: stride must be an integer of at least 1 or a pair of them, got 0"),
        (X, (2, 1, -1), "max_pool2d: padding must be an integer of at least 0 or a pair of them, got -1"),
        (
            X,
            (6,),
            "max_pool2d: a window of 6 does not fit into width 5 + 2*0 padding; "
            "use a larger image, a smaller kernel_size or more padding",
        ),
        (
            (1, 300, 300, 1),
            (300,),
            "max_pool2d: windows of (300, 300) have 90000 places, at most 65535 are possible",
        ),
    ],
)
def test_errors(shape, arguments, message):
    with pytest.raises(minicnn.OpError, match=f"^{re.escape(message)}$"):
        max_pool2d(minicnn.tensor(np.zeros(shape, np.float32)), *arguments)
