"""Convolution, ReLU and max pooling in one pass: where there is a kernel for it, and that it is the ops one after another."""

import re

import numpy as np
import pytest
from checks import (
    check_accumulates,
    check_exact,
    check_gradient_of_kernels,
    check_kernels,
    check_thread_orders,
    leaf,
    run,
)

import minicnn
from minicnn import functional as F
from minicnn import nn, optim
from minicnn.memory_plan import blank_batch
from minicnn.ops import Conv2dMaxPool2d, affine, precision
from minicnn.ops import conv2d as conv2d_file
from minicnn.ops import conv2d_maxpool2d as op_file
from minicnn.shapes import Math, Schedule
from minicnn.step import GraphedStep, Step
from minicnn.tensor import Narrow

SQUARES = (2, 2, 0, False)
# name: (x, weight, options)
CASES = {
    "vgg": ((2, 12, 10, 8), (16, 3, 3, 8), {"padding": 1}),
    "odd_extents": ((2, 9, 11, 4), (8, 3, 3, 4), {"padding": 1}),
    "stride_and_groups": ((1, 17, 16, 8), (12, 3, 3, 4), {"stride": 2, "groups": 2}),
    "odd_channels": ((2, 7, 6, 5), (13, 3, 2, 5), {"dilation": 2, "padding": 2}),
    "past_a_tile_of_128": ((1, 24, 13, 4), (136, 1, 1, 4), {}),
    "one_window": ((3, 4, 4, 4), (4, 3, 3, 4), {}),
    "first_layer_of_vgg": ((2, 11, 18, 3), (16, 3, 3, 3), {"padding": 1}),
    "first_layer_of_alexnet": ((1, 39, 43, 3), (72, 11, 11, 3), {"stride": 4, "padding": 2}),
    "first_layer_of_lenet": ((3, 12, 12, 1), (6, 5, 5, 1), {"padding": 2}),
}
case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
halves = pytest.mark.parametrize("numbers", ("bfloat16", "float16"))
WORDS = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}


@pytest.fixture(autouse=True)
def _no_cut(monkeypatch):
    """The ops that the kernels are compared with sum as they do, whole."""
    schedule(monkeypatch, Schedule())


def schedule(monkeypatch, asked):
    monkeypatch.setattr(op_file, "AUTOMATIC", asked)
    monkeypatch.setattr(affine, "AUTOMATIC", asked)


def in_one_pass(options, window=SQUARES):
    return lambda x, weight, bias: F.conv2d_relu_max_pool2d(x, weight, bias, *(WORDS | options).values(), *window)


def in_two(options, window=SQUARES):
    return lambda *inputs: F.max_pool2d(F.conv2d(*inputs, **options, activation="relu"), *window)


def within(numbers, function):
    """The function in a precision; its backward pass is called outside."""

    def in_precision(*inputs):
        with minicnn.precision(numbers):
            return function(*inputs)

    return in_precision


def assert_same_bits(got, expected):
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))


def given(case, rng, integers=True):
    """(x, weight, bias): sums of either sign, equal ones in most windows where they are integers."""
    x, weight, _ = case
    draw = (lambda shape: rng.integers(-1, 2, shape).astype(float)) if integers else rng.standard_normal
    return [draw(shape) for shape in (x, weight, weight[:1])]


def leaves(inputs, device):
    return [leaf(np.asarray(v, np.float32), device) for v in inputs]


@case
def test_it_is_one_op_where_there_is_a_kernel(case, device, rng):
    y = in_one_pass(case[2])(*leaves(given(case, rng), device))
    assert y.op.name == ("conv2d_max_pool2d" if hasattr(device.kernels, "conv2d_maxpool2d_fits") else "max_pool2d")


@pytest.mark.parametrize(
    ("window", "asked"),
    [
        ((3, 2, 0, False), (0, 0)),
        ((2, 1, 0, False), (0, 0)),
        ((2, 2, 1, False), (0, 0)),
        ((2, 2, 0, True), (0, 0)),
        (((2, 1), 2, 0, False), (0, 0)),
        (SQUARES, (64, 2)),
    ],
    ids=["overlapping", "dense", "padded", "past_the_edge", "oblong", "a_cut_reduction"],
)
def test_else_it_is_two(window, asked, ladder_device, rng, monkeypatch):
    schedule(monkeypatch, Schedule(*asked))
    inputs, dy = given(CASES["odd_extents"], rng), None
    y, grads = run(in_one_pass({"padding": 1}, window), [v.astype(np.float32) for v in inputs], ladder_device, dy)
    expected, expected_grads = run(in_two({"padding": 1}, window), inputs, "numpy", dy)
    np.testing.assert_array_equal(y, expected)
    for got, other in zip(grads, expected_grads, strict=True):
        np.testing.assert_array_equal(got, other)
    assert in_one_pass({"padding": 1}, window)(*leaves(inputs, ladder_device)).op.name == "max_pool2d"


def test_the_lower_rung_keeps_them_apart(ladder_device, rng, monkeypatch):
    monkeypatch.setattr(conv2d_file, "rung", lambda: "im2col")
    assert in_one_pass({"padding": 1})(*leaves(given(CASES["vgg"], rng), ladder_device)).op.name == "max_pool2d"


@pytest.mark.parametrize("numbers", ["tf32", "bfloat16", "float16"])
def test_in_every_precision_it_is_one_op(numbers, ladder_device, rng):
    inputs = given(CASES["vgg"], rng)
    y = within(numbers, in_one_pass({"padding": 1}))(*leaves(inputs, ladder_device))
    assert y.op.name == "conv2d_max_pool2d" and isinstance(y.held, Narrow) == (numbers != "tf32")
    np.testing.assert_array_equal(y.numpy(), in_two({"padding": 1})(*leaves(inputs, "numpy")).numpy())


@case
def test_kernels_are_exact_on_integers(case, kernel_device, rng):
    inputs = given(case, rng)
    dy = rng.integers(-3, 4, in_two(case[2])(*leaves(inputs, "numpy")).shape)
    check_exact(in_one_pass(case[2]), inputs, kernel_device, dy)


@pytest.mark.parametrize("how", Math, ids=lambda how: how.name)
@pytest.mark.parametrize("tile", [0, 64, 128])
def test_every_tile_and_arithmetic_is_exact(tile, how, ladder_device, rng, monkeypatch):
    schedule(monkeypatch, Schedule(tile, 0 if tile == 0 else 1, how))
    for name in ("odd_extents", "stride_and_groups", "past_a_tile_of_128", "first_layer_of_vgg"):
        options, inputs = CASES[name][2], given(CASES[name], rng)
        dy = rng.integers(-3, 4, in_two(options)(*leaves(inputs, "numpy")).shape)
        check_exact(in_one_pass(options), inputs, ladder_device, dy)


@case
def test_real_numbers_are_the_bits_of_the_ops_apart(case, ladder_device, rng):
    """The same sums in the same order, and so the same winners."""
    inputs = [v.astype(np.float32) for v in given(case, rng, integers=False)]
    dy = rng.standard_normal(in_two(case[2])(*leaves(inputs, "numpy")).shape)
    y, grads = run(in_one_pass(case[2]), inputs, ladder_device, dy)
    expected, expected_grads = run(in_two(case[2]), inputs, ladder_device, dy)
    np.testing.assert_array_equal(y, expected)
    for got, apart in zip(grads, expected_grads, strict=True):
        np.testing.assert_array_equal(got, apart)


@pytest.mark.parametrize("name", ["odd_channels", "first_layer_of_vgg"])
def test_kernels_match_the_reference(name, kernel_device, rng):
    check_kernels(in_one_pass(CASES[name][2]), given(CASES[name], rng, integers=False), kernel_device, rng, atol=2e-5)


@pytest.mark.parametrize("name", ["vgg", "first_layer_of_vgg"])
@pytest.mark.parametrize("how", Math, ids=lambda how: how.name)
def test_nan_wins(how, name, ladder_device, rng, monkeypatch):
    schedule(monkeypatch, Schedule(math=how))
    check_nan_wins(in_one_pass({}), name, ladder_device, rng)


def check_nan_wins(function, name, device, rng):
    """And of two the last one: each is one pixel's of a 1 x 1 convolution."""
    channels = CASES[name][0][3]
    x, weight = np.ones((1, 8, 8, channels)), np.ones((8, 1, 1, channels))
    x[0, 2, 3, 0] = x[0, 4, 4, 0] = x[0, 5, 5, 0] = np.nan
    dy = rng.integers(1, 4, (1, 4, 4, 8))
    y, (dx, _, _) = run(function, [v.astype(np.float32) for v in (x, weight, np.zeros(8))], device, dy)
    assert np.isnan(y[0, 1, 1]).all() and np.isnan(y[0, 2, 2]).all() and np.isnan(y).sum() == 16
    winners = np.argwhere(dx[0, :, :, 0]).tolist()
    assert [2, 3] in winners and [5, 5] in winners and [4, 4] not in winners and len(winners) == 16


def test_arrays_off_a_16_byte_boundary(unaligned_device, rng):
    for name in ("vgg", "first_layer_of_vgg"):
        inputs = given(CASES[name], rng)
        dy = rng.integers(-3, 4, in_two(CASES[name][2])(*leaves(inputs, "numpy")).shape)
        check_exact(in_one_pass(CASES[name][2]), inputs, unaligned_device, dy)


def test_without_a_bias(ladder_device, rng):
    x, weight, _ = given(CASES["vgg"], rng)
    y, _ = run(lambda x, w: in_one_pass({"padding": 1})(x, w, None), [v.astype(np.float32) for v in (x, weight)],
               ladder_device)  # fmt: skip
    np.testing.assert_array_equal(y, in_two({"padding": 1})(*leaves([x, weight], "numpy")).numpy())


def test_without_a_gradient_no_places_are_kept(ladder_device, rng):
    inputs = leaves(given(CASES["vgg"], rng), ladder_device)
    expected = in_one_pass({"padding": 1})(*inputs).numpy()
    op = Conv2dMaxPool2d(1, 1, 1, 1, SQUARES)
    with minicnn.no_grad():
        np.testing.assert_array_equal(op(*inputs).numpy(), expected)
    assert op.index is None


def test_gradient_of_the_kernels(ladder_device, rng):
    """Away from the kinks: each window's winner is far ahead."""
    x = rng.permutation(np.arange(1.0, 129.0)).reshape(2, 8, 8, 1) @ np.ones((1, 4))
    inputs = [x, np.ones((4, 1, 1, 4)) / 4, np.ones(4)]
    check_gradient_of_kernels(in_one_pass({}), inputs, ladder_device, eps=0.05, rtol=1e-3)


@pytest.mark.parametrize("name", ["vgg", "first_layer_of_vgg"])
def test_gradients_accumulate(name, ladder_device, rng):
    check_accumulates(in_one_pass(CASES[name][2]), given(CASES[name], rng), ladder_device)


@pytest.mark.parametrize("how", [Math.float32, Math.tf32], ids=lambda how: how.name)
@pytest.mark.parametrize("name", ["odd_extents", "first_layer_of_vgg"])
def test_every_order_of_threads_gives_the_same_bits(name, how, rng, monkeypatch):
    schedule(monkeypatch, Schedule(math=how))
    device = minicnn.backend.device("emulated")
    inputs = [v.astype(np.float32) for v in given(CASES[name], rng, integers=False)]

    def compute():
        y, grads = run(in_one_pass(CASES[name][2]), inputs, device)
        return y, *grads

    check_thread_orders(compute, device)


def test_an_empty_batch(device):
    inputs = [np.full(shape, 1.0, np.float32) for shape in ((0, 6, 6, 4), (8, 3, 3, 4), (8,))]
    y, (dx, dweight, dbias) = run(in_one_pass({}), inputs, device)
    assert y.shape == (0, 2, 2, 8) and dx.shape == (0, 6, 6, 4)
    assert not dweight.any() and not dbias.any()


def test_a_device_without_the_kernel_refuses_the_op(rng):
    inputs = leaves(given(CASES["vgg"], rng), "numpy")
    message = "conv2d_max_pool2d: there is no kernel for this on device 'numpy'; use one op after another"
    with pytest.raises(minicnn.OpError, match=f"^{re.escape(message)}$"):
        Conv2dMaxPool2d(1, 1, 1, 1, SQUARES)(*inputs)


def test_sums_in_parts_are_refused(ladder_device, rng):
    x, weight = (ladder_device.array(np.ones(shape, np.float32)) for shape in CASES["vgg"][:2])
    shape = minicnn.shapes.ConvShape.of("conv2d", x.shape, weight.shape, 1, 1, 1, 1)
    y, workspace = ladder_device.empty((2, 6, 5, 16)), ladder_device.empty((0,))
    message = "conv2d_maxpool2d_forward: sums in parts have no maximum: conv2d_maxpool2d_fits says where they are whole"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ladder_device.kernels.conv2d_maxpool2d_forward(x, weight, None, y, None, workspace, shape, Schedule(64, 2))


def test_a_long_reduction_of_few_windows_is_no_case_for_it(ladder_device):
    """Better cut in parts, whose sums have no maximum; with few channels it is not cut."""
    fits = ladder_device.kernels.conv2d_maxpool2d_fits
    for channels, expected in ((512, 0), (8, 1)):
        shape = minicnn.shapes.ConvShape.of("conv2d", (1, 8, 8, channels), (64, 3, 3, channels), 1, 1, 1, 1)
        pool = minicnn.shapes.PoolShape.of("max_pool2d", shape.out, *SQUARES)
        assert fits(shape, pool, Schedule()) == expected


@pytest.mark.parametrize("math", Math, ids=lambda math: math.name)
@pytest.mark.parametrize("channels", [3, 8])
def test_it_multiplies_as_asked(channels, math, ladder_device, monkeypatch):
    schedule(monkeypatch, Schedule(math=math))
    fine = 1 + 2.0**-12  # of which TF32 keeps 1
    inputs = [np.full(shape, fine, np.float32) for shape in ((1, 4, 4, channels), (8, 3, 3, channels))]
    y, _ = run(lambda x, weight: in_one_pass({})(x, weight, None), inputs, ladder_device)
    rounded = 1 if math is Math.tf32 else fine
    np.testing.assert_allclose(y, np.full((1, 1, 1, 8), 9 * channels * rounded**2), rtol=2.0**-20)


# ---- numbers of 16 bits ----


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
