"""The convolution of images of few channels: which it is, every pass in every format, exact on integers, and what must not
leak from the zeros that it folds in.
"""

import numpy as np
import pytest
from checks import check_accumulates, check_gradient_of_kernels, check_kernels
from convolutions import Convolution, check_passes_exact, check_special_numbers, inputs_of, integers, specials
from number_formats import FLOAT32, FORMATS, TF32X3

from minicnn import backend
from minicnn.functional import conv2d
from minicnn.shapes import ConvShape, Schedule
from minicnn.tensor import Accumulate

formats = pytest.mark.parametrize("format", [FLOAT32, *FORMATS], ids=lambda format: format.name)

# name: (x, weight, options); tiles are 8 x 8 output pixels by 64 filters
CASES = {
    "alexnet": ((2, 39, 43, 3), (8, 11, 11, 3), {"stride": 4, "padding": 2}),
    "alexnet_in_pairs": ((1, 39, 44, 3), (8, 11, 11, 3), {"stride": 4, "padding": 2}),
    "vgg": ((2, 9, 17, 3), (16, 3, 3, 3), {"padding": 1}),
    "lenet": ((3, 12, 12, 1), (6, 5, 5, 1), {"padding": 2}),
    "eleven_of_one_channel": ((1, 27, 31, 1), (8, 11, 11, 1), {"stride": 4}),
    "two_channels": ((2, 10, 9, 2), (12, 2, 4, 2), {"padding": (0, 3)}),
    "uneven_strides": ((1, 14, 12, 3), (8, 3, 2, 3), {"stride": (3, 2), "padding": (2, 1)}),
    "dilated_rows": ((1, 14, 9, 1), (8, 3, 3, 1), {"dilation": (3, 1), "padding": (3, 0)}),
    "past_a_tile_of_filters": ((1, 8, 8, 3), (65, 3, 3, 3), {"padding": 1}),
    "window_larger_than_the_image": ((2, 2, 3, 3), (8, 4, 5, 3), {"padding": 2}),
    "one_pixel_window": ((1, 9, 7, 3), (8, 1, 1, 3), {}),
}
case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
AUTOMATIC, CUT = (0, 0), (0, 3)  # the reduction of the weight's gradient


def shape_of(case):
    x, weight, options = case
    words = {"stride": 1, "padding": 0, "dilation": 1} | options
    return ConvShape.of("conv2d", x, weight, *words.values(), groups=1)


def is_first_layer(device, shape, schedule=AUTOMATIC):
    """The filters' room where they are folded, for numbers of 16 bits too: whole chunks of eight elements, on 16 bytes."""
    folded = shape.k * shape.r * -(-shape.s * shape.c // 8) * 8
    return device.kernels.conv2d_forward_workspace(shape, Schedule(*schedule)) == folded + 4


@case
def test_the_cases_are_first_layers(case, ladder_device):
    assert is_first_layer(ladder_device, shape_of(case))
    assert not is_first_layer(ladder_device, shape_of(case), (64, 0))


@pytest.mark.parametrize(
    "case",
    [
        ((1, 9, 9, 4), (8, 3, 3, 4), {}),
        ((1, 9, 9, 3), (8, 3, 3, 3), {"dilation": 2}),
        ((1, 99, 99, 3), (8, 31, 31, 3), {"stride": 4}),  # a halo of 28 KiB
    ],
    ids=["of_four_channels", "of_dilated_columns", "of_huge_windows"],
)
def test_others_are_none(case, ladder_device):
    assert not is_first_layer(ladder_device, shape_of(case))


@case
@formats
def test_every_pass_is_exact_on_integers(format, case, ladder_device, rng):
    check_passes_exact(Convolution(ladder_device, format, case), rng)


@formats
def test_a_cut_reduction_is_exact(format, ladder_device, rng):
    for name in ("alexnet", "vgg"):
        check_passes_exact(Convolution(ladder_device, format, CASES[name], CUT), rng)


@formats
@pytest.mark.parametrize("shift", [1, 2])
def test_arrays_off_a_16_byte_boundary(shift, format, ladder_device, rng):
    for name in ("alexnet_in_pairs", "vgg", "eleven_of_one_channel"):
        check_passes_exact(Convolution(ladder_device, format, CASES[name], shift=shift), rng)


@formats
def test_what_no_window_reads_may_be_anything(format, ladder_device, rng):
    """Rows and columns between the windows, in the halo all the same; and the pixels that fill a chunk."""
    kernels = Convolution(ladder_device, format, ((1, 19, 20, 3), (8, 2, 3, 3), {"stride": 4}))
    x, weight, bias = (integers(rng, s) for s in inputs_of(kernels.shape))
    dy = integers(rng, kernels.shape.out)
    y, _, dw, dbias = kernels.expected(x, weight, bias, dy)
    unread = np.ones(x.shape, bool)
    unread.reshape(19, 20, 3)[:18].reshape(9, 2, 20, 3)[::2, :, :19][:, :, np.arange(19) % 4 < 3] = False
    x[unread] = np.array([np.inf, np.nan])[np.arange(unread.sum()) % 2]
    np.testing.assert_array_equal(kernels.forward(x, weight, bias), kernels.rounded(y))
    got = kernels.backward_weight(dy, x, 0 * dw, 0 * dbias, Accumulate.overwrite)
    np.testing.assert_array_equal(got[0], dw)
    np.testing.assert_array_equal(got[1], dbias)


@formats
def test_an_infinity_shows_where_a_window_reads_it(format, ladder_device, rng):
    kernels = Convolution(ladder_device, format, CASES["vgg"])
    x, weight, bias = (integers(rng, s) for s in inputs_of(kernels.shape))
    weight[weight == 0] = 1
    x[1, 4, 8, 1] = np.inf
    expected = kernels.expected(x, weight, bias, np.ones(kernels.shape.out))[0]
    assert np.isinf(expected).sum() == 9 * kernels.shape.k
    np.testing.assert_array_equal(kernels.forward(x, weight, bias), kernels.rounded(expected))


@specials
@pytest.mark.parametrize("name", ["vgg", "two_channels"])
def test_three_products_of_special_numbers_are_those_of_float32(name, where, special, ladder_device, rng):
    check_special_numbers(ladder_device, CASES[name], where, special, rng)


def test_three_products_sum_the_gradient_again_from_the_first_tile(ladder_device, rng):
    """An infinity in the last tile of a part; the sums of the entries that it does not touch stay exact."""
    kernels = Convolution(ladder_device, TF32X3, CASES["vgg"])
    x, weight, bias = (integers(rng, s) for s in inputs_of(kernels.shape))
    dy = integers(rng, kernels.shape.out)
    dy[1, 8, 16] = 1
    _, _, dw, dbias = kernels.expected(x, weight, bias, dy)
    x[1, 8, 16, 2] = np.inf  # the last pixel: seen by it and by its neighbours above and to the left
    got_dw, got_dbias = kernels.backward_weight(dy, x, 0 * weight, 0 * bias, Accumulate.overwrite)
    untouched = np.ones(dw.shape, bool)
    untouched[:, 1:, 1:, 2] = False
    np.testing.assert_array_equal(got_dw[untouched], dw[untouched])
    np.testing.assert_array_equal(got_dbias, dbias)
    assert not np.isfinite(got_dw[:, 1, 1, 2]).any()


@case
def test_kernels_match_the_reference(case, ladder_device, rng):
    x, weight, options = case
    inputs = [rng.standard_normal(s) for s in (x, weight, weight[:1])]
    check_kernels(lambda *t: conv2d(*t, **options), inputs, ladder_device, rng, atol=2e-5)


def test_without_a_bias(ladder_device, rng):
    x, weight, options = CASES["vgg"]
    inputs = [rng.standard_normal(s) for s in (x, weight)]
    check_kernels(lambda *t: conv2d(*t, **options), inputs, ladder_device, rng, atol=2e-5)


def test_a_long_reduction_is_cut_by_its_pixels(ladder_device):
    """Parts of the weight's gradient, whose partial results are the workspace: the more the more images there are."""
    shapes = [shape_of(((n, 224, 224, 3), (64, 11, 11, 3), {"stride": 4, "padding": 2})) for n in (1, 4, 128)]
    elements = 64 * 11 * 36
    one, four, many = (
        ladder_device.kernels.conv2d_backward_weight_workspace(shape, Schedule(*AUTOMATIC)) // elements
        for shape in shapes
    )
    assert 10 < one < four <= many


@pytest.mark.parametrize("name", ["alexnet", "vgg"])
def test_gradients_accumulate(name, ladder_device, rng):
    x, weight, options = CASES[name]
    inputs = [rng.standard_normal(s) for s in (x, weight, weight[:1])]
    check_accumulates(lambda *t: conv2d(*t, **options), inputs, ladder_device)


def test_gradient_of_the_kernels(ladder_device, rng):
    x, weight, options = CASES["vgg"]
    inputs = [rng.standard_normal(s) for s in (x, weight, weight[:1])]
    check_gradient_of_kernels(lambda *t: conv2d(*t, **options), inputs, ladder_device, eps=1.0, rtol=1e-4)


@formats
def test_every_order_and_asynchrony_gives_the_same_bits(format, rng):
    device = backend.device("emulated")
    before = device.module.configuration()
    kernels = Convolution(device, format, CASES["vgg"], (0, 2))
    x, weight, bias = (rng.standard_normal(s) for s in inputs_of(kernels.shape))
    dy, results = rng.standard_normal(kernels.shape.out), []
    try:
        for order, asynchrony in [("forward", "early"), ("reverse", "late"), ("random", "random"), ("random", "late")]:
            device.module.configure(**before | {"order": order, "seed": len(results), "asynchrony": asynchrony})
            results.append([
                kernels.forward(x, weight, bias),
                *kernels.backward_weight(dy, x, 0 * weight, 0 * bias, Accumulate.overwrite),
            ])  # fmt: skip
    finally:
        device.module.configure(**before)
    for other in results[1:]:
        for got, first in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(got.view(np.uint32), first.view(np.uint32))
