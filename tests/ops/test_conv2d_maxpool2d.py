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
    run,
)
from pooled_convolutions import (
    CASES,
    SQUARES,
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
from minicnn.ops import Conv2dMaxPool2d
from minicnn.ops import conv2d as conv2d_file
from minicnn.shapes import Math, Schedule
from minicnn.tensor import Narrow


@pytest.fixture(autouse=True)
def _no_cut(monkeypatch):
    """The ops that the kernels are compared with sum as they do, whole."""
    schedule(monkeypatch, Schedule())


@case
def test_it_is_one_op_where_there_is_a_kernel(case, device, rng):
    y = in_one_pass(case[2])(*leaves(given(case, rng), device))
    assert y.op.name == ("conv2d_max_pool2d" if hasattr(device.kernels, "conv2d_maxpool2d_fits") else "max_pool2d")


@pytest.mark.parametrize(
    ("window", "asked"),
    [
        ((3, 2, 0, False), (0, 0)),
        ((2, 1, 0, False), (0, 0)),
        ((2, (1, 2), 0, False), (0, 0)),
        ((2, (2, 1), 0, False), (0, 0)),
        ((2, 2, 1, False), (0, 0)),
        ((2, 2, (1, 0), False), (0, 0)),
        ((2, 2, (0, 1), False), (0, 0)),
        ((2, 2, 0, True), (0, 0)),
        (((2, 1), 2, 0, False), (0, 0)),
        (((1, 2), 2, 0, False), (0, 0)),
        (SQUARES, (64, 2)),
    ],
    ids=[
        "overlapping",
        "dense",
        "dense_rows",
        "dense_columns",
        "padded",
        "padded_rows",
        "padded_columns",
        "past_the_edge",
        "tall",
        "wide",
        "a_cut_reduction",
    ],
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
