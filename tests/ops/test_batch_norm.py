"""Batch normalisation: reference, running statistics, accuracy, gradient, kernels, layers, errors."""

import itertools
import re

import numpy as np
import pytest
from checks import check_accumulates, check_kernels, check_thread_orders, leaf, run
from tolerances import assert_close

import minicnn
from minicnn import functional, nn
from minicnn.functional import batch_norm

SHAPES = {
    "two_rows": (2, 5),
    "one_channel": (9, 1),
    "fewer_channels_than_a_vector": (3, 2, 2, 3),
    "whole_vectors": (2, 3, 5, 8),
    "odd_channels": (2, 3, 3, 10),
    "a_tile_and_one_channel": (2, 3, 3, 65),
    "many_rows": (2101, 3),  # two chunks, the last one short
}
EPS, MOMENTUM = 0.25, 0.3  # far from 0 and from torch's defaults: every term matters


def statistics(channels, device, dtype, rng_seed=5):
    rng = np.random.default_rng(rng_seed)
    mean, variance = rng.standard_normal(channels), rng.uniform(0.5, 2, channels)
    return leaf(mean.astype(dtype), device, False), leaf(variance.astype(dtype), device, False)


def function(training, activation=None):
    """batch_norm as a function of x, weight and bias, with fresh running statistics at each call."""

    def apply(x, weight=None, bias=None):
        running = statistics(x.shape[-1], x.device, x.dtype)
        return batch_norm(x, *running, weight, bias, training, MOMENTUM, EPS, activation)

    return apply


def apart(training):
    """The two ops that it stands for with a ReLU."""
    return lambda *inputs: functional.relu(function(training)(*inputs))


in_either_mode = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
with_and_without_affine = pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
with_and_without_relu = pytest.mark.parametrize("activation", [None, "relu"], ids=["linear", "relu"])


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def inputs(request, rng):
    """x with another mean and scale for each channel, weight, bias."""
    channels = request.param[-1]
    x = rng.standard_normal(request.param) * rng.uniform(0.5, 2, channels) + rng.standard_normal(channels)
    return [x, rng.uniform(0.5, 2, channels), rng.standard_normal(channels)]


def test_reference_is_the_formula(rng):
    x, weight, bias = rng.standard_normal((2, 3, 2)), [1.5, -2.0], [0.25, 3.0]
    for training, activation in itertools.product((False, True), (None, "relu")):
        y, _ = run(function(training, activation), [x, np.array(weight), np.array(bias)], "numpy")
        running_mean, running_variance = (t.numpy() for t in statistics(2, "numpy", np.float64))
        for c in range(2):
            values = [x[n, w, c] for n in range(2) for w in range(3)]
            mean = sum(values) / 6 if training else running_mean[c]
            variance = sum((v - mean) ** 2 for v in values) / 6 if training else running_variance[c]
            for n in range(2):
                for w in range(3):
                    z = (x[n, w, c] - mean) / (variance + EPS) ** 0.5
                    expected = z * weight[c] + bias[c]
                    assert y[n, w, c] == pytest.approx(max(expected, 0) if activation else expected, rel=1e-12)


@with_and_without_relu
@with_and_without_affine
@in_either_mode
def test_everything_matches_torch(inputs, training, affine, activation, torch, rng):
    inputs = inputs if affine else inputs[:1]
    dy = rng.standard_normal(inputs[0].shape)
    x, *rest = (leaf(v, "numpy") for v in inputs)
    running = statistics(x.shape[-1], "numpy", np.float64)
    second_running = [torch.tensor(t.numpy()) for t in running]
    y = batch_norm(x, *running, *rest, training=training, momentum=MOMENTUM, eps=EPS, activation=activation)
    y.backward(dy)

    second = [torch.tensor(v, requires_grad=True) for v in inputs]
    channels_second = second[0].movedim(-1, 1)
    result = torch.nn.functional.batch_norm(
        channels_second, *second_running, *second[1:], training=training, momentum=MOMENTUM, eps=EPS
    ).movedim(1, -1)
    result = torch.relu(result) if activation else result
    result.backward(torch.tensor(dy))
    assert_close(y.numpy(), result.detach().numpy(), what="y")
    for ours, theirs in zip((x, *rest), second, strict=True):
        assert_close(ours.grad.numpy(), theirs.grad.numpy(), what="gradient")
    for ours, theirs in zip(running, second_running, strict=True):
        assert_close(ours.numpy(), theirs.numpy(), what="running statistics")


@with_and_without_relu
@in_either_mode
def test_gradient_of_the_reference(inputs, training, activation):
    minicnn.gradcheck(function(training, activation), [leaf(v, "numpy") for v in inputs])


@with_and_without_relu
@with_and_without_affine
@in_either_mode
def test_kernels_match_the_reference(inputs, training, affine, activation, kernel_device, rng):
    check_kernels(function(training, activation), inputs if affine else inputs[:1], kernel_device, rng)


@with_and_without_affine
@in_either_mode
def test_the_same_bits_as_with_a_relu_behind(inputs, training, affine, device, rng):
    inputs = [v.astype(np.float32) for v in (inputs if affine else inputs[:1])]
    dy = rng.standard_normal(inputs[0].shape)
    (y, gradients), (expected, expected_gradients) = (
        run(f, inputs, device, dy) for f in (function(training, "relu"), apart(training))
    )
    assert (y == 0).any() and (y > 0).any()
    np.testing.assert_array_equal(y, expected)
    for got, gradient in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_array_equal(got, gradient)


@in_either_mode
def test_consumers_that_mask_and_consumers_that_do_not(training, device, rng):
    """The gradient of y comes masked by the fully connected layer, not by the sum: the same bits either way."""
    inputs = [rng.standard_normal(shape).astype(np.float32) for shape in ((6, 5), (5,), (5,), (3, 5))]
    dy = rng.standard_normal((6, 3))
    for share in (0.0, 0.5):

        def consumed(norm, share=share):
            def apply(x, weight, bias, matrix):
                y = norm(x, weight, bias)
                z = functional.linear(y, matrix)
                return z + y.sum() * share if share else z

            return apply

        (_, gradients), (_, expected) = (
            run(consumed(norm), inputs, device, dy) for norm in (function(training, "relu"), apart(training))
        )
        for got, gradient in zip(gradients, expected, strict=True):
            np.testing.assert_array_equal(got, gradient)


def test_nan_stays_nan_with_relu(device):
    x = np.array([[np.nan, 1.0], [2.0, -3.0], [0.5, 4.0]], np.float32)
    y, _ = run(function(False, "relu"), [x], device)
    assert np.isnan(y).tolist() == [[True, False], [False, False], [False, False]]


def test_running_statistics_of_the_kernels(inputs, kernel_device):
    results = []
    for device, dtype in (("numpy", np.float64), (kernel_device, np.float32)):
        running = statistics(inputs[0].shape[-1], device, dtype)
        x = leaf(inputs[0].astype(np.float32).astype(dtype), device)
        batch_norm(x, *running, training=True, momentum=MOMENTUM)
        results.append([t.numpy() for t in running])
    for expected, got in zip(*results, strict=True):
        assert_close(got, expected)


@in_either_mode
def test_gradient_of_the_kernels(training, kernel_device, rng):
    inputs = [rng.standard_normal((2, 3, 5)) + 1, rng.uniform(0.5, 2, 5), rng.standard_normal(5)]
    leaves = [leaf(v.astype(np.float32), kernel_device) for v in inputs]
    minicnn.gradcheck(function(training), leaves, eps=0.02, rtol=2e-3)  # the difference errs by eps^2


@in_either_mode
def test_gradient_of_the_kernels_with_relu(training, kernel_device, rng):
    signs = np.where(np.arange(40).reshape(2, 4, 5) % 3 < 1, 1, -1)  # no y comes near the kink
    mean, _ = (t.numpy() for t in statistics(5, "numpy", np.float64))
    inputs = [3 * signs + rng.uniform(0, 0.5, (2, 4, 5)) + mean, rng.uniform(0.5, 2, 5), np.zeros(5)]
    leaves = [leaf(v.astype(np.float32), kernel_device) for v in inputs]
    y = function(training, "relu")(*leaves).numpy()
    assert 0.2 < (y > 0).mean() < 0.8 and y[y > 0].min() > 0.2
    minicnn.gradcheck(function(training, "relu"), leaves, eps=0.02, rtol=2e-3)


def test_gradients_accumulate(device, rng):
    dy = rng.standard_normal((3, 4)).astype(np.float32)  # the gradient along ones is 0
    for activation in (None, "relu"):
        inputs = [rng.standard_normal((3, 4)), np.ones(4), np.zeros(4)]
        check_accumulates(function(True, activation), inputs, device, dy)


def test_only_wanted_gradients_are_written(device, rng):
    x, weight, bias = (leaf(np.ones(s, np.float32), device, wanted) for s, wanted in (((3, 4), 0), (4, 1), (4, 0)))
    function(True)(x, weight, bias).backward(np.ones((3, 4), np.float32))
    assert x.grad is None
    assert bias.grad is None
    assert weight.grad.numpy().tolist() == [0] * 4


def test_thread_order_does_not_matter(kernel_device, rng):
    inputs = [rng.standard_normal((300, 5)), rng.standard_normal(5), rng.standard_normal(5)]
    inputs, dy = [v.astype(np.float32) for v in inputs], rng.standard_normal((300, 5)).astype(np.float32)

    def compute():
        (y, gradients), (z, others) = (run(function(True, each), inputs, kernel_device, dy) for each in (None, "relu"))
        return y, z, *gradients, *others

    check_thread_orders(compute, kernel_device)


def test_a_large_mean_costs_no_accuracy(device, rng):
    """Mean 10,000, standard deviation 1: a sum of squares in float32 would lose all of the variance."""
    x = (1e4 + rng.standard_normal((2000, 3))).astype(np.float32)
    running = leaf(np.zeros(3, np.float32), device, False), leaf(np.zeros(3, np.float32), device, False)
    y = batch_norm(leaf(x, device), *running, training=True, momentum=1.0, eps=0.0).numpy()
    exact = x.astype(np.float64)
    assert_close(running[0].numpy(), exact.mean(0), rtol=2**-23)
    assert_close(running[1].numpy(), exact.var(0, ddof=1), rtol=1e-5)
    rounding_of_the_mean = np.spacing(np.float32(1e4)) / 2
    assert_close(y, (exact - exact.mean(0)) / exact.std(0), atol=1.1 * rounding_of_the_mean, rtol=1e-5)


def test_an_outlier_first_costs_no_accuracy(device, rng):
    """The kernels work on x - x[0]: a first row far from all others must not spoil the variance."""
    x = rng.standard_normal((2000, 3)).astype(np.float32)
    x[0] = 1e4
    running = leaf(np.zeros(3, np.float32), device, False), leaf(np.zeros(3, np.float32), device, False)
    batch_norm(leaf(x, device), *running, training=True, momentum=1.0)
    assert_close(running[1].numpy(), x.astype(np.float64).var(0, ddof=1), rtol=1e-5)


def test_constant_channels_become_the_bias(device):
    x, weight, bias = np.full((7, 2), 12345.678, np.float32), np.ones(2, np.float32), np.array([0.5, -2], np.float32)
    y, _ = run(function(True), [x, weight, bias], device)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (7, 2)))


def test_integers_are_exact(device):
    """Values whose mean, variance and 1 / std are small binary fractions: no rounding anywhere."""
    x = np.array([[1, 4], [3, 4], [1, -4], [3, -4]], np.float32)  # means 2 and 0, variances 1 and 16
    dy = np.array([[4, 8], [0, 0], [0, 0], [0, 0]], np.float32)
    running = leaf(np.zeros(2, np.float32), device, False), leaf(np.zeros(2, np.float32), device, False)
    leaves = [leaf(v, device) for v in (x, np.array([2, 4], np.float32), np.array([1, -1], np.float32))]
    y = batch_norm(leaves[0], *running, *leaves[1:], training=True, momentum=0.5, eps=0.0)
    y.backward(dy)
    assert y.numpy().tolist() == [[-1, 3], [3, 3], [-1, -5], [3, -5]]
    assert running[0].numpy().tolist() == [1, 0]
    assert leaves[0].grad.numpy().tolist() == [[4, 4], [0, -4], [-4, 0], [0, 0]]
    assert leaves[1].grad.numpy().tolist() == [-4, 8]
    assert leaves[2].grad.numpy().tolist() == [4, 8]


def test_empty_batch_in_evaluation(device):
    y, gradients = run(function(False), [np.zeros((0, 3)).astype(np.float32), *np.ones((2, 3), np.float32)], device)
    assert y.shape == (0, 3)
    assert [g.tolist() for g in gradients] == [[], [0] * 3, [0] * 3]


def test_evaluation_keeps_the_statistics_that_forward_saw(device):
    x, running = leaf(np.ones((2, 3), np.float32), device), statistics(3, device, np.float32)
    variance = running[1].numpy()
    y = batch_norm(x, *running, eps=0.0)
    batch_norm(leaf(np.random.default_rng(1).random((4, 3), np.float32), device), *running, training=True)
    y.backward(np.ones((2, 3), np.float32))
    assert_close(x.grad.numpy(), np.broadcast_to(1 / np.sqrt(variance), (2, 3)))


def test_without_running_statistics(device, rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    y, _ = run(lambda x: batch_norm(x, None, None, training=True, eps=EPS), [x], device)
    expected, _ = run(function(True), [x], device)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(("layer", "shape"), [(nn.BatchNorm1d, (6, 3)), (nn.BatchNorm2d, (2, 3, 4, 3))])
def test_layer_learns_its_statistics(layer, shape, device, rng):
    x = rng.standard_normal(shape).astype(np.float32) * 3 + 1
    model = layer(3, eps=0.0, momentum=1.0).to(device)
    trained = model(leaf(x, device)).numpy()
    assert_close(trained.reshape(-1, 3).mean(0), np.zeros(3), atol=1e-6)
    rows = x.size // 3
    state = model.state_dict()
    assert sorted(state) == ["bias", "running_mean", "running_var", "weight"]
    assert_close(state["running_mean"], x.reshape(-1, 3).mean(0))
    assert_close(model.eval()(leaf(x, device)).numpy(), trained * np.float32(((rows - 1) / rows) ** 0.5))
    np.testing.assert_array_equal(model.state_dict()["running_mean"], state["running_mean"])


def refused(message, *arguments, **keywords):
    with pytest.raises(minicnn.OpError, match=f"^{re.escape('batch_norm: ' + message)}$"):
        batch_norm(*arguments, **keywords)


def test_refuses_what_does_not_fit(kernel_device):
    x, c3, c4 = (minicnn.tensor(np.ones(s)) for s in ((2, 3), (3,), (4,)))
    refused("x must be (..., channels) with at least two axes, got (3,)", c3, c3, c3)
    refused("running_mean must be (3,) float64 for x of shape (2, 3), got (4,) float64", x, c4, c3)
    refused("running_var must be (3,) float64 for x of shape (2, 3), got (4,) float64", x, c3, c4)
    refused("weight must be (3,) float64 for x of shape (2, 3), got (4,) float64", x, c3, c3, c4, c3)
    refused("bias must be (3,) float64 for x of shape (2, 3), got (4,) float64", x, c3, c3, c3, c4)
    refused("weight must be (3,) float64 for x of shape (2, 3), got (4,) float64", x, None, None, c4, c4, training=True)
    single = minicnn.tensor(np.ones(3), "float32")
    refused("running_mean must be (3,) float64 for x of shape (2, 3), got (3,) float32", x, single, c3)
    refused("weight and bias come together or not at all", x, c3, c3, c3)
    refused("activation must be None or 'relu', got 'tanh'", x, c3, c3, activation="tanh")
    refused("running_mean and running_var come together or not at all", x, c3, None)
    refused("outside of training the running statistics are needed, got None", x, None, None)
    refused(
        "training needs at least 2 values a channel, x is (1, 3)",
        minicnn.tensor(np.ones((1, 3))),
        c3,
        c3,
        training=True,
    )
    kernel_x = leaf(np.ones((2, 3), np.float32), kernel_device)
    refused(f"running_mean is on cpu, x on {kernel_device.name}; move the model by .to(...)", kernel_x, single, single)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_layer_refuses_other_axes(layer):
    message = f"batch_norm: {layer.__name__} takes x with {layer.axes} axes, got (2, 4, 3)"
    with pytest.raises(minicnn.OpError, match=f"^{re.escape(message)}$"):
        layer(3)(minicnn.tensor(np.ones((2, 4, 3)), "float32"))
