"""What lies between layers in "bfloat16" and "float16": in 16 bits, where that changes no bit of any number."""

from collections import Counter

import numpy as np
import pytest
from checks import SCHEDULES, thread_order

import minicnn
from minicnn import nn
from minicnn.autograd import Op
from minicnn.functional import (
    add_relu,
    conv2d,
    cross_entropy,
    flatten,
    linear,
    local_response_norm,
    max_pool2d,
    relu,
)
from minicnn.ops import DropoutMask
from minicnn.ops.strided_copy import copy
from minicnn.tensor import Narrow

HALVES = ("bfloat16", "float16")
each_precision = pytest.mark.parametrize("name", HALVES)


class Apart(Op):
    """y = x, in float32 both ways: what lies between two layers without a Narrow."""

    name = "apart"

    def check(self, x):
        return x.shape

    def forward_kernel(self, x, y):
        self.device.copy(x, y)

    def backward_kernel(self, dy):
        copy(self.kernels, dy, *self.grad_out(0))


def as_it_is(x):
    return x


def apart(x):
    return Apart()(x)


def read(x):
    """As a hook that looks at it."""
    assert x.data.dtype == np.float32
    return x


def drawn(rng, *shape, scale=0.5):
    return (scale * rng.standard_normal(shape)).astype(np.float32)


# Networks: (x, weights, between) -> y, with `between` called on what lies between two layers.


def plain(x, w, between):
    """Convolutions, pooling whose windows overlap and such whose do not, fully connected layers."""
    x = between(conv2d(x, w[0], w[1], padding=1, activation="relu"))
    x = between(max_pool2d(x, 3, 2))
    x = between(conv2d(x, w[2], padding=1))
    x = between(max_pool2d(x, 2))
    x = between(flatten(x))
    x = between(linear(x, w[3], activation="relu", dropout=DropoutMask(0.3)))
    return between(linear(x, w[4]))


def joined(x, w, between):
    """Results that two read: two layers, or a layer and a sum."""
    x = between(conv2d(x, w[0], w[1], padding=1, activation="relu"))
    side = between(conv2d(x, w[2], padding=1))
    a = between(conv2d(between(max_pool2d(x, 3, 1, 1)), w[2], padding=1, activation="relu"))
    b = between(conv2d(a, w[2], padding=1))
    x = between(max_pool2d(add_relu(a + side, b), 3, 2))
    x = between(conv2d(x, w[2], padding=1, activation="relu"))
    return between(linear(between(flatten(x)), w[5]))


def two_poolings(x, w, between):
    """The sums of the second must reach the first unrounded."""
    x = between(conv2d(x, w[0], w[1], padding=1, activation="relu"))
    x = between(max_pool2d(between(max_pool2d(x, 3, 1, 1)), 3, 2))
    x = between(conv2d(x, w[2], padding=1))
    return between(linear(between(flatten(x)), w[5]))


def normalised(x, w, between):
    """Layers that read float32 on one side or on both: of a product, of one that another reads too, and of a pooling."""
    x = between(conv2d(x, w[0], w[1], padding=1, activation="relu"))
    x = between(max_pool2d(between(local_response_norm(x, 3, 0.9)), 3, 2))
    x = between(conv2d(x, w[2], padding=1))
    side = between(conv2d(x, w[2], padding=1))
    x = side + between(local_response_norm(x, 3, 0.9))
    x = between(max_pool2d(between(conv2d(x, w[2], padding=1)), 3, 1, 1))
    x = between(local_response_norm(x, 3, 0.9))
    x = between(relu(x.reshape(-1, 4, 4, 8)))
    return between(linear(between(flatten(x)), w[5]))


def two_views(x, w, between):
    """A result that a view and a layer read: in the walk backward the one's gradient is there first, then the other's."""
    first = between(conv2d(x, w[0], w[1], stride=2, padding=1, activation="relu"))
    flat, x = linear(between(first.reshape(10, 40)), w[6]), between(conv2d(first, w[2], padding=1, activation="relu"))
    x, again = between(conv2d(x, w[2], padding=1)), linear(between(x.reshape(10, 40)), w[6])
    return between(linear(between(flatten(between(max_pool2d(x, 2)))), w[3])[:, :5]) + (flat + again)[:2]


NETWORKS = {function.__name__: function for function in (plain, joined, two_poolings, normalised, two_views)}
each_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())


def inputs(rng):
    weights = (8, 3, 3, 3), (8,), (8, 3, 3, 8), (12, 32), (5, 12), (5, 128), (5, 40)
    return drawn(rng, 2, 9, 9, 3), [drawn(rng, *shape) for shape in weights], drawn(rng, 2, 5)


def step(network, between, device, name, x, weights, dy):
    """[y, the gradients of x and of the weights] as host arrays."""
    minicnn.manual_seed(3)
    leaves = [minicnn.tensor(values, device=device, requires_grad=True) for values in (x, *weights)]
    with minicnn.precision(name):
        y = network(leaves[0], leaves[1:], between)
    y.backward(dy)
    return [y.numpy(), *(leaf.grad.numpy() for leaf in leaves if leaf.grad is not None)]


def check_same(got, expected):
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))  # the sign of 0 too


@each_precision
@each_network
@pytest.mark.parametrize("between", [apart, read])
def test_no_bit_is_another_than_with_float32_between_the_layers(network, between, name, ladder_device, rng):
    arrays = inputs(rng)
    expected = step(network, between, ladder_device, name, *arrays)
    assert all(np.any(array) for array in expected)
    for schedule in SCHEDULES:
        with thread_order(ladder_device, *schedule):
            check_same(step(network, as_it_is, ladder_device, name, *arrays), expected)


@each_precision
@pytest.mark.parametrize("outer", ["float32", "tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("between", [apart, read])
def test_layers_of_different_precision(between, outer, name, ladder_device, rng):
    def mixed(x, w, between):
        x = between(max_pool2d(between(conv2d(x, w[0], w[1], padding=1, activation="relu")), 2))
        with minicnn.precision(outer):
            x = between(max_pool2d(between(conv2d(x, w[2], padding=1, activation="relu")), 2))
        return between(linear(between(flatten(between(conv2d(x, w[2], padding=2)))), w[5]))

    arrays = inputs(rng)
    expected = step(mixed, between, ladder_device, name, *arrays)
    check_same(step(mixed, as_it_is, ladder_device, name, *arrays), expected)


@each_precision
def test_windows_whose_places_take_two_bytes_are_of_float32(name, ladder_device, rng):
    images, filters, dy = drawn(rng, 1, 17, 16, 2), drawn(rng, 4, 1, 1, 2), drawn(rng, 1, 1, 1, 4)
    results = []
    for between in (as_it_is, apart):
        x = minicnn.tensor(images, device=ladder_device, requires_grad=True)
        with minicnn.precision(name):
            y = max_pool2d(between(conv2d(x, minicnn.tensor(filters, device=ladder_device))), (17, 16))
        assert y.numbers is None
        y.backward(dy)
        results.append((y.numpy(), x.grad.numpy()))
    for got, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(got, expected)


@each_precision
def test_without_gradients(name, ladder_device, rng):
    x, weights, _ = inputs(rng)
    x, *weights = (minicnn.tensor(values, device=ladder_device) for values in (x, *weights))
    with minicnn.no_grad(), minicnn.precision(name):
        got, expected = (normalised(x, weights, between).numpy() for between in (as_it_is, read))
    np.testing.assert_array_equal(got, expected)


def result(name, device, rng):
    """(2, 5, 5, 8), made by a product."""
    x, weight = (minicnn.tensor(values, device=device) for values in (drawn(rng, 2, 5, 5, 3), drawn(rng, 8, 1, 1, 3)))
    with minicnn.precision(name):
        return conv2d(x, weight)


def is_narrow(x):
    return isinstance(x.held, Narrow) and x.numbers is not None


@each_precision
def test_a_tensor_of_16_bits_looks_like_any_other(name, ladder_device, rng):
    y = result(name, ladder_device, rng)
    assert (y.shape, y.ndim, y.size, y.dtype) == ((2, 5, 5, 8), 4, 400, np.float32)
    assert is_narrow(y) and is_narrow(flatten(max_pool2d(y, 2)))
    assert y.data.dtype == np.float32 and y.data.shape == y.shape and not is_narrow(y)


@each_precision
@pytest.mark.parametrize("first_read", ["whole", "view", "neither"])
def test_views_share_the_memory(first_read, name, ladder_device, rng):
    whole = result(name, ladder_device, rng)
    view = whole.reshape(10, 40)
    {"whole": whole.numpy, "view": view.numpy, "neither": lambda: None}[first_read]()
    values = drawn(rng, 10, 40)
    version = whole.version
    view.copy_(values)
    np.testing.assert_array_equal(whole.numpy(), values.reshape(whole.shape))
    np.testing.assert_array_equal(whole.detach().numpy(), whole.numpy())
    assert whole.version == version + 1


@each_precision
def test_what_was_written_is_what_the_next_layer_reads(name, ladder_device, rng):
    y, values = result(name, ladder_device, rng), np.ones((2, 5, 5, 8), np.float32)
    y.copy_(values)
    with minicnn.precision(name):
        np.testing.assert_array_equal(max_pool2d(y, 2).numpy(), values[:, :2, :2])
        one = minicnn.tensor(np.ones((1, 1, 1, 8), np.float32), device=ladder_device)
        np.testing.assert_array_equal(conv2d(y, one).numpy(), np.full((2, 5, 5, 1), 8))


@each_precision
def test_what_a_graph_leaves_is_made_by_the_graph(name, ladder_device, rng):
    x, weight = (minicnn.tensor(a, device=ladder_device) for a in (drawn(rng, 2, 5, 5, 3), drawn(rng, 8, 1, 1, 3)))

    def work():
        with minicnn.precision(name):
            return conv2d(x, weight).detach()

    graph = ladder_device.new_graph()
    with graph.memory():
        work()
    y = graph.capture(work)
    for factor in (1, 2, 4):
        graph.replay()
        np.testing.assert_array_equal(y.numpy(), work().numpy(), err_msg=f"x times {factor}")
        x.copy_(2 * x.numpy())


@each_precision
def test_a_result_that_changed_is_refused_in_backward(name, ladder_device, rng):
    x, weights, dy = inputs(rng)
    leaves = [minicnn.tensor(values, device=ladder_device, requires_grad=True) for values in (x, *weights)]
    kept = []
    with minicnn.precision(name):
        y = plain(leaves[0], leaves[1:], lambda x: kept.append(x) or x)
    kept[0].copy_(kept[0].numpy())
    with pytest.raises(minicnn.GraphError, match="was changed in place"):
        y.backward(dy)


@each_precision
def test_a_gradient_that_is_looked_at_is_float32(name, ladder_device, rng):
    """Also in the middle of a walk, which goes on with the same bits."""
    seen = []

    def look(op, run):
        seen.append((op.name, ladder_device.to_numpy(op.slot.read())))
        run()

    arrays = inputs(rng)
    expected = step(plain, apart, ladder_device, name, *arrays)
    with minicnn.autograd.backward_through(look):
        check_same(step(plain, as_it_is, ladder_device, name, *arrays), expected)
    assert [op for op, _ in seen][-4:] == ["max_pool2d", "conv2d", "max_pool2d", "conv2d"]
    assert {array.dtype for _, array in seen} == {np.dtype(np.float32)}


def vgg_like():
    convolutions = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
    layers = nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 4 * 4, 16), nn.ReLU(), nn.Linear(16, 10)
    return nn.Sequential(*convolutions, *layers)


def alexnet_like():
    convolutions = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 1, 1), nn.Conv2d(8, 8, 3, padding=1)
    layers = nn.ReLU(), nn.Flatten(), nn.Linear(8 * 8 * 8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10)
    return nn.Sequential(*convolutions, *layers)


# Narrowed: the input, each layer's weight, the gradient of the logits. Widened: the logits. With dropout also what it
# makes and reads, with normalisation what it makes.
def normalised_like():
    convolution, norm = nn.Conv2d(3, 8, 3, padding=1), nn.LocalResponseNorm(3)
    return nn.Sequential(convolution, nn.ReLU(), norm, nn.Flatten(), nn.Linear(8 * 8 * 8, 10))


CONVERSIONS = {vgg_like: (1 + 4 + 1, 1), alexnet_like: (1 + 4 + 1 + 2, 1 + 2), normalised_like: (1 + 2 + 1 + 1, 1 + 1)}


@each_precision
@pytest.mark.parametrize("make, expected", CONVERSIONS.items(), ids=[make.__name__ for make in CONVERSIONS])
@pytest.mark.parametrize("ladder_device", ["emulated"], indirect=True)
def test_nothing_is_converted_between_the_layers(make, expected, name, ladder_device, rng):
    network = make().to(ladder_device)
    x, target = (minicnn.tensor(a, device=ladder_device) for a in (drawn(rng, 2, 8, 8, 3), np.array([1, 2])))
    ladder_device.module.start_recording()
    try:
        with minicnn.precision(name):
            cross_entropy(network(x), target).backward()
    finally:
        launches, _ = ladder_device.module.stop_recording()
    ops = Counter(op for op, *_ in launches)
    assert (ops[f"narrow_{name}"], ops[f"widen_{name}"]) == expected
    assert not ops["relu_backward"] and not ops["maxpool2d_forward"] and not ops["maxpool2d_backward"]
