"""Convolution: loops and PyTorch for the reference, then both rungs of kernels, exact on integers in every pass."""

import math
import re

import numpy as np
import pytest
from checks import SCHEDULES, check_accumulates, check_exact, check_kernels, leaf, run, thread_order
from tolerances import assert_close

import minicnn
from minicnn.functional import conv2d
from minicnn.ops import affine
from minicnn.ops import conv2d as op_file
from minicnn.shapes import AUTOMATIC

# name: (x, weight, options); each says what it exercises
CASES = {
    "one_pixel_window": ((2, 5, 4, 3), (4, 1, 1, 3), {}),
    "rectangular_window_and_image": ((2, 7, 5, 3), (4, 3, 2, 3), {}),
    "padding_on_all_sides": ((1, 5, 6, 4), (5, 3, 3, 4), {"padding": 1}),
    "uneven_padding": ((1, 5, 6, 4), (5, 3, 2, 4), {"padding": (0, 2)}),
    "window_larger_than_the_image": ((2, 2, 3, 2), (3, 4, 5, 2), {"padding": 2}),
    "window_as_large_as_the_image": ((3, 4, 5, 2), (6, 4, 5, 2), {}),
    "stride": ((2, 9, 8, 4), (4, 3, 3, 4), {"stride": 2, "padding": 1}),
    "stride_beyond_the_window": ((1, 11, 10, 2), (3, 2, 2, 2), {"stride": (3, 4)}),
    "dilation_and_padding": ((1, 9, 10, 3), (4, 3, 3, 3), {"dilation": 2, "padding": 2}),
    "dilation_and_stride": ((1, 13, 12, 2), (3, 3, 3, 2), {"dilation": (3, 2), "stride": (2, 3), "padding": (3, 1)}),
    "two_groups": ((2, 6, 5, 8), (6, 3, 3, 4), {"groups": 2, "padding": 1}),
    "depthwise": ((2, 6, 5, 6), (12, 3, 3, 1), {"groups": 6, "padding": 1}),
    "first_layer_of_alexnet": ((1, 27, 23, 3), (8, 11, 11, 3), {"stride": 4, "padding": 2}),
    "one_channel": ((3, 8, 9, 1), (4, 5, 3, 1), {"padding": (2, 0), "stride": (1, 2), "dilation": (1, 2)}),
    "past_a_tile_of_64": ((1, 9, 8, 5), (65, 3, 3, 5), {"padding": 1}),
    "past_a_tile_of_128": ((1, 12, 11, 15), (130, 3, 3, 15), {"padding": 1}),
    "one_short_of_a_tile": ((1, 9, 7, 7), (63, 3, 3, 7), {"padding": 1}),
}
CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
RUNG = pytest.mark.parametrize("rung", ["implicit", "im2col"])
DIRECTIONS = ("forward", "backward_input", "backward_weight")


def given(case, rng, integers=False):
    """(function, inputs) of a case, with a bias."""
    x, weight, options = case
    draw = (lambda shape: rng.integers(-3, 4, shape).astype(float)) if integers else rng.standard_normal
    return (lambda *inputs: conv2d(*inputs, **options)), [draw(x), draw(weight), draw(weight[:1])]


def loops(x, weight, bias, stride=1, padding=0, dilation=1, groups=1):
    """The formula, tap by tap."""
    (sh, sw), (ph, pw), (dh, dw) = (v if isinstance(v, tuple) else (v, v) for v in (stride, padding, dilation))
    (n, h, w, _), (k, r, s, cg) = x.shape, weight.shape
    p, q = (h + 2 * ph - dh * (r - 1) - 1) // sh + 1, (w + 2 * pw - dw * (s - 1) - 1) // sw + 1
    y = np.zeros((n, p, q, k)) + bias
    for ni, pi, qi, ki, ri, si in np.ndindex(n, p, q, k, r, s):
        hi, wi = pi * sh - ph + ri * dh, qi * sw - pw + si * dw
        if 0 <= hi < h and 0 <= wi < w:
            first = ki // (k // groups) * cg
            y[ni, pi, qi, ki] += x[ni, hi, wi, first : first + cg] @ weight[ki, ri, si]
    return y


@CASE
def test_reference_is_the_formula(case, rng):
    function, inputs = given(case, rng)
    y, _ = run(function, inputs, "numpy")
    assert_close(y, loops(*inputs, **case[2]))


@CASE
def test_reference_agrees_with_torch(case, rng, torch):
    function, inputs = given(case, rng)
    x, weight, bias = (torch.tensor(v, requires_grad=True) for v in inputs)
    second = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), weight.permute(0, 3, 1, 2), bias, **case[2]).permute(
        0, 2, 3, 1
    )
    dy = rng.standard_normal(second.shape)
    second.backward(torch.tensor(dy))
    y, grads = run(function, inputs, "numpy", dy)
    assert_close(y, second.detach().numpy())
    for got, expected in zip(grads, (x, weight, bias), strict=True):
        assert_close(got, expected.grad.numpy(), rtol=1e-10, atol=1e-10)


@CASE
def test_gradient_of_the_reference(case, rng):
    function, inputs = given(case, rng)
    minicnn.gradcheck(function, [leaf(v, "numpy") for v in inputs], eps=1.0)


def test_the_chunks_do_not_show(rng, monkeypatch):
    function, inputs = given(CASES["stride"], rng)
    whole, whole_grads = run(function, inputs, "numpy")
    for chunk_bytes in (1, 3000):  # a row at a time; an image and a bit
        monkeypatch.setattr(op_file, "PATCH_BYTES", chunk_bytes)
        monkeypatch.setattr(op_file, "SHARE_BYTES", chunk_bytes)
        y, grads = run(function, inputs, "numpy")
        assert_close(y, whole)
        for got, expected in zip(grads, whole_grads, strict=True):
            assert_close(got, expected)


@CASE
@RUNG
def test_kernels_match_the_reference(case, rung, kernel_device, rng, monkeypatch):
    monkeypatch.setattr(op_file, "rung", lambda: rung)
    check_kernels(*given(case, rng), kernel_device, rng, atol=2e-5)  # sums of up to 363 terms of size 1


@CASE
@RUNG
def test_kernels_are_exact_on_integers(case, rung, kernel_device, rng, monkeypatch):
    monkeypatch.setattr(op_file, "rung", lambda: rung)
    function, inputs = given(case, rng, integers=True)
    dy = rng.integers(-3, 4, function(*(leaf(v, "numpy") for v in inputs)).shape)
    check_exact(function, inputs, kernel_device, dy)


@pytest.mark.parametrize("schedule", [(64, 1), (64, 3), (128, 1), (128, 2)], ids=str)
def test_every_tile_and_cut_of_the_implicit_kernels_is_exact(schedule, kernel_device, rng, monkeypatch):
    monkeypatch.setattr(affine, "AUTOMATIC", schedule)
    for name in ("two_groups", "stride", "past_a_tile_of_128"):
        function, inputs = given(CASES[name], rng, integers=True)
        dy = rng.integers(-3, 4, function(*(leaf(v, "numpy") for v in inputs)).shape)
        check_exact(function, inputs, kernel_device, dy)


@pytest.mark.parametrize("chunks", [2, 3])
def test_every_chunking_of_im2col_is_exact(chunks, kernel_device, rng, monkeypatch):
    monkeypatch.setattr(op_file, "rung", lambda: "im2col")
    monkeypatch.setattr(affine, "AUTOMATIC", (0, chunks))
    x, weight, options = CASES["two_groups"]
    function, inputs = given(((5, *x[1:]), weight, options), rng, integers=True)
    dy = rng.integers(-3, 4, function(*(leaf(v, "numpy") for v in inputs)).shape)
    check_exact(function, inputs, kernel_device, dy)


@pytest.mark.parametrize(("chunks", "images"), [(0, 5), (1, 5), (2, 3), (3, 2), (5, 1), (9, 1)], ids=str)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_im2col_asks_for_the_columns_of_one_chunk(direction, chunks, images, ladder_device):
    x, weight, _ = CASES["two_groups"]
    shape = op_file.ConvShape.of("conv2d", (5, *x[1:]), weight, 1, 1, 1, 2)
    workspace = getattr(ladder_device.kernels, f"conv2d_im2col_{direction}_workspace")
    assert workspace(shape, (0, chunks)) == images * shape.p * shape.q * math.prod(weight[1:])


@pytest.mark.parametrize(("columns_of_one", "images"), [((1 << 24) // 3, 3), ((1 << 24) // 3 + 1, 2), (1 << 25, 1)])
def test_im2col_takes_as_many_images_as_fit_into_64_mib(columns_of_one, images, ladder_device):
    shape = op_file.ConvShape.of("conv2d", (4, 1, 1, columns_of_one), (1, 1, 1, columns_of_one), 1, 0, 1, 1)
    assert ladder_device.kernels.conv2d_im2col_forward_workspace(shape, (0, 0)) == images * columns_of_one


@pytest.mark.parametrize(("x", "weight"), [((2, 7, 37, 1024), (512, 3, 5, 512)), ((64, 7, 37, 8), (16, 3, 5, 4))])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_long_reduction_is_cut_into_parts_of_at_least_256(direction, x, weight, ladder_device):
    """A result of few tiles leaves most processors without work: its reduction is shared among them."""
    shape = op_file.ConvShape.of("conv2d", x, weight, (2, 3), 0, 1, 2)
    taps_of_one_residue_class = math.ceil(3 / 2) * math.ceil(5 / 3)
    reduction, results = {
        "forward": (math.prod(weight[1:]), math.prod(shape.out)),
        "backward_input": (taps_of_one_residue_class * weight[0] // 2, math.prod(x)),
        "backward_weight": (x[0] * shape.p * shape.q, math.prod(weight) + weight[0]),  # and of the bias
    }[direction]
    parts = max(1, reduction // 256)
    kernels = ladder_device.kernels
    bias_alone = kernels.reduction_workspace(1, reduction, shape.k) if direction == "backward_weight" else 0
    workspace = getattr(kernels, f"conv2d_{direction}_workspace")(shape, AUTOMATIC)
    assert workspace == max(parts * results if parts > 1 else 0, bias_alone)


@RUNG
def test_arrays_off_a_16_byte_boundary(rung, unaligned_device, rng, monkeypatch):
    monkeypatch.setattr(op_file, "rung", lambda: rung)
    x, weight, options = CASES["two_groups"]
    function, inputs = given((x, (8, *weight[1:]), options), rng)  # all channel counts multiples of four
    check_kernels(function, inputs, unaligned_device, rng, atol=2e-5)


@RUNG
def test_adjoint_identities(rung, kernel_device, rng, monkeypatch):
    """<conv(x, w), g> = <x, dgrad(g, w)> = <w, wgrad(g, x)>."""
    monkeypatch.setattr(op_file, "rung", lambda: rung)
    for name in ("stride", "two_groups", "dilation_and_stride"):
        function, (x, weight, _) = given(CASES[name], rng)
        x, weight = x.astype(np.float32), weight.astype(np.float32)
        g = rng.standard_normal(function(leaf(x, "numpy"), leaf(weight, "numpy")).shape).astype(np.float32)
        y, (dx, dweight) = run(function, [x, weight], kernel_device, g)
        products = [np.vdot(a.astype(float), b) for a, b in ((y, g), (x, dx), (weight, dweight))]
        assert products[1:] == pytest.approx(products[:1] * 2, rel=1e-4)


@RUNG
def test_gradient_of_the_kernels(rung, kernel_device, rng, monkeypatch):
    monkeypatch.setattr(op_file, "rung", lambda: rung)
    function, inputs = given(CASES["two_groups"], rng)
    leaves = [leaf(v.astype(np.float32), kernel_device) for v in inputs]
    minicnn.gradcheck(function, leaves, eps=1.0, rtol=1e-4, atol=1e-3)


@RUNG
@pytest.mark.parametrize("schedule", [AUTOMATIC, (64, 2)], ids=str)
def test_gradients_accumulate(schedule, rung, device, rng, monkeypatch):
    monkeypatch.setattr(op_file, "rung", lambda: rung)
    monkeypatch.setattr(affine, "AUTOMATIC", schedule)
    check_accumulates(*given(CASES["two_groups"], rng), device)


@RUNG
def test_every_order_of_threads_gives_the_same_bits(rung, rng, monkeypatch):
    monkeypatch.setattr(op_file, "rung", lambda: rung)
    device = minicnn.backend.device("emulated")
    function, inputs = given(CASES["stride"], rng)
    inputs, results = [v.astype(np.float32) for v in inputs], []
    for schedule in SCHEDULES:
        with thread_order(device, *schedule):
            y, grads = run(function, inputs, device)
        results.append([y, *grads])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@RUNG
def test_an_empty_batch_has_zero_gradients(rung, device, monkeypatch):
    monkeypatch.setattr(op_file, "rung", lambda: rung)
    inputs = [np.full(shape, 1.0, np.float32) for shape in ((0, 5, 5, 2), (3, 3, 3, 2), (3,))]
    y, (dx, dweight, dbias) = run(conv2d, inputs, device)
    assert y.shape == (0, 3, 3, 3) and dx.shape == (0, 5, 5, 2)
    assert not dweight.any() and not dbias.any()


@pytest.mark.parametrize("numbers", ["float32", "tf32", "bfloat16", "float16"])
def test_an_empty_batch_of_many_channels(numbers, device):
    inputs = [np.full(shape, 1.0, np.float32) for shape in ((0, 5, 5, 8), (16, 3, 3, 8), (16,))]
    with minicnn.precision(numbers):
        y, (dx, dweight, dbias) = run(conv2d, inputs, device)
    assert y.shape == (0, 3, 3, 16) and dx.shape == (0, 5, 5, 8)
    assert not dweight.any() and not dbias.any()


@pytest.mark.parametrize(
    ("x", "weight", "options", "message"),
    [
        (
            (8, 27, 27, 64),
            (256, 5, 5, 96),
            {},
            "conv2d: weight expects 96 input channels but x has 64 (x is (8, 27, 27, 64), weight (256, 5, 5, 96))",
        ),
        (
            (2, 5, 5),
            (4, 3, 3, 3),
            {},
            "conv2d: x must be (N, H, W, C) and weight (K, R, S, C/groups), got (2, 5, 5) and (4, 3, 3, 3)",
        ),
        (
            (1, 5, 5, 4),
            (6, 3, 3, 2),
            {"groups": 3},
            "conv2d: groups=3 must divide the 4 input and the 6 output channels",
        ),
        ((1, 5, 5, 0), (6, 3, 3, 0), {}, "conv2d: weight must have at least one element, got (6, 3, 3, 0)"),
        ((1, 5, 5, 4), (0, 3, 3, 4), {}, "conv2d: weight must have at least one element, got (0, 3, 3, 4)"),
        (
            (1, 5, 5, 4),
            (6, 3, 3, 4),
            {"stride": 0},
            "conv2d: stride must be an integer of at least 1 or a pair of them, got 0",
        ),
        (
            (1, 5, 5, 4),
            (6, 3, 3, 4),
            {"padding": (1, -1)},
            "conv2d: padding must be an integer of at least 0 or a pair of them, got (1, -1)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(x, weight, options, message, device):
    tensors = [minicnn.tensor(np.zeros(shape, np.float32), device=device) for shape in (x, weight)]
    with pytest.raises(minicnn.OpError, match=f"^{re.escape(message)}$"):
        conv2d(*tensors, **options)


def test_a_window_that_does_not_fit_says_what_to_do(device):
    tensors = [minicnn.tensor(np.zeros(shape, np.float32), device=device) for shape in ((1, 4, 9, 2), (3, 7, 7, 2))]
    with pytest.raises(
        minicnn.OpError, match=r"^conv2d: a window of 7 does not fit into height 4 \+ 2\*1 padding; use a larger"
    ):
        conv2d(*tensors, padding=1)


def test_a_bias_of_another_length_is_refused(device):
    tensors = [
        minicnn.tensor(np.zeros(shape, np.float32), device=device) for shape in ((1, 4, 4, 2), (3, 1, 1, 2), (4,))
    ]
    with pytest.raises(minicnn.OpError, match=r"^conv2d: bias must be \(3,\), got \(4,\)$"):
        conv2d(*tensors)


@pytest.mark.parametrize("rung", ["im2col", "direct", "implicit"])
def test_the_environment_is_asked_at_the_call(rung, monkeypatch):
    monkeypatch.setenv("MINICNN_CONV", rung)
    assert op_file.rung() == rung


def test_a_rung_that_there_is_not_is_refused_at_the_call(kernel_device, rng, monkeypatch):
    _, inputs = given(CASES["stride"], rng)
    x, weight = (leaf(v.astype(np.float32), kernel_device) for v in inputs[:2])
    monkeypatch.setenv("MINICNN_CONV", "winograd")
    with pytest.raises(ValueError, match=r"^MINICNN_CONV must be one of implicit, im2col, direct, got 'winograd'$"):
        minicnn.functional.conv2d(x, weight)
