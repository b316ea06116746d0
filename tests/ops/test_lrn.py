"""Local response normalisation: the example of fact A5, reference, gradient, kernels, errors.

alpha is near 1 and k about as large as the squares wherever a gradient is looked at: at alpha = 1e-4 the second term of
the gradient hides behind the tolerance.
"""

import re

import numpy as np
import pytest
from checks import check_accumulates, check_deterministic, check_kernels, leaf, run
from number_formats import BFLOAT16, FLOAT16
from tolerances import assert_close

import minicnn
from minicnn import nn
from minicnn.functional import local_response_norm
from minicnn.ops import lrn
from minicnn.shapes import Activation
from minicnn.tensor import Accumulate

# name -> shape, size, alpha, beta, k, dialect
CASES = {
    "as_in_the_paper": ((2, 3, 4, 16), 5, 1e-4, 0.75, 2.0, "sum"),
    "every_term_counts": ((2, 3, 4, 16), 5, 0.9, 0.75, 1.5, "mean"),
    "every_term_counts_in_the_sum": ((2, 3, 4, 16), 5, 0.3, 0.75, 1.5, "sum"),
    "even_window": ((2, 3, 4, 16), 4, 0.9, 0.75, 1.5, "mean"),
    "even_window_of_two": ((2, 3, 4, 12), 2, 0.9, 0.75, 1.5, "mean"),
    "window_of_one": ((2, 3, 4, 8), 1, 0.9, 0.75, 1.5, "mean"),
    "window_of_three": ((2, 3, 4, 8), 3, 0.9, 0.75, 1.5, "mean"),
    "wide_window": ((1, 3, 2, 40), 23, 0.9, 0.75, 1.5, "mean"),
    "wide_even_window": ((1, 3, 2, 40), 18, 0.9, 0.75, 1.5, "mean"),
    "window_of_all_channels": ((2, 2, 3, 8), 15, 0.9, 0.75, 1.5, "mean"),
    "window_past_all_channels": ((2, 2, 3, 8), 40, 0.9, 0.75, 1.5, "mean"),
    "another_power": ((2, 3, 4, 8), 5, 0.9, 0.6, 1.5, "mean"),
    "power_of_one": ((2, 3, 4, 8), 5, 0.9, 1.0, 1.5, "mean"),
    "odd_channels": ((2, 3, 4, 7), 5, 0.9, 0.75, 1.5, "mean"),
    "odd_channels_even_window": ((2, 3, 4, 7), 6, 0.9, 0.75, 1.5, "mean"),
    "one_channel": ((2, 3, 4, 1), 5, 0.9, 0.75, 1.5, "mean"),
    "rows_of_channels": ((5, 12), 5, 0.9, 0.75, 1.5, "mean"),
    "past_one_block": ((3, 5, 7, 64), 5, 0.9, 0.75, 1.5, "mean"),
    "more_runs_than_threads": ((1, 1, 2, 1032), 5, 0.9, 0.75, 1.5, "mean"),
    "more_odd_channels_than_threads": ((1, 1, 2, 259), 5, 0.9, 0.75, 1.5, "mean"),
    "empty_batch": ((0, 3, 4, 8), 5, 0.9, 0.75, 1.5, "mean"),
    "no_channels": ((2, 3, 4, 0), 5, 0.9, 0.75, 1.5, "mean"),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


def norm(case):
    return lambda x: local_response_norm(x, *case[1:])


def naive(x, dy, case):
    """(y, dx) by plain loops, the gradient as dy times the whole Jacobian."""
    _, size, alpha, beta, k, dialect = case
    scale = alpha / size if dialect == "mean" else alpha
    channels = x.shape[-1]
    y, dx = np.zeros(x.shape), np.zeros(x.shape)
    for pixel in np.ndindex(x.shape[:-1]):
        for c in range(channels):
            window = [j for j in range(c - size // 2, c - size // 2 + size) if 0 <= j < channels]
            s = k + scale * sum(x[pixel][j] ** 2 for j in window)
            y[pixel][c] = x[pixel][c] / s**beta
            dx[pixel][c] += dy[pixel][c] / s**beta
            for j in window:
                dx[pixel][j] -= dy[pixel][c] * x[pixel][c] * beta * s ** (-beta - 1) * scale * 2 * x[pixel][j]
    return y, dx


def of_channels(*images):
    """Channel images as the ledger prints them -> (1, 3, 3, C)."""
    return np.stack([np.array(image.replace("/", " ").split(), float).reshape(3, 3) for image in images], -1)[None]


# Fact A5: size 3, alpha 1, beta 1, k 1, "mean"; four channels of 3x3.
EXAMPLE_X = of_channels(
    "0.0000 0.0000 0.0000 / 1.5463 1.2684 1.5114 / 0.6285 1.6448 0.0000",
    "0.5272 0.0000 0.3121 / 0.9505 0.0000 0.0000 / 0.0000 0.0000 0.0000",
    "1.1392 0.0000 0.0000 / 0.0000 0.0000 0.0000 / 0.1394 0.0000 0.5774",
    "1.0331 1.0747 0.0000 / 1.0267 0.9921 0.0000 / 0.0000 0.0000 0.0000",
)
EXAMPLE_Y = of_channels(
    "0.0000 0.0000 0.0000 / 0.7370 0.8256 0.8580 / 0.5554 0.8649 0.0000",
    "0.3457 0.0000 0.3023 / 0.4530 0.0000 0.0000 / 0.0000 0.0000 0.0000",
    "0.6056 0.0000 0.0000 / 0.0000 0.0000 0.0000 / 0.1385 0.0000 0.5197",
    "0.5777 0.7760 0.0000 / 0.7598 0.7470 0.0000 / 0.0000 0.0000 0.0000",
)


def test_the_example_of_fact_a5(device):
    """36 values printed to four places: input and output are each known to half of the last one."""
    x = minicnn.tensor(EXAMPLE_X.astype(np.float32), device=device)
    y = local_response_norm(x, 3, alpha=1.0, beta=1.0, k=1.0).numpy()
    assert np.abs(y - EXAMPLE_Y).max() < 1e-4
    summed = local_response_norm(x, 3, alpha=1.0, beta=1.0, k=1.0, dialect="sum").numpy()
    assert y[0, 0, 0, 1] == pytest.approx(0.3457, abs=5e-5)
    assert summed[0, 0, 0, 1] == pytest.approx(0.2047, abs=5e-5)


def test_reference_is_the_formula(case, rng):
    x, dy = rng.standard_normal(case[0]), rng.standard_normal(case[0])
    y, (dx,) = run(norm(case), [x], "numpy", dy)
    expected_y, expected_dx = naive(x, dy, case)
    assert_close(y, expected_y, what="y")
    assert_close(dx, expected_dx, what="dx")


@pytest.mark.parametrize("size", range(1, 10))
@pytest.mark.parametrize("dialect", ["mean", "sum"])
def test_odd_and_even_windows_match_torch(size, dialect, torch, rng):
    """PyTorch has the dialect "mean" alone: there "sum" is alpha * size."""
    x, dy = rng.standard_normal((2, 3, 4, 7)), rng.standard_normal((2, 3, 4, 7))
    y, (dx,) = run(lambda x: local_response_norm(x, size, 0.9, 0.75, 1.5, dialect), [x], "numpy", dy)
    second = torch.tensor(x.transpose(0, 3, 1, 2)).requires_grad_()
    alpha = 0.9 * size if dialect == "sum" else 0.9
    expected = torch.nn.functional.local_response_norm(second, size, alpha, 0.75, 1.5)
    expected.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    assert_close(y, expected.detach().numpy().transpose(0, 2, 3, 1), what="y")
    assert_close(dx, second.grad.numpy().transpose(0, 2, 3, 1), what="dx")


def test_the_defaults_are_those_of_torch(torch, rng):
    x = rng.standard_normal((2, 3, 4, 7))
    expected = torch.nn.functional.local_response_norm(torch.tensor(x.transpose(0, 3, 1, 2)), 5)
    assert_close(local_response_norm(leaf(x, "numpy"), 5).numpy(), expected.numpy().transpose(0, 2, 3, 1))


@pytest.mark.parametrize("value", [np.nan, 1e30])
def test_a_special_value_stays_in_its_pixel_and_window(value, device, rng):
    """Channel 3 of one pixel: channels 1 to 5 of it have it in their windows."""
    x = rng.standard_normal((2, 2, 2, 12)).astype(np.float32)
    expected, _ = run(lambda x: local_response_norm(x, 5, 0.9), [x], device)
    x[1, 0, 1, 3] = value
    y, (dx,) = run(lambda x: local_response_norm(x, 5, 0.9), [x], device)
    touched = np.zeros(x.shape, bool)
    touched[1, 0, 1, 1:6] = True
    np.testing.assert_array_equal(y[~touched], expected[~touched])
    np.testing.assert_array_equal(y[touched], np.nan if np.isnan(value) else 0)
    touched[1, 0, 1, :8] = True
    assert np.isfinite(dx[~touched]).all()


def test_a_zero_base_is_refused_by_nobody(device):
    """k = 0 and no response: 0 / 0, as in PyTorch."""
    y, _ = run(lambda x: local_response_norm(x, 5, 1.0, 0.75, 0.0), [np.zeros((1, 8), np.float32)], device)
    assert np.isnan(y).all()


@pytest.mark.parametrize("size", [1, 20, 100])
def test_chunks_of_the_reference_do_not_show(case, size, monkeypatch, rng):
    x, dy = rng.standard_normal(case[0]), rng.standard_normal(case[0])
    expected_y, (expected_dx,) = run(norm(case), [x], "numpy", dy)
    monkeypatch.setattr(lrn, "CHUNK", size)
    y, (dx,) = run(norm(case), [x], "numpy", dy)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(dx, expected_dx)


def test_gradient_of_the_reference(case, rng):
    if np.prod(case[0]):
        minicnn.gradcheck(norm(case), [leaf(rng.standard_normal(case[0]), "numpy")], eps=1e-5)


def test_kernels_match_the_reference(case, kernel_device, rng):
    check_kernels(norm(case), [rng.standard_normal(case[0])], kernel_device, rng)


def test_arrays_off_a_16_byte_boundary(unaligned_device, rng):
    check_kernels(norm(CASES["every_term_counts"]), [rng.standard_normal((2, 3, 4, 16))], unaligned_device, rng)


@pytest.mark.parametrize("size, beta", [(5, 0.75), (4, 0.75), (5, 0.6)])
def test_gradient_of_the_kernels(size, beta, kernel_device, rng):
    x = leaf(rng.standard_normal((2, 3, 4, 8)).astype(np.float32), kernel_device)
    minicnn.gradcheck(
        lambda x: local_response_norm(x, size, 0.9, beta, 1.5), [x], eps=1e-2, rtol=1e-3, elementwise=False
    )


@pytest.mark.parametrize("channels", [8, 7])
def test_gradients_accumulate(channels, device, rng):
    x = rng.standard_normal((2, 3, 4, channels))
    check_accumulates(lambda x: local_response_norm(x, 5, 0.9, 0.75, 1.5), [x], device)


@pytest.mark.parametrize("channels", [16, 7])
def test_the_same_bits_in_every_order(channels, kernel_device, rng):
    x = rng.standard_normal((2, 5, 7, channels))
    check_deterministic(lambda x: local_response_norm(x, 5, 0.9, 0.75, 1.5), [x], kernel_device, rng)


@pytest.mark.parametrize("format", (BFLOAT16, FLOAT16), ids=lambda format: format.name)
@pytest.mark.parametrize("accumulate", Accumulate)
@pytest.mark.parametrize("of_x", Activation)
def test_kernels_of_16_bits_are_those_of_float32(case, of_x, accumulate, format, ladder_device, rng):
    """y to the bit, dx rounded once."""
    shape, size, alpha, beta, k, dialect = case
    channels = shape[-1]
    below, above = (min(reach, max(channels - 1, 0)) for reach in (size // 2, (size - 1) // 2))
    scale = alpha / size if dialect == "mean" else alpha
    constants = below, above, scale, beta, k, int(np.prod(shape[:-1])), channels
    x, before = (format.encode(rng.standard_normal(shape)) for _ in range(2))
    dy = ladder_device.array(rng.standard_normal(shape).astype(np.float32))
    results = []
    for suffix, of_numbers in ((format.suffix, lambda array: array), ("", format.decode)):
        x_array, dx, y = *(ladder_device.array(of_numbers(a)) for a in (x, before)), ladder_device.empty(shape)
        getattr(ladder_device.kernels, f"lrn_forward{suffix}")(x_array, y, *constants)
        getattr(ladder_device.kernels, f"lrn_backward{suffix}")(dy, x_array, of_x, dx, accumulate, *constants)
        results.append([ladder_device.to_numpy(array) for array in (y, dx)])
    (y, dx), (expected_y, expected_dx) = results
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(dx.view(np.uint16), format.encode(expected_dx).view(np.uint16))


def test_backward_refuses_more_channels_than_shared_memory_holds(ladder_device):
    x = leaf(np.ones((1, 12292), np.float32), ladder_device)
    y = local_response_norm(x, 5)
    with pytest.raises(ValueError, match=r"^lrn_backward: 12292 channels, at most 12288 are possible$"):
        y.backward(np.ones(y.shape))


def test_layer():
    layer = nn.LocalResponseNorm(5, alpha=0.9, beta=0.6, k=2.0, dialect="sum")
    x = minicnn.tensor(np.arange(24.0).reshape(1, 1, 3, 8))
    np.testing.assert_array_equal(layer(x).numpy(), local_response_norm(x, 5, 0.9, 0.6, 2.0, "sum").numpy())
    assert repr(layer) == "LocalResponseNorm(5, alpha=0.9, beta=0.6, k=2.0, dialect='sum')"


@pytest.mark.parametrize(
    "shape, options, message",
    [
        ((2, 8), {"size": 0}, "local_response_norm: size must be an integer of at least 1, got 0"),
        ((2, 8), {"size": 2.5}, "local_response_norm: size must be an integer of at least 1, got 2.5"),
        (
            (2, 8),
            {"size": 5, "dialect": "caffe"},
            "local_response_norm: dialect must be 'mean' (alpha/size, as in PyTorch) or 'sum' (the paper's alpha), "
            "got 'caffe'",
        ),
        ((8,), {"size": 5}, "local_response_norm: x must be (..., C) with at least two dimensions, got (8,)"),
    ],
)
def test_errors(shape, options, message):
    with pytest.raises(minicnn.OpError, match=f"^{re.escape(message)}$"):
        local_response_norm(minicnn.tensor(np.zeros(shape, np.float32)), **options)
