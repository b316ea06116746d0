"""ReLU and dropout within linear and conv2d, and the gradient's mask that consumers write: the same numbers as op by op."""

import numpy as np
import pytest
from checks import check_deterministic, check_exact, check_kernels, leaf, run
from tolerances import assert_close

import minicnn
from minicnn import functional
from minicnn.functional import conv2d, linear, relu
from minicnn.ops import DropoutKey, DropoutMask, affine
from minicnn.ops import conv2d as conv2d_file
from minicnn.shapes import AUTOMATIC

# name: (rung, schedule)
KERNELS = {
    "chosen": ("implicit", AUTOMATIC),
    "tiles_of_64_in_3_parts": ("implicit", (64, 3)),
    "tiles_of_128": ("implicit", (128, 1)),
    "tiles_of_128_in_2_parts": ("implicit", (128, 2)),
    "im2col": ("im2col", AUTOMATIC),
}


@pytest.fixture(params=KERNELS.values(), ids=KERNELS.keys())
def each_kernel(request, monkeypatch):
    monkeypatch.setattr(conv2d_file, "rung", lambda: request.param[0])
    monkeypatch.setattr(affine, "AUTOMATIC", request.param[1])


# name: shapes of x and of the weight of a first and a second convolution, of the second linear layer, and the
# convolutions' options
NETWORKS = {
    "strides": ((2, 9, 8, 4), (8, 3, 3, 4), (5, 3, 3, 8), (7, 30), {"stride": 2, "padding": 1}),
    "groups": ((2, 4, 3, 4), (8, 3, 3, 2), (6, 3, 3, 4), (3, 72), {"groups": 2, "padding": 1}),
    "odd_channels": ((3, 4, 3, 3), (5, 2, 2, 3), (3, 2, 2, 5), (4, 6), {}),
    "past_a_tile": ((1, 4, 3, 5), (130, 1, 1, 5), (66, 2, 3, 130), (2, 198), {}),
}
NETWORK = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())


def given(network, rng, integers=True):
    """(fused, op by op, inputs) of two convolutions and two linear layers with ReLU behind each."""
    *shapes, options = network
    shapes = [shapes[0], *(shape for weight in (*shapes[1:], (3, shapes[3][0])) for shape in (weight, weight[:1]))]
    draw = (lambda shape: rng.integers(-2, 3, shape).astype(np.float32)) if integers else rng.standard_normal
    kinds = [(conv2d, options)] * 2 + [(linear, {})] * 2

    def layers(apply):
        def forward(x, *parameters):
            for (op, keywords), weight, bias in zip(kinds, parameters[::2], parameters[1::2], strict=True):
                x = apply(op, x.flatten() if op is linear and x.ndim > 2 else x, weight, bias, keywords)
            return x

        return forward

    fused = layers(lambda op, x, weight, bias, keywords: op(x, weight, bias, activation="relu", **keywords))
    unfused = layers(lambda op, x, weight, bias, keywords: relu(op(x, weight, bias, **keywords)))
    return fused, unfused, [draw(shape) for shape in shapes]


@NETWORK
def test_the_reference_gives_the_same_bits_as_op_by_op(network, rng):
    fused, unfused, inputs = given(network, rng, integers=False)
    y, grads = run(fused, inputs, "numpy")
    expected, expected_grads = run(unfused, inputs, "numpy")
    np.testing.assert_array_equal(y, expected)
    for got, want in zip(grads, expected_grads, strict=True):
        np.testing.assert_array_equal(got, want)
    first = run(lambda *given: conv2d(*given, **network[-1]), inputs[:3], "numpy")[0]
    assert (first < 0).any() and (first > 0).any()  # ReLU has something to do


@NETWORK
def test_kernels_are_exact_on_integers(network, each_kernel, kernel_device, rng):
    fused, unfused, inputs = given(network, rng)
    dy = rng.integers(-2, 3, unfused(*(leaf(v, "numpy") for v in inputs)).shape)
    check_exact(fused, inputs, kernel_device, dy)
    y, grads = run(fused, inputs, kernel_device, dy)
    expected, expected_grads = run(unfused, inputs, kernel_device, dy)
    np.testing.assert_array_equal(y, expected)
    for got, want in zip(grads, expected_grads, strict=True):
        np.testing.assert_array_equal(got, want)


def test_kernels_match_the_reference(each_kernel, kernel_device, rng):
    fused, _, inputs = given(NETWORKS["groups"], rng, integers=False)
    check_kernels(fused, inputs, kernel_device, rng, atol=2e-4)  # four layers of sums


def test_arrays_off_a_16_byte_boundary(each_kernel, unaligned_device, rng):
    fused, _, inputs = given(NETWORKS["strides"], rng)
    check_exact(fused, inputs, unaligned_device, np.ones((2, 3)))


def test_every_order_of_threads_gives_the_same_bits(each_kernel, kernel_device, rng):
    fused, _, inputs = given(NETWORKS["strides"], rng, integers=False)
    check_deterministic(fused, inputs, kernel_device, rng)


def one_of(op, rng):
    """(op with activation "relu", x, weight, bias) of small integers."""
    shapes = {conv2d: ((2, 4, 3, 4), (8, 3, 3, 4), (8,)), linear: ((5, 6), (7, 6), (7,))}[op]
    inputs = [rng.integers(-2, 3, shape).astype(np.float32) for shape in shapes]
    return (lambda *tensors: op(*tensors, activation="relu")), inputs


OP = pytest.mark.parametrize("op", [conv2d, linear])


@pytest.fixture
def masking_passes(kernel_device, monkeypatch):
    """How often kernels were asked to mask a gradient in a pass of its own."""
    calls, kernel = [], kernel_device.kernels.relu_backward
    monkeypatch.setattr(kernel_device.kernels, "relu_backward", lambda *given: [calls.append(given), kernel(*given)])
    return calls


@NETWORK
def test_who_can_masks_what_it_writes(network, each_kernel, masking_passes, kernel_device, rng):
    fused, _, inputs = given(network, rng)
    run(fused, inputs, kernel_device)
    assert len(masking_passes) == 1  # the last layer's dy, which the caller gave; what flatten passes on is masked


@OP
def test_one_consumer_masks_and_another_does_not(op, masking_passes, device, rng):
    function, inputs = one_of(op, rng)

    def two_consumers(first, second):
        def forward(x, weight, bias, *more):
            y = first(x, weight, bias)
            return second(y, *more).sum() + (y * y).sum() + relu(-y).sum()

        return forward

    more = rng.integers(-2, 3, (4, 1, 1, 8) if op is conv2d else (3, 7)).astype(np.float32)
    y, grads = run(two_consumers(function, op), [*inputs, more], device)
    expected, expected_grads = run(two_consumers(lambda *given: relu(op(*given)), op), [*inputs, more], "numpy")
    assert y == expected
    for got, want in zip(grads, expected_grads, strict=True):
        np.testing.assert_array_equal(got, want)


@OP
def test_one_that_uses_it_twice_masks_twice(op, device, rng):
    """y is both input and weight of one linear layer: two writers of one gradient, one of which cannot mask."""
    function, inputs = one_of(op, rng)

    def squares(first):
        def forward(*inputs):
            y = first(*inputs).flatten()
            return linear(y, y)

        return forward

    _, grads = run(squares(function), inputs, device)
    _, expected = run(squares(lambda *given: relu(op(*given))), inputs, "numpy")
    for got, want in zip(grads, expected, strict=True):
        np.testing.assert_array_equal(got, want)


@OP
@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)], ids=str)
def test_gradients_that_nobody_wants_are_not_written(op, frozen, each_kernel, device, rng):
    function, inputs = one_of(op, rng)
    leaves = [leaf(v, device, requires_grad=i not in frozen) for i, v in enumerate(inputs)]
    y = function(*leaves)
    y.backward(np.ones(y.shape))
    _, expected = run(lambda *given: relu(op(*given)), inputs, "numpy")
    for i, x in enumerate(leaves):
        if i in frozen:
            assert x.grad is None
        else:
            np.testing.assert_array_equal(x.grad.numpy(), expected[i])


@OP
def test_nan_stays_nan_and_lets_the_gradient_pass(op, device, rng):
    function, (x, weight, bias) = one_of(op, rng)
    bias[1] = np.nan
    y, (_, _, dbias) = run(function, [x, weight, bias], device)
    assert np.isnan(y[..., 1]).all() and not np.isnan(np.delete(y, 1, axis=-1)).any()
    assert dbias[1] == y[..., 1].size


@OP
def test_nan_passes_the_mask_of_a_consumer(op, device, rng):
    function, inputs = one_of(op, rng)
    inputs[2][1] = np.nan
    more = np.ones((4, 1, 1, 8) if op is conv2d else (3, 7), np.float32)
    y, grads = run(lambda *given: op(function(*given[:3]), given[3]), [*inputs, more], device)
    assert grads[2][1] == y.size


@OP
def test_what_is_no_activation_is_refused(op, device, rng):
    _, inputs = one_of(op, rng)
    with pytest.raises(minicnn.OpError, match=rf"^{op.__name__}: activation must be None or 'relu', got 'tanh'$"):
        op(*(leaf(v, device) for v in inputs), activation="tanh")


def test_the_gradient_of_a_leaf_is_never_masked(kernel_device, rng):
    x = leaf(-np.ones((2, 3), np.float32), kernel_device)
    weight = leaf(np.ones((4, 3), np.float32), kernel_device)
    linear(x, weight).sum().backward()
    assert_close(x.grad.numpy(), np.full((2, 3), 4.0))


def passes_on(consumer):
    """x -> consumer(relu within a 1x1 convolution of x that does nothing), and the same op by op."""
    one = np.eye(4, dtype=np.float32).reshape(4, 1, 1, 4)

    def network(activation):
        def forward(x):
            weight = leaf(one, x.device, requires_grad=False)
            y = conv2d(x, weight, activation="relu") if activation else relu(conv2d(x, weight))
            return consumer(y)

        return forward

    return network(True), network(False)


MASKING = {
    "max_pool2d": lambda y: functional.max_pool2d(y, 3, 2, 1),
    "max_pool2d of many places": lambda y: functional.max_pool2d(y, 16, 1, 8),
    "avg_pool2d": lambda y: functional.avg_pool2d(y, 3, 2, 1),
    "adaptive_avg_pool2d": lambda y: functional.adaptive_avg_pool2d(y, (3, 2)),
    "local_response_norm": lambda y: functional.local_response_norm(y, 3, alpha=1.0),
    "dropout": lambda y: functional.dropout(y, 0.5, key=key_on(y.device)),
}
CONSUMER = pytest.mark.parametrize("consumer", MASKING.values(), ids=MASKING.keys())


def key_on(device):
    layer, counter = (leaf(np.array([n]), device) for n in (3, 5))
    return DropoutKey(7, layer, counter)


@CONSUMER
@pytest.mark.parametrize("shape", [(2, 7, 6, 4), (1, 9, 8, 4)], ids=str)
def test_consumers_mask_what_they_write(consumer, shape, masking_passes, kernel_device, rng):
    x = rng.integers(-2, 3, shape).astype(np.float32)  # many zeros and ties
    fused, apart = passes_on(consumer)
    expected, (expected_dx,) = run(apart, [x], kernel_device)
    masking_passes.clear()
    y, (dx,) = run(fused, [x], kernel_device)
    assert not masking_passes
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(dx, expected_dx)
    assert not dx[x <= 0].any() and dx[x > 0].any()


@CONSUMER
def test_consumers_add_to_what_others_wrote(consumer, masking_passes, kernel_device, rng):
    """Two that mask, and the caller's own sum, which does not: in whatever order, one pass masks it all."""
    x = rng.integers(-2, 3, (2, 7, 6, 4)).astype(np.float32)
    masked, other = (lambda y: consumer(y).sum()), (lambda y: (y * 3.0).sum())
    for three in (lambda y: masked(y) + other(y) + masked(y), lambda y: other(y) + masked(y) + masked(y)):
        fused, apart = passes_on(three)
        masking_passes.clear()
        _, (dx,) = run(fused, [x], kernel_device)
        assert len(masking_passes) == 1
        _, (expected,) = run(apart, [x], kernel_device)
        assert_close(dx, expected)


@CONSUMER
def test_nan_passes_the_mask_of_every_consumer(consumer, kernel_device):
    x = np.ones((1, 7, 6, 4), np.float32)
    x[0, 3, 3, 1] = np.nan
    fused, apart = passes_on(consumer)
    _, (dx,) = run(fused, [x], kernel_device)
    _, (expected,) = run(apart, [x], kernel_device)
    np.testing.assert_array_equal(dx, expected)


@CONSUMER
def test_masks_off_a_16_byte_boundary(consumer, unaligned_device, rng):
    x = rng.integers(-2, 3, (2, 7, 6, 4)).astype(np.float32)
    fused, apart = passes_on(consumer)
    _, (dx,) = run(fused, [x], unaligned_device)
    _, (expected,) = run(apart, [x], unaligned_device)
    np.testing.assert_array_equal(dx, expected)


# (N, in, out): outputs that quads divide and that they do not, a reduction that is cut and one that is not
DROPPED = {"quads": (3, 20, 8), "odd": (5, 33, 7), "cut": (3, 1100, 12), "odd_and_cut": (3, 1100, 5)}


@pytest.mark.parametrize("extents", DROPPED.values(), ids=DROPPED.keys())
@pytest.mark.parametrize("activation", [None, "relu"])
def test_dropout_within_linear_draws_the_same_mask(extents, activation, device, rng):
    n, c, k = extents
    inputs = [rng.integers(-2, 3, shape).astype(np.float32) for shape in ((n, c), (k, c), (k,))]
    masks = []

    def fused(x, weight, bias):
        masks.append(DropoutMask(0.5, key_on(x.device)))
        return linear(x, weight, bias, activation=activation, dropout=masks[-1])

    def apart(x, weight, bias):
        y = linear(x, weight, bias)
        return functional.dropout(relu(y) if activation else y, 0.5, key=key_on(x.device))

    dy = rng.integers(-2, 3, (n, k))
    y, grads = run(fused, inputs, device, dy)
    expected, expected_grads = run(apart, inputs, "numpy", dy)
    np.testing.assert_array_equal(y, expected)
    for got, want in zip(grads, expected_grads, strict=True):
        np.testing.assert_array_equal(got, want)
    assert masks[0].key.counter.numpy().tolist() == [6]


def test_dropout_within_linear_off_a_16_byte_boundary(unaligned_device, rng):
    inputs = [rng.integers(-2, 3, shape).astype(np.float32) for shape in ((3, 20), (8, 20), (8,))]

    check_exact(lambda *tensors: fused_on(tensors), inputs, unaligned_device, np.ones((3, 8)))


def fused_on(tensors):
    return linear(*tensors, activation="relu", dropout=DropoutMask(0.5, key_on(tensors[0].device)))


def test_dropout_within_linear_is_the_same_in_every_order_of_threads(kernel_device, rng):
    inputs = [rng.standard_normal(shape) for shape in ((3, 1100), (5, 1100), (5,))]
    check_deterministic(lambda *tensors: fused_on(tensors), inputs, kernel_device, rng)


def test_the_gradient_passes_a_linear_with_dropout_into_a_relu_within(masking_passes, kernel_device, rng):
    """Two fused layers: the second one masks what it gives the first, whose dropout then only multiplies."""
    inputs = [rng.integers(-2, 3, shape).astype(np.float32) for shape in ((3, 20), (8, 20), (6, 8))]

    def two(x, first, second):
        y = linear(x, first, activation="relu", dropout=DropoutMask(0.5, key_on(x.device)))
        return linear(y, second)

    check_exact(two, inputs, kernel_device, np.ones((3, 6)))
    assert not masking_passes
