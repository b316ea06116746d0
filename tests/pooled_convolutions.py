"""Convolution, ReLU and max pooling by squares: the cases, and the op in one pass and in two."""

import numpy as np
import pytest
from checks import leaf, run

import minicnn
from minicnn import functional as F
from minicnn.ops import affine
from minicnn.ops import conv2d_maxpool2d as op_file

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
WORDS = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}


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
