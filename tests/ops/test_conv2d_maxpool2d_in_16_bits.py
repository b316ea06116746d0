"""Convolution, ReLU and max pooling in one pass in bfloat16 and float16: the bits of the ops one after another, in whole
steps too."""

import numpy as np
import pytest
from checks import check_accumulates, check_exact, check_thread_orders, leaf, run
from pooled_convolutions import (
    CASES,
    SQUARES,
    assert_same_bits,
    case,
    check_nan_wins,
    given,
    in_one_pass,
    in_two,
    leaves,
    schedule,
    within,
)

import minicnn
from minicnn import functional as F
from minicnn import nn, optim
from minicnn.memory_plan import blank_batch
from minicnn.ops import Conv2dMaxPool2d, precision
from minicnn.shapes import Schedule
from minicnn.step import GraphedStep, Step

halves = pytest.mark.parametrize("numbers", ("bfloat16", "float16"))


@pytest.fixture(autouse=True)
def _no_cut(monkeypatch):
    """The ops that the kernels are compared with sum as they do, whole."""
    schedule(monkeypatch, Schedule())


@case
@halves
def test_16_bits_are_exact_on_integers(numbers, case, ladder_device, rng):
    inputs = given(case, rng)
    dy = rng.integers(-3, 4, in_two(case[2])(*leaves(inputs, "numpy")).shape)
    check_exact(within(numbers, in_one_pass(case[2])), inputs, ladder_device, dy)


@halves
@pytest.mark.parametrize("tile", [64, 128])
def test_every_tile_of_16_bits_is_exact(tile, numbers, ladder_device, rng, monkeypatch):
    schedule(monkeypatch, Schedule(tile, 1))
    for name in ("vgg", "odd_extents", "stride_and_groups", "past_a_tile_of_128", "first_layer_of_vgg"):
        options, inputs = CASES[name][2], given(CASES[name], rng)
        dy = rng.integers(-3, 4, in_two(options)(*leaves(inputs, "numpy")).shape)
        check_exact(within(numbers, in_one_pass(options)), inputs, ladder_device, dy)


@pytest.mark.parametrize("name", ["odd_channels", "vgg", "first_layer_of_vgg"])
@halves
def test_16_bits_match_the_reference(numbers, name, ladder_device, rng):
    """The sums of the rounded operands in float64, within half a last bit and what float32 sums are off by."""
    inputs = [v.astype(np.float32) for v in given(CASES[name], rng, integers=False)]
    for operand in inputs[:2]:
        precision.ROUNDING[numbers](operand, operand)
    expected = in_two(CASES[name][2])(*(leaf(v.astype(np.float64), "numpy") for v in inputs)).numpy()
    y, _ = run(within(numbers, in_one_pass(CASES[name][2])), inputs, ladder_device)
    half_a_bit = {"bfloat16": 2.0**-9, "float16": 2.0**-12}[numbers]
    np.testing.assert_allclose(y, expected, rtol=2 * half_a_bit, atol=2e-5)


@case
@halves
def test_16_bits_are_the_bits_of_the_ops_apart(numbers, case, ladder_device, rng):
    inputs = [v.astype(np.float32) for v in given(case, rng, integers=False)]
    dy = rng.standard_normal(in_two(case[2])(*leaves(inputs, "numpy")).shape)
    results = [run(within(numbers, way(case[2])), inputs, ladder_device, dy) for way in (in_one_pass, in_two)]
    assert_same_bits(*([y, *grads] for y, grads in results))


# (numbers, the sums of a window as x[0] * w[0] + x[1] * w[1], w, y, place of the winner)
ROUNDED_SUMS = {
    "to_one_number": (("bfloat16", "float16"), [(0, 0), (1, 0), (1, 2**-6), (0, 0)], (1, 2**-6), 1, 1),
    "to_infinity": (("float16",), [(0, 0), (0, 0), (2**8, 0), (2**9, 0)], (2**8, 0), np.inf, 2),
    "to_0": (("float16",), [(0, 0), (2**-13, 0), (0, 0), (0, 0)], (2**-13, 0), 0, None),
}


@pytest.mark.parametrize("channels", [3, 8])
@pytest.mark.parametrize(
    ("numbers", "window", "w", "expected", "winner"),
    [(numbers, *case) for several, *case in ROUNDED_SUMS.values() for numbers in several],
    ids=[f"{numbers}-{name}" for name, (several, *_) in ROUNDED_SUMS.items() for numbers in several],
)
def test_sums_are_compared_as_they_are_written(numbers, window, w, expected, winner, channels, ladder_device):
    """Of two that are rounded to one number the first wins, and what is rounded to 0 lets no gradient pass."""
    x, weight = np.zeros((1, 2, 2, channels), np.float32), np.zeros((8, 1, 1, channels), np.float32)
    x[0, ..., :2] = np.reshape(window, (2, 2, 2))
    weight[..., :2] = w
    for way in (in_one_pass, in_two):
        leaves = [leaf(values, ladder_device) for values in (x, weight, np.zeros(8, np.float32))]
        y = within(numbers, way({}))(*leaves)
        y.backward(np.eye(1, 8, dtype=np.float32).reshape(1, 1, 1, 8))
        assert (y.numpy() == expected).all()
        assert np.flatnonzero(leaves[0].grad.numpy().any(axis=-1)).tolist() == ([] if winner is None else [winner])


@pytest.mark.parametrize("name", ["vgg", "first_layer_of_vgg"])
@halves
def test_nan_wins_in_16_bits(numbers, name, ladder_device, rng):
    check_nan_wins(within(numbers, in_one_pass({})), name, ladder_device, rng)


@halves
def test_arrays_of_16_bits_off_a_16_byte_boundary(numbers, unaligned_device, rng):
    for name in ("vgg", "first_layer_of_vgg"):
        inputs = given(CASES[name], rng)
        dy = rng.integers(-3, 4, in_two(CASES[name][2])(*leaves(inputs, "numpy")).shape)
        check_exact(within(numbers, in_one_pass(CASES[name][2])), inputs, unaligned_device, dy)


@pytest.mark.parametrize("name", ["vgg", "first_layer_of_vgg"])
@halves
def test_gradients_of_16_bits_accumulate(numbers, name, ladder_device, rng):
    check_accumulates(within(numbers, in_one_pass(CASES[name][2])), given(CASES[name], rng), ladder_device)


@pytest.mark.parametrize("name", ["odd_extents", "first_layer_of_vgg"])
@halves
def test_every_order_of_threads_gives_the_same_16_bits(numbers, name, rng):
    device = minicnn.backend.device("emulated")
    inputs = [v.astype(np.float32) for v in given(CASES[name], rng, integers=False)]

    def compute():
        y, grads = run(within(numbers, in_one_pass(CASES[name][2])), inputs, device)
        return y, *grads

    check_thread_orders(compute, device)


@halves
def test_an_empty_batch_in_16_bits(numbers, ladder_device):
    inputs = [np.full(shape, 1.0, np.float32) for shape in ((0, 6, 6, 4), (8, 3, 3, 4), (8,))]
    y, (dx, dweight, dbias) = run(within(numbers, in_one_pass({})), inputs, ladder_device)
    assert y.shape == (0, 2, 2, 8) and dx.shape == (0, 6, 6, 4)
    assert not dweight.any() and not dbias.any()


@halves
def test_without_a_gradient_no_places_of_16_bits_are_kept(numbers, ladder_device, rng):
    inputs = leaves(given(CASES["vgg"], rng), ladder_device)
    op = Conv2dMaxPool2d(1, 1, 1, 1, SQUARES)
    expected = within(numbers, in_one_pass({"padding": 1}))(*inputs).numpy()
    with minicnn.no_grad():
        np.testing.assert_array_equal(within(numbers, op)(*inputs).numpy(), expected)
    assert op.index is None


def test_float16_on_turing_is_exact(turing_device, rng):
    dy = rng.integers(-3, 4, (2, 6, 5, 16))
    check_exact(within("float16", in_one_pass({"padding": 1})), given(CASES["vgg"], rng), turing_device, dy)


@pytest.mark.parametrize("name", ["vgg", "first_layer_of_vgg"])
def test_bfloat16_on_turing_is_refused(name, turing_device, rng):
    inputs = leaves(given(CASES[name], rng), turing_device)
    message = "^conv2d_maxpool2d_forward_bfloat16: bfloat16 wants a GPU of compute capability 8.0, this one has 7.5"
    with pytest.raises(ValueError, match=message):
        within("bfloat16", in_one_pass({"padding": 1}))(*inputs)


# Networks whose gradient reaches the pooling in every way: in 16 bits, in float32 where two add up, as unrounded sums of
# windows that overlap, and from layers of another precision.


def chain(x, w):
    x = F.conv2d_relu_max_pool2d(x, w[0], w[1], 1, 1, 1, 1, 2)
    return F.conv2d(F.conv2d_relu_max_pool2d(x, w[2], None, 1, 1, 1, 1, 2), w[2], padding=1)


def two_readers(x, w):
    x = F.conv2d_relu_max_pool2d(x, w[0], w[1], 1, 1, 1, 1, 2)
    return F.conv2d(x, w[2], padding=1) + F.conv2d(x, w[3], padding=1)


def pooled_again(x, w):
    x = F.conv2d_relu_max_pool2d(x, w[0], w[1], 1, 1, 1, 1, 2)
    return F.conv2d(F.max_pool2d(x, 3, 1, 1), w[2], padding=1)


def another_precision(x, w):
    y = []
    for numbers in ("float32", "tf32", "bfloat16", "float16"):
        pooled = F.conv2d_relu_max_pool2d(x, w[0], w[1], 1, 1, 1, 1, 2)
        with minicnn.precision(numbers):
            y.append(F.conv2d(F.conv2d_relu_max_pool2d(pooled, w[2], None, 1, 1, 1, 1, 2), w[3], padding=1))
    return sum(y[1:], y[0])


@pytest.mark.parametrize("network", [chain, two_readers, pooled_again, another_precision])
@halves
def test_its_neighbours_see_the_bits_of_the_ops_apart(network, numbers, ladder_device, rng, monkeypatch):
    shapes = (4, 16, 16, 3), (8, 3, 3, 3), (8,), (8, 3, 3, 8), (8, 3, 3, 8)
    inputs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    results = []
    for apart in (False, True):
        if apart:
            monkeypatch.setattr(Conv2dMaxPool2d, "fits", lambda *_: False)
        y, grads = run(within(numbers, lambda x, *w: network(x, w)), inputs, ladder_device)
        results.append([y, *(grad for grad in grads if grad is not None)])
    assert_same_bits(*results)


def vgg_like():
    minicnn.manual_seed(5)
    first = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    second = nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(48, 10))


@pytest.mark.parametrize("kind", [Step, GraphedStep])
@pytest.mark.parametrize("micro_batch", [None, 2])
@halves
def test_a_step_has_the_bits_of_the_layers_apart(numbers, micro_batch, kind, ladder_device, rng, monkeypatch):
    images, labels = blank_batch((3, 8, 8, 3))
    images = images._replace(images=rng.integers(0, 256, (3, 8, 8, 3), np.uint8), scale=np.full(3, 1 / 64, np.float32))
    results = []
    for apart in (False, True):
        if apart:
            monkeypatch.setattr(Conv2dMaxPool2d, "fits", lambda *_: False)
        model = vgg_like().to(ladder_device)
        step = kind(model, optim.SGD(model.parameters(), 0.05, 0.9), 0.0, 1.0, micro_batch, numbers)
        parts = [part for _ in range(3) for part in step(images, labels)]
        results.append([*(np.array(v.numpy()) for part in parts for v in part[:2]), *model.state_dict().values()])
    assert_same_bits(*results)
