"""The kernels of a convolution, pass by pass, in any of the formats."""

import numpy as np
import pytest
from checks import run
from number_formats import FLOAT32, TF32X3

from minicnn.functional import conv2d
from minicnn.ops.affine import Activation
from minicnn.shapes import ConvShape, Schedule
from minicnn.tensor import Accumulate


class Convolution:
    """The kernels of one case in one format, on one device."""

    def __init__(self, device, format, case, schedule=(0, 0), shift=0):
        x, weight, self.options = case
        words = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | self.options
        self.shape = ConvShape.of("conv2d", x, weight, *words.values())
        self.device, self.format, self.schedule = device, format, Schedule(*schedule, format.math)
        self.shift = shift  # elements that arrays lie behind the beginning of their memory

    def put(self, values):
        values = self.format.encode(values)
        whole = self.device.array(np.pad(values.ravel(), (self.shift, 0)))
        return whole[self.shift :].reshape(values.shape)

    def put_wide(self, values):
        return self.device.array(np.asarray(values, np.float32))

    def launch(self, direction, *arguments):
        kernel = f"conv2d_{direction}"
        elements = getattr(self.device.kernels, f"{kernel}_workspace")(self.shape, self.schedule)
        workspace = self.device.empty((elements,))
        getattr(self.device.kernels, kernel + self.format.suffix)(*arguments, workspace, self.shape, self.schedule)

    def forward(self, x, weight, bias, activation=Activation.none):
        y = self.put(np.full(self.shape.out, np.nan))
        self.launch("forward", self.put(x), self.put(weight), self.put_wide(bias), activation, y)
        return self.format.decode(self.device.to_numpy(y))

    def backward_input(self, dy, weight, dx, accumulate, mask=None):
        dx, mask = self.put(dx), None if mask is None else self.put(mask)
        self.launch("backward_input", self.put(dy), self.put(weight), mask, dx, accumulate)
        return self.format.decode(self.device.to_numpy(dx))

    def backward_weight(self, dy, x, dw, dbias, accumulate):
        dw, dbias = self.put_wide(dw), self.put_wide(dbias)
        self.launch("backward_weight", self.put(dy), self.put(x), dw, accumulate, dbias, accumulate)
        return self.device.to_numpy(dw), self.device.to_numpy(dbias)

    def rounded(self, values):
        """Results in the format, rounded once."""
        return self.format.decode(self.format.encode(values))

    def expected(self, x, weight, bias, dy):
        """(y, dx, dw, dbias) of the reference, in float64."""
        inputs = [np.asarray(v, np.float64) for v in (x, weight, bias)]
        y, gradients = run(lambda *v: conv2d(*v, **self.options), inputs, "numpy", dy)
        return y, *gradients


def integers(rng, shape):
    return rng.integers(-3, 4, shape).astype(np.float32)


def check_passes_exact(kernels, rng):
    """Each pass with all that happens to a sum on its way to memory, against the reference, with zero tolerance."""
    x, weight, bias, dy = (integers(rng, s) for s in (*inputs_of(kernels.shape), kernels.shape.out))
    y, dx, dw, dbias = kernels.expected(x, weight, bias, dy)
    np.testing.assert_array_equal(kernels.forward(x, weight, bias), kernels.rounded(y))
    got = kernels.forward(x, weight, bias, Activation.relu)
    np.testing.assert_array_equal(got, kernels.rounded(np.maximum(y, 0)))
    mask, before = integers(rng, dx.shape), integers(rng, dx.shape)
    for accumulate in Accumulate:
        got = kernels.backward_input(dy, weight, before, accumulate)
        np.testing.assert_array_equal(got, kernels.rounded(dx + before * accumulate))
        got = kernels.backward_input(dy, weight, before, accumulate, mask)
        np.testing.assert_array_equal(got, kernels.rounded(np.where(mask > 0, dx, 0) + before * accumulate))
        before_dw, before_dbias = integers(rng, dw.shape), integers(rng, dbias.shape)
        got_dw, got_dbias = kernels.backward_weight(dy, x, before_dw, before_dbias, accumulate)
        np.testing.assert_array_equal(got_dw, dw + before_dw * accumulate)
        np.testing.assert_array_equal(got_dbias, dbias + before_dbias * accumulate)


def passes(kernels, x, weight, dy):
    """{direction: its results}, without a bias and without what stood in memory before."""
    nothing = np.zeros(kernels.shape.k)
    return {
        "forward": [kernels.forward(x, weight, nothing)],
        "backward_input": [kernels.backward_input(dy, weight, np.zeros_like(x), Accumulate.overwrite)],
        "backward_weight": [*kernels.backward_weight(dy, x, np.zeros_like(weight), nothing, Accumulate.overwrite)],
    }


OPERANDS = {"forward": ("x", "weight"), "backward_input": ("dy", "weight"), "backward_weight": ("dy", "x")}
SPECIALS = {"inf": np.inf, "minus_inf": -np.inf, "nan": np.nan, "largest": np.finfo(np.float32).max}


def specials(test):
    """With `special` in the array `where`."""
    test = pytest.mark.parametrize("special", SPECIALS.values(), ids=SPECIALS.keys())(test)
    return pytest.mark.parametrize("where", ["x", "weight", "dy"])(test)


def check_special_numbers(device, case, where, special, rng):
    """One among small integers, of whose sums each is exact in float32 arithmetic and in three products of TF32 numbers: the
    same bits from both in every pass.
    """
    float32, three = (Convolution(device, format, case) for format in (FLOAT32, TF32X3))
    x, weight, _ = inputs_of(three.shape)
    arrays = {"x": integers(rng, x), "weight": integers(rng, weight), "dy": integers(rng, three.shape.out)}
    arrays[where][tuple(extent // 2 for extent in arrays[where].shape)] = special
    expected, got = passes(float32, **arrays), passes(three, **arrays)
    for direction, results in expected.items():
        for one, other in zip(got[direction], results, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=direction)
    seen = {direction for direction, (result, *_) in expected.items() if not (np.abs(result) < 1e6).all()}
    assert seen == {direction for direction, operands in OPERANDS.items() if where in operands}


def inputs_of(shape):
    """The shapes of x, weight and bias."""
    x = (shape.n, shape.h, shape.w, shape.c)
    return x, (shape.k, shape.r, shape.s, shape.c // shape.groups), (shape.k,)
