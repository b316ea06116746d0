"""Average pooling: reference, gradient, kernels, errors."""

import re

import numpy as np
import pytest
from checks import check_accumulates, check_deterministic, check_exact, check_kernels, leaf, run
from pooling import CASES
from tolerances import assert_close

import minicnn
from minicnn import nn
from minicnn.functional import avg_pool2d
from minicnn.ops import windows
from minicnn.shapes import PoolShape
from minicnn.tensor import Accumulate


def cases(condition=lambda case: True):
    chosen = {name: case for name, case in CASES.items() if condition(case)}
    return pytest.mark.parametrize("case", chosen.values(), ids=chosen.keys())


INCLUDE = pytest.mark.parametrize("count_include_pad", [True, False], ids=["padding_counts", "image_counts"])


def pool(case, count_include_pad=True):
    return lambda x: avg_pool2d(x, *case.arguments, count_include_pad)


def count_of(case, places, count_include_pad):
    """Elements that the mean of a window is over, by looking at each place."""
    (extent_h, _, _, padding_h), (extent_w, _, _, padding_w) = case.axes
    if not count_include_pad:
        return sum(case.is_inside(h, w) for *_, h, w in places)
    return sum(h < extent_h + padding_h and w < extent_w + padding_w for *_, h, w in places)


def naive(x, dy, case, count_include_pad):
    """(y, dx) by plain loops; dy fits y."""
    y, dx = np.zeros(dy.shape), np.zeros(x.shape)
    for p, q, places in case.windows():
        count = count_of(case, places, count_include_pad)
        for *_, h, w in places:
            if case.is_inside(h, w):
                y[:, p, q] += x[:, h, w] / count
                dx[:, h, w] += dy[:, p, q] / count
    return y, dx


def dy_for(case, rng):
    return rng.standard_normal(pool(case)(leaf(np.zeros(case.x), "numpy")).shape)


@INCLUDE
@cases()
def test_reference_is_the_formula(case, count_include_pad, rng):
    x, dy = rng.standard_normal(case.x), dy_for(case, rng)
    y, (dx,) = run(pool(case, count_include_pad), [x], "numpy", dy)
    expected_y, expected_dx = naive(x, dy, case, count_include_pad)
    assert_close(y, expected_y, what="y")
    assert_close(dx, expected_dx, what="dx")


@INCLUDE
@cases(lambda case: case.known_to_torch)
def test_reference_matches_torch(case, count_include_pad, torch, rng):
    x, dy = rng.standard_normal(case.x), dy_for(case, rng)
    y, (dx,) = run(pool(case, count_include_pad), [x], "numpy", dy)
    second = torch.tensor(x.transpose(0, 3, 1, 2)).requires_grad_()
    expected = torch.nn.functional.avg_pool2d(second, *case.arguments, count_include_pad=count_include_pad)
    expected.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    assert_close(y, expected.detach().numpy().transpose(0, 2, 3, 1), what="y")
    assert_close(dx, second.grad.numpy().transpose(0, 2, 3, 1), what="dx")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_special_value_stays_in_its_windows(value, device):
    x = np.zeros((1, 6, 6, 4), np.float32)
    x[0, 2, 2, 1] = value
    y, _ = run(lambda x: avg_pool2d(x, 3, 2), [x], device)
    expected = np.zeros((1, 2, 2, 4))
    expected[..., 1] = value
    np.testing.assert_array_equal(y, expected)
    x[0, 2, 2, 1], x[0, 5, 5, 1] = 0, value  # no window reaches it
    np.testing.assert_array_equal(run(lambda x: avg_pool2d(x, 3, 2), [x], device)[0], np.zeros((1, 2, 2, 4)))


@pytest.mark.parametrize("size", [1, 50, 200])
@cases()
def test_chunks_of_the_reference_do_not_show(case, size, monkeypatch, rng):
    x, dy = rng.standard_normal(case.x), dy_for(case, rng)
    monkeypatch.setattr(windows, "CHUNK", size)
    y, (dx,) = run(pool(case), [x], "numpy", dy)
    expected_y, expected_dx = naive(x, dy, case, True)
    assert_close(y, expected_y, what="y")
    assert_close(dx, expected_dx, what="dx")


@INCLUDE
@cases(lambda case: 0 not in case.x)
def test_gradient_of_the_reference(case, count_include_pad, rng):
    minicnn.gradcheck(pool(case, count_include_pad), [leaf(rng.standard_normal(case.x), "numpy")], eps=1.0)


@INCLUDE
@cases()
def test_kernels_match_the_reference(case, count_include_pad, kernel_device, rng):
    check_kernels(pool(case, count_include_pad), [rng.standard_normal(case.x)], kernel_device, rng)


@cases(lambda case: all(size in (1, 2, 4) for _, size, _, _ in case.axes) and not case.ceil_mode)
def test_kernels_are_exact_on_integers(case, kernel_device, rng):
    x = rng.integers(-50, 51, case.x)
    dy = 4 * rng.integers(-9, 10, dy_for(case, rng).shape)
    check_exact(pool(case), [x], kernel_device, dy)


@INCLUDE
@cases()
def test_the_gradient_is_the_adjoint(case, count_include_pad, device, rng):
    """<pool(x), g> = <x, pool'(g)>: to what float32 sums of that many terms leave."""
    x, g = rng.standard_normal(case.x).astype(np.float32), dy_for(case, rng)
    y, (dx,) = run(pool(case, count_include_pad), [x], device, g)
    left, right = float((y * g).sum(dtype=np.float64)), float((x.astype(np.float64) * dx).sum())
    assert abs(left - right) <= 1e-6 * (1 + np.abs(y * g).sum())


@pytest.mark.parametrize("off", ["dy", "mask", "dx"])
def test_one_array_of_the_gradient_off_a_16_byte_boundary(off, kernel_device, rng):
    shape = PoolShape.of("avg_pool2d", (2, 4, 4, 8), 2, 2, 0, False)
    values = {
        "dy": rng.standard_normal(shape.out),
        "mask": rng.integers(0, 2, (2, 4, 4, 8)),
        "dx": np.zeros((2, 4, 4, 8)),
    }
    arrays = {}
    for name, value in values.items():
        shift = int(name == off)
        room = kernel_device.array(np.zeros(value.size + shift, np.float32))
        arrays[name] = room[shift:].reshape(value.shape)
        kernel_device.write(arrays[name], value.astype(np.float32))
    dy, mask, dx = arrays.values()
    kernel_device.kernels.avgpool2d_backward(dy, mask, dx, Accumulate.overwrite, 1, shape)
    expected = (values["dy"].astype(np.float32) / 4).repeat(2, axis=1).repeat(2, axis=2) * (values["mask"] > 0)
    np.testing.assert_allclose(kernel_device.to_numpy(dx), expected, rtol=1e-6)


def test_arrays_off_a_16_byte_boundary(unaligned_device, rng):
    check_kernels(lambda x: avg_pool2d(x, 3, 2), [rng.standard_normal((2, 7, 8, 8))], unaligned_device, rng)


@INCLUDE
def test_gradient_of_the_kernels(count_include_pad, kernel_device, rng):
    x = leaf(rng.standard_normal((2, 7, 8, 5)).astype(np.float32), kernel_device)
    minicnn.gradcheck(
        lambda x: avg_pool2d(x, 3, 2, 1, True, count_include_pad), [x], eps=1.0, rtol=1e-5, elementwise=False
    )


def test_gradients_accumulate(device, rng):
    check_accumulates(lambda x: avg_pool2d(x, 3, 2, 1), [rng.standard_normal((2, 9, 8, 4))], device)


@pytest.mark.parametrize("channels", [4, 3])
def test_the_same_bits_in_every_order(channels, kernel_device, rng):
    check_deterministic(lambda x: avg_pool2d(x, 3, 2), [rng.standard_normal((2, 11, 13, channels))], kernel_device, rng)


def test_layer():
    layer = nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False)
    x = minicnn.tensor(np.arange(36.0).reshape(1, 6, 6, 1))
    np.testing.assert_array_equal(layer(x).numpy(), avg_pool2d(x, 3, 2, 1, True, False).numpy())
    assert repr(layer) == "AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)"
    assert repr(nn.AvgPool2d(2)) == "AvgPool2d(2, stride=2, padding=0, ceil_mode=False, count_include_pad=True)"


X = (1, 6, 5, 2)


@pytest.mark.parametrize(
    "shape, arguments, message",
    [
        ((6, 5, 2), (2,), "avg_pool2d: x must be (N, H, W, C), got (6, 5, 2)"),
        (X, (2.0,), "avg_pool2d: kernel_size must be an integer of at least 1 or a pair of them, got 2.0"),
        (X, (2, (1, 0)), "avg_pool2d: stride must be an integer of at least 1 or a pair of them, got (1, 0)"),
        (X, (2, 1, -1), "avg_pool2d: padding must be an integer of at least 0 or a pair of them, got -1"),
        (
            X,
            (7,),
            "avg_pool2d: a window of 7 does not fit into height 6 + 2*0 padding; "
            "use a larger image, a smaller kernel_size or more padding",
        ),
    ],
)
def test_errors(shape, arguments, message):
    with pytest.raises(minicnn.OpError, match=f"^{re.escape(message)}$"):
        avg_pool2d(minicnn.tensor(np.zeros(shape, np.float32)), *arguments)
