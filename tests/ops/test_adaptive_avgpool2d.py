"""Average pooling to a given size: reference, gradient, kernels, errors."""

import math
import re

import numpy as np
import pytest
from checks import check_accumulates, check_deterministic, check_exact, check_kernels, leaf, run
from tolerances import assert_close

import minicnn
from minicnn import nn
from minicnn.functional import adaptive_avg_pool2d

# name -> x (N, H, W, C), output_size
CASES = {
    "windows_side_by_side": ((2, 6, 8, 4), (3, 2)),
    "windows_overlap": ((2, 7, 5, 4), (3, 4)),
    "windows_of_two_sizes": ((2, 13, 11, 4), 6),
    "global": ((3, 5, 7, 8), 1),
    "unchanged": ((2, 6, 6, 4), 6),
    "larger_than_the_image": ((2, 3, 4, 4), (7, 8)),
    "larger_one_way_smaller_the_other": ((2, 3, 9, 4), (5, 4)),
    "one_pixel_to_many": ((1, 1, 1, 4), (3, 2)),
    "one_channel": ((2, 5, 5, 1), 2),
    "odd_channels": ((2, 7, 5, 3), (2, 3)),
    "more_images_than_a_thread_takes": ((6, 5, 4, 4), 3),
    "past_one_block": ((1, 11, 12, 12), (10, 11)),
    "empty_batch": ((0, 5, 5, 4), 2),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


def pool(output_size):
    return lambda x: adaptive_avg_pool2d(x, output_size)


def naive(x, dy):
    """(y, dx) by plain loops over the windows; dy fits y."""
    y, dx = np.zeros(dy.shape), np.zeros(x.shape)
    for p, q in np.ndindex(dy.shape[1:3]):
        rows, columns = (
            range(math.floor(i * extent / count), math.ceil((i + 1) * extent / count))
            for i, extent, count in zip((p, q), x.shape[1:3], dy.shape[1:3], strict=True)
        )
        for h in rows:
            for w in columns:
                y[:, p, q] += x[:, h, w] / (len(rows) * len(columns))
                dx[:, h, w] += dy[:, p, q] / (len(rows) * len(columns))
    return y, dx


def dy_for(case, rng):
    shape, output_size = case
    return rng.standard_normal(pool(output_size)(leaf(np.zeros(shape), "numpy")).shape)


def test_reference_is_the_formula(case, rng):
    x, dy = rng.standard_normal(case[0]), dy_for(case, rng)
    y, (dx,) = run(pool(case[1]), [x], "numpy", dy)
    expected_y, expected_dx = naive(x, dy)
    assert_close(y, expected_y, what="y")
    assert_close(dx, expected_dx, what="dx")


def test_reference_matches_torch(case, torch, rng):
    x, dy = rng.standard_normal(case[0]), dy_for(case, rng)
    y, (dx,) = run(pool(case[1]), [x], "numpy", dy)
    second = torch.tensor(x.transpose(0, 3, 1, 2)).requires_grad_()
    expected = torch.nn.functional.adaptive_avg_pool2d(second, case[1])
    expected.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    assert_close(y, expected.detach().numpy().transpose(0, 2, 3, 1), what="y")
    assert_close(dx, second.grad.numpy().transpose(0, 2, 3, 1), what="dx")


@pytest.mark.parametrize("extent", range(1, 9))
@pytest.mark.parametrize("count", range(1, 9))
def test_every_small_pair_of_extents(extent, count, device, rng):
    """Along both axes, one of them the other way round; integers times what all window sizes divide are exact."""
    x = 840 * rng.integers(-3, 4, (1, extent, count, 4)).astype(np.float64)
    dy = 840 * rng.integers(-3, 4, (1, count, extent, 4))
    y, (dx,) = run(pool((count, extent)), [x.astype(np.float32)], device, dy)
    expected_y, expected_dx = naive(x, dy)
    assert_close(y, expected_y, what="y")
    assert_close(dx, expected_dx, what="dx")


def test_gradient_of_the_reference(case, rng):
    if case[0][0]:
        minicnn.gradcheck(pool(case[1]), [leaf(rng.standard_normal(case[0]), "numpy")], eps=1.0)


def test_kernels_match_the_reference(case, kernel_device, rng):
    check_kernels(pool(case[1]), [rng.standard_normal(case[0])], kernel_device, rng)


@pytest.mark.parametrize("shape, output_size", [((2, 8, 4, 4), (4, 2)), ((2, 4, 8, 3), 1), ((3, 2, 3, 4), (4, 3))])
def test_kernels_are_exact_on_integers(shape, output_size, kernel_device, rng):
    """Every window has a power of two of elements."""
    x, dy = rng.integers(-50, 51, shape), 32 * rng.integers(-9, 10, dy_for((shape, output_size), rng).shape)
    check_exact(pool(output_size), [x], kernel_device, dy)


def test_the_gradient_is_the_adjoint(case, device, rng):
    """<pool(x), g> = <x, pool'(g)>: to what float32 sums of that many terms leave."""
    x, g = rng.standard_normal(case[0]).astype(np.float32), dy_for(case, rng)
    y, (dx,) = run(pool(case[1]), [x], device, g)
    left, right = float((y * g).sum(dtype=np.float64)), float((x.astype(np.float64) * dx).sum())
    assert abs(left - right) <= 1e-6 * (1 + np.abs(y * g).sum())


def test_arrays_off_a_16_byte_boundary(unaligned_device, rng):
    check_kernels(pool((3, 4)), [rng.standard_normal((2, 7, 5, 8))], unaligned_device, rng)


def test_gradient_of_the_kernels(kernel_device, rng):
    x = leaf(rng.standard_normal((2, 7, 5, 5)).astype(np.float32), kernel_device)
    minicnn.gradcheck(pool((3, 8)), [x], eps=1.0, rtol=1e-5, elementwise=False)


def test_gradients_accumulate(device, rng):
    check_accumulates(pool((3, 4)), [rng.standard_normal((2, 7, 5, 4))], device)


@pytest.mark.parametrize("channels", [4, 3])
def test_the_same_bits_in_every_order(channels, kernel_device, rng):
    check_deterministic(pool(6), [rng.standard_normal((2, 11, 13, channels))], kernel_device, rng)


def test_layer():
    layer = nn.AdaptiveAvgPool2d((2, 3))
    x = minicnn.tensor(np.arange(36.0).reshape(1, 6, 6, 1))
    np.testing.assert_array_equal(layer(x).numpy(), adaptive_avg_pool2d(x, (2, 3)).numpy())
    assert repr(layer) == "AdaptiveAvgPool2d((2, 3))"


@pytest.mark.parametrize(
    "shape, output_size, message",
    [
        ((6, 5, 2), 2, "adaptive_avg_pool2d: x must be (N, H, W, C) with H and W of at least 1, got (6, 5, 2)"),
        ((2, 0, 5, 2), 2, "adaptive_avg_pool2d: x must be (N, H, W, C) with H and W of at least 1, got (2, 0, 5, 2)"),
        (
            (1, 6, 5, 2),
            0,
            "adaptive_avg_pool2d: output_size must be an integer of at least 1 or a pair of them, got 0",
        ),
        (
            (1, 6, 5, 2),
            (2, None),
            "adaptive_avg_pool2d: output_size must be an integer of at least 1 or a pair of them, got (2, None)",
        ),
    ],
)
def test_errors(shape, output_size, message):
    with pytest.raises(minicnn.OpError, match=f"^{re.escape(message)}$"):
        adaptive_avg_pool2d(minicnn.tensor(np.zeros(shape, np.float32)), output_size)
