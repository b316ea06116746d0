"""Convolution on the tensor cores: all three passes in every format, exact on integers, with all that happens to a sum on
its way to memory; real numbers within what the format gives.
"""

import numpy as np
import pytest
from checks import run
from convolutions import Convolution, check_passes_exact, check_special_numbers, inputs_of, integers, specials
from number_formats import BFLOAT16, FLOAT16, FLOAT32, FORMATS, TF32, TF32X3, formats

import minicnn
from minicnn import backend
from minicnn.functional import conv2d
from minicnn.tensor import Accumulate

# name: (x, weight, options); chunks are 4 channels of 32 bits and 8 of 16
CASES = {
    "whole_chunks": ((2, 9, 8, 16), (24, 3, 3, 16), {"padding": 1}),
    "stride": ((2, 9, 8, 8), (8, 3, 3, 8), {"stride": 2, "padding": 1}),
    "stride_beyond_the_window": ((1, 11, 10, 8), (16, 2, 2, 8), {"stride": (3, 4)}),
    "dilation_and_stride": ((1, 13, 12, 8), (8, 3, 3, 8), {"dilation": (3, 2), "stride": (2, 3), "padding": (3, 1)}),
    "groups_of_whole_chunks": ((1, 7, 6, 32), (48, 3, 3, 16), {"groups": 2, "padding": 1}),
    "groups_of_half_a_chunk": ((2, 6, 5, 8), (8, 3, 3, 4), {"groups": 2, "padding": 1}),
    "depthwise": ((2, 6, 5, 6), (12, 3, 3, 1), {"groups": 6, "padding": 1}),
    "groups_of_odd_channels": (
        (1, 11, 8, 15),
        (21, 3, 2, 5),
        {"groups": 3, "dilation": (2, 3), "stride": 2, "padding": 1},
    ),
    "odd_channels": ((1, 7, 6, 11), (13, 3, 2, 11), {"padding": (1, 0)}),
    "first_layer_of_alexnet": ((1, 27, 23, 3), (8, 11, 11, 3), {"stride": 4, "padding": 2}),
    "window_larger_than_the_image": ((2, 2, 3, 8), (8, 4, 5, 8), {"padding": 2}),
    "past_a_tile_of_128": ((1, 12, 11, 16), (136, 3, 3, 16), {"padding": 1}),
    "few_pixels_a_row": ((19, 1, 2, 8), (8, 1, 1, 8), {}),
}
case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@case
@pytest.mark.parametrize("format", [FLOAT32, *FORMATS], ids=lambda format: format.name)
def test_every_pass_is_exact_on_integers(format, case, ladder_device, rng):
    check_passes_exact(Convolution(ladder_device, format, case), rng)


@formats
@pytest.mark.parametrize("schedule", [(64, 1), (64, 3), (128, 1), (128, 2)], ids=str)
def test_every_tile_and_cut_is_exact(schedule, format, ladder_device, rng):
    for name in ("stride", "groups_of_whole_chunks", "groups_of_odd_channels", "odd_channels"):
        check_passes_exact(Convolution(ladder_device, format, CASES[name], schedule), rng)


@formats
@pytest.mark.parametrize("shift", [1, 2])
def test_arrays_off_a_16_byte_boundary(shift, format, ladder_device, rng):
    check_passes_exact(Convolution(ladder_device, format, CASES["whole_chunks"], shift=shift), rng)


@formats
def test_real_numbers_are_as_near_as_the_format_lets_them_be(format, ladder_device, rng):
    """As in tests/kernels/test_tensor_core.py, for each pass; results in the format are rounded once more."""
    for name in ("whole_chunks", "dilation_and_stride"):
        kernels = Convolution(ladder_device, format, CASES[name])
        x, weight, bias = (kernels.rounded(rng.standard_normal(s)) for s in inputs_of(kernels.shape))
        dy = kernels.rounded(rng.standard_normal(kernels.shape.out))
        exact = kernels.expected(x, weight, 0 * bias, dy)
        sizes = kernels.expected(*(np.abs(v) for v in (x, weight, 0 * bias, dy)))
        nothing, overwrite = np.zeros, Accumulate.overwrite
        got = [
            kernels.forward(x, weight, 0 * bias),
            kernels.backward_input(dy, weight, nothing(x.shape), overwrite),
            *kernels.backward_weight(dy, x, nothing(weight.shape), nothing(bias.shape), overwrite),
        ]
        terms = max(weight[0].size, weight[..., 0].size, dy[..., 0].size)
        of_operands = 0 if format.operand_bits == 24 else 2.1 * 2.0**-format.operand_bits
        bound = of_operands + (terms / format.depth + 4) * 2.0**-24
        last_bit = {"bfloat16": 2.0**-8, "float16": 2.0**-11}.get(format.name, 0)
        for result, of_exact, size, narrow in zip(got, exact, sizes, (True, True, False, False), strict=True):
            allowed = bound * size + narrow * last_bit * (np.abs(of_exact) + bound * size)
            assert (np.abs(result - of_exact) <= allowed).all()


def test_three_products_compute_again_where_a_sum_is_special(ladder_device, rng):
    """An infinity in one image leaves the others alone, and the bias's gradient is summed once."""
    kernels = Convolution(ladder_device, TF32X3, CASES["whole_chunks"])
    x, weight, bias = (integers(rng, s) for s in inputs_of(kernels.shape))
    dy = integers(rng, kernels.shape.out)
    expected = kernels.expected(x, weight, bias, dy)
    x[1, 4, 3, 5] = np.inf
    y = kernels.forward(x, weight, bias)
    np.testing.assert_array_equal(y[0], expected[0][0])
    assert np.isinf(y[1, 4, 3][weight[:, 1, 1, 5] != 0]).all()
    dw, dbias = kernels.backward_weight(dy, x, 0 * weight, 0 * bias, Accumulate.overwrite)
    np.testing.assert_array_equal(dbias, expected[3])
    assert not np.isfinite(dw).all()


@specials
@pytest.mark.parametrize("name", ["stride", "odd_channels", "groups_of_half_a_chunk"])
def test_three_products_of_special_numbers_are_those_of_float32(name, where, special, ladder_device, rng):
    check_special_numbers(ladder_device, CASES[name], where, special, rng)


@pytest.mark.parametrize("format", [FLOAT32, *FORMATS], ids=lambda format: format.name)
@pytest.mark.parametrize("name", ["stride", "dilation_and_stride", "stride_beyond_the_window"])
def test_a_strided_gradient_multiplies_no_zeros(name, format, ladder_device):
    """Counted by a filter of ones with NaN at one tap after another: it reaches the pixels that multiply this tap, whatever
    they multiply it with. Zeros put between the pixels of dy would have each pixel multiply every tap.
    """
    kernels = Convolution(ladder_device, format, CASES[name])
    shape = kernels.shape
    x, weight, _ = inputs_of(shape)
    multiplied = 0
    for r, s in np.ndindex(shape.r, shape.s):
        filters = np.ones(weight, np.float32)
        filters[:, r, s] = np.nan
        dx = kernels.backward_input(np.ones(shape.out), filters, np.zeros(x), Accumulate.overwrite)
        reached = np.isnan(dx).any(axis=(0, 3))
        rows, columns = (np.arange(extent) for extent in (shape.h, shape.w))
        rows = (rows + shape.padding_h - r * shape.dilation_h) % shape.stride_h == 0
        columns = (columns + shape.padding_w - s * shape.dilation_w) % shape.stride_w == 0
        assert not reached[~np.outer(rows, columns)].any(), (r, s)
        multiplied += int(reached.sum())
    taps = shape.r * shape.s
    assert 0 < multiplied <= taps * -(-shape.h // shape.stride_h) * -(-shape.w // shape.stride_w)


@formats
def test_every_order_and_asynchrony_gives_the_same_bits(format, rng):
    device = backend.device("emulated")
    before = device.module.configuration()
    kernels = Convolution(device, format, CASES["stride"], (64, 2))
    x, weight, bias = (rng.standard_normal(s) for s in inputs_of(kernels.shape))
    dy, results = rng.standard_normal(kernels.shape.out), []
    try:
        for order, asynchrony in [("forward", "early"), ("reverse", "late"), ("random", "random")]:
            device.module.configure(**before | {"order": order, "seed": 3, "asynchrony": asynchrony})
            results.append([
                kernels.forward(x, weight, bias),
                kernels.backward_input(dy, weight, 0 * x, Accumulate.overwrite),
                *kernels.backward_weight(dy, x, 0 * weight, 0 * bias, Accumulate.overwrite),
            ])  # fmt: skip
    finally:
        device.module.configure(**before)
    for other in results[1:]:
        for got, first in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(got.view(np.uint32), first.view(np.uint32))


def test_the_gradient_of_the_bias_alone_is_refused_in_16_bits(ladder_device, rng):
    kernels = Convolution(ladder_device, BFLOAT16, CASES["stride"])
    dy, x = (kernels.put(integers(rng, s)) for s in (kernels.shape.out, inputs_of(kernels.shape)[0]))
    dbias = kernels.put_wide(np.zeros(kernels.shape.k))
    with pytest.raises(ValueError, match="conv2d_backward_weight_bfloat16: dbias comes with dw alone, which is null"):
        kernels.launch("backward_weight", dy, x, None, Accumulate.overwrite, dbias, Accumulate.overwrite)


# ---- compute capability 7.5, whose tensor cores know Float16 alone ----


def test_float16_on_turing_is_exact_on_integers(turing_device, rng):
    check_passes_exact(Convolution(turing_device, FLOAT16, CASES["whole_chunks"]), rng)


def test_tf32_on_turing_is_float32(turing_device, rng):
    check_passes_exact(Convolution(turing_device, TF32, CASES["odd_channels"]), rng)


@pytest.mark.parametrize("direction", ["forward", "backward_input", "backward_weight"])
def test_bfloat16_on_turing_is_refused(direction, turing_device):
    kernels = Convolution(turing_device, BFLOAT16, CASES["whole_chunks"])
    zeros = [np.zeros(shape) for shape in (*inputs_of(kernels.shape), kernels.shape.out)]
    arguments = {
        "forward": zeros[:3],
        "backward_input": (zeros[3], zeros[1], zeros[0], Accumulate.overwrite),
        "backward_weight": (zeros[3], zeros[0], zeros[1], zeros[2], Accumulate.overwrite),
    }
    message = f"^conv2d_{direction}_bfloat16: bfloat16 wants a GPU of compute capability 8.0, this one has 7.5"
    with pytest.raises(ValueError, match=message):
        getattr(kernels, direction)(*arguments[direction])


@pytest.mark.parametrize("numbers", ["tf32", "bfloat16"])
def test_one_array_or_the_other_off_a_16_byte_boundary(numbers, unaligned_device, rng):
    """Ones and zeros, whose sums bfloat16 holds."""
    inputs = [rng.integers(-1, 2, shape).astype(np.float32) for shape in ((1, 5, 5, 8), (16, 3, 3, 8), (16,))]
    dy = rng.integers(-1, 2, (1, 3, 3, 16)).astype(np.float32)
    expected, gradients = run(conv2d, inputs, "numpy", dy)
    with minicnn.precision(numbers):
        got, got_gradients = run(conv2d, inputs, unaligned_device, dy)
    for result, value in zip((got, *got_gradients), (expected, *gradients), strict=True):
        np.testing.assert_array_equal(result, value)
