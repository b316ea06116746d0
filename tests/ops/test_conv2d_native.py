"""Convolution on device "cpu": every algorithm, tails of every vector, any number of threads, errors by layer.

MINICNN_CONV=direct leaves Winograd's algorithms out; without it they compute 3x3 and 5x5 windows at stride 1 of 16
channels and more.
"""

import numpy as np
import pytest
from checks import check_exact, leaf, run

from minicnn import backend
from minicnn.functional import conv2d

THREADS = (1, 2, 4, 16)


@pytest.fixture
def cpu():
    if backend.native_module() is None:
        pytest.skip("device cpu has no compiled kernels here")
    device = backend.device("cpu")
    threads = device.module.thread_count()
    yield device
    device.module.set_thread_count(threads)


def integers(rng, *shape):
    return rng.integers(-3, 4, shape).astype(np.float32)


def errors(x, weight, bias, device, dy, **options):
    """Root mean square errors of y, dx, dweight against the reference in float64, relative to what they are of."""
    function = lambda *inputs: conv2d(*inputs, **options)  # noqa: E731
    expected, grads = run(function, [v.astype(np.float64) for v in (x, weight, bias)], "numpy", dy)
    got, got_grads = run(function, [x, weight, bias], device, dy)
    pairs = [(got, expected), *zip(got_grads[:2], grads[:2], strict=True)]
    return [np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2)) for a, b in pairs]


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("window", [(3, 3), (5, 5), (2, 3)])
def test_every_tail_of_channels_is_exact(window, threads, cpu, rng, monkeypatch):
    monkeypatch.setenv("MINICNN_CONV", "direct")
    cpu.module.set_thread_count(threads)
    for channels in range(1, 41):
        filters = 1 + (7 * channels) % 40
        inputs = [integers(rng, 2, 6, 5, channels), integers(rng, filters, *window, channels), integers(rng, filters)]
        function = lambda *tensors: conv2d(*tensors, padding=1)  # noqa: E731
        dy = integers(rng, *function(*(leaf(v, "numpy") for v in inputs)).shape)
        check_exact(function, inputs, cpu, dy)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("taps", [3, 5])
def test_every_tail_of_channels_by_winograd(taps, threads, cpu, rng):
    """Bound: twice the largest that was measured over these shapes, 1.72e-6."""
    cpu.module.set_thread_count(threads)
    for channels in range(16, 41):
        filters = 16 + (7 * channels) % 25
        x, weight = rng.standard_normal((2, 9, 8, channels)), rng.standard_normal((filters, taps, taps, channels))
        x, weight, bias = (v.astype(np.float32) for v in (x, weight, rng.standard_normal(filters)))
        dy = rng.standard_normal((2, 9, 8, filters)).astype(np.float32)
        assert max(errors(x, weight, bias, cpu, dy, padding=taps // 2)) < 3.4e-6, channels


@pytest.mark.parametrize("taps", [3, 5])
@pytest.mark.parametrize("images", [1, 2, 3, 5, 16, 17])
def test_images_side_by_side_do_not_mix(images, taps, cpu, rng):
    """Sheets of one to sixteen images, the last with places left; windows that do not and that do reach over borders.

    Bound: twice the largest that was measured over five seeds, 2.47e-6. A pixel of another image makes it 0.4.
    """
    for height, width, padding in [(5, 13, taps // 2), (13, 6, 0), (9, 10, taps - 1), (14, 7, taps)]:
        x, weight = rng.standard_normal((images, height, width, 16)), rng.standard_normal((20, taps, taps, 16))
        x, weight, bias = (v.astype(np.float32) for v in (x, weight, rng.standard_normal(20)))
        p, q = (extent + 2 * padding - taps + 1 for extent in (height, width))
        dy = rng.standard_normal((images, p, q, 20)).astype(np.float32)
        assert max(errors(x, weight, bias, cpu, dy, padding=padding)) < 4.94e-6, (height, width, padding)


# (images, extent, channels, filters, taps, groups), then the largest error of the three passes as measured with AVX-512
LAYERS = {
    "alexnet_conv2": ((2, 27, 64, 192, 5, 1), {"winograd": 3.11e-6, "direct": 3.95e-7}),
    "alexnet_2012_conv4": ((2, 13, 384, 384, 3, 2), {"winograd": 2.73e-6, "direct": 3.67e-7}),
    "alexnet_conv5": ((2, 13, 256, 256, 3, 1), {"winograd": 3.07e-6, "direct": 3.82e-7}),
    "vgg_64": ((1, 56, 64, 64, 3, 1), {"winograd": 1.73e-6, "direct": 3.04e-7}),
    "vgg_256": ((1, 28, 256, 256, 3, 1), {"winograd": 3.23e-6, "direct": 3.85e-7}),
    "vgg_512": ((1, 14, 512, 512, 3, 1), {"winograd": 4.15e-6, "direct": 4.08e-7}),
}


@pytest.mark.parametrize("algorithm", ["winograd", "direct"])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
def test_error_by_layer(layer, algorithm, cpu, rng, monkeypatch):
    """Inputs as a ReLU leaves them, weights by Kaiming's rule; the bound is twice what was measured."""
    if algorithm == "direct":
        monkeypatch.setenv("MINICNN_CONV", "direct")
    (n, extent, c, k, taps, groups), largest = layer
    x = np.maximum(rng.standard_normal((n, extent, extent, c)), 0).astype(np.float32)
    weight = rng.standard_normal((k, taps, taps, c // groups)) * (2 * groups / (c * taps * taps)) ** 0.5
    dy = rng.standard_normal((n, extent, extent, k)).astype(np.float32)
    measured = errors(x, weight.astype(np.float32), np.zeros(k, np.float32), cpu, dy, padding=taps // 2, groups=groups)
    assert max(measured) < 2 * largest[algorithm], measured


def test_the_same_threads_give_the_same_bits(cpu, rng):
    x, weight = rng.standard_normal((4, 20, 20, 33)), rng.standard_normal((40, 3, 3, 33))
    inputs = [v.astype(np.float32) for v in (x, weight, rng.standard_normal(40))]
    for threads in THREADS:
        cpu.module.set_thread_count(threads)
        first, first_grads = run(lambda *v: conv2d(*v, padding=1), inputs, cpu)
        again, grads = run(lambda *v: conv2d(*v, padding=1), inputs, cpu)
        for a, b in zip([first, *first_grads], [again, *grads], strict=True):
            np.testing.assert_array_equal(a, b)


def test_infinity_and_nan_go_where_the_sum_has_them(cpu, rng, monkeypatch):
    """0 * inf is NaN, and no pixel beyond the window of a NaN becomes one."""
    monkeypatch.setenv("MINICNN_CONV", "direct")
    x, weight = np.zeros((1, 8, 8, 16), np.float32), rng.standard_normal((16, 3, 3, 16)).astype(np.float32)
    x[0, 4, 4, 3], weight[2] = np.inf, 0
    y = conv2d(leaf(x, cpu), leaf(weight, cpu), padding=1).numpy()
    touched = np.zeros((8, 8), bool)
    touched[3:6, 3:6] = True
    assert np.isnan(y[0, touched][:, 2]).all()
    assert (y[0, ~touched] == 0).all()
    assert not np.isfinite(y[0, touched]).any()


FEW_CHANNELS = [
    {"stride": 2, "padding": 1},
    {"padding": 4},
    {"stride": (1, 3)},
    {"dilation": (2, 1), "padding": (3, 0)},
]


@pytest.mark.parametrize("options", FEW_CHANNELS, ids=str)
def test_few_channels_are_exact(options, cpu, rng):
    for threads in THREADS:
        cpu.module.set_thread_count(threads)
        for channels, filters in ((1, 6), (1, 33), (2, 16), (6, 16), (6, 18), (15, 40)):
            inputs = [
                *(integers(rng, 3, 11, 10, channels), integers(rng, filters, 5, 4, channels)),
                integers(rng, filters),
            ]
            function = lambda *tensors: conv2d(*tensors, **options)  # noqa: E731
            dy = integers(rng, *function(*(leaf(v, "numpy") for v in inputs)).shape)
            check_exact(function, inputs, cpu, dy)


@pytest.mark.parametrize("extents", [(1, 40, 600, 5), (2, 70, 200, 48)], ids=["wide rows of x", "wide rows of y"])
def test_images_of_few_channels_in_several_bands(extents, cpu, rng):
    """A thread has at most 65,536 elements of x, and as many of dy, at a time."""
    images, height, width, filters = extents
    inputs = [integers(rng, images, height, width, 4), integers(rng, filters, 3, 2, 4), integers(rng, filters)]
    function = lambda *tensors: conv2d(*tensors, stride=(2, 1), padding=(1, 0))  # noqa: E731
    dy = integers(rng, *function(*(leaf(v, "numpy") for v in inputs)).shape)
    for threads in (1, 2, 3):
        cpu.module.set_thread_count(threads)
        check_exact(function, inputs, cpu, dy)
