"""The gradient of every backward kernel against differences of its forward kernel, in float32: no reference is asked.

Differences of what is linear in each input alone are exact for any step, so there the step is 1. The others err by the
step's square and by the rounding of y over the step.
"""

import operator

import numpy as np
import pytest
from checks import check_gradient_of_kernels, leaf

from minicnn import functional
from minicnn.ops import conv2d as conv2d_op

BILINEAR = {"eps": 1.0, "rtol": 2e-5}
CURVED = {"eps": 0.02, "rtol": 2e-3}
KINKED = {"eps": 0.0625, "rtol": 1e-3}  # x of up to 80 is rounded by 4e-6, and so is each difference over 1/8
IMAGES = [[(2, 7, 6, 8)], [(2, 6, 7, 5)]]  # whole vectors of four channels, and none
FEW_PIXELS = [[(1, 5, 4, 8)], [(1, 5, 4, 3)]]
VECTORS = [[(4, 8)], [(5, 7)]]
PAIRS = [[(3, 4, 8), (4, 1)], [(5, 7), (5, 7)]]
CONVOLUTIONS = [[(2, 6, 5, 8), (8, 3, 3, 4), (8,)], [(2, 6, 5, 6), (10, 3, 3, 3), (10,)]]
PRODUCTS = [[(4, 8), (8, 12)], [(5, 7), (7, 3)]]
LINEARS = [[(4, 8), (12, 8), (12,)], [(5, 7), (3, 7), (3,)]]
NORMALIZATIONS = [[(3, 5, 8), (8,), (8,)], [(3, 5, 7), (7,), (7,)]]


def normal(shape, rng):
    return rng.standard_normal(shape)


def positive(shape, rng):
    return rng.uniform(1, 2, shape)


def apart(shape, rng):
    """Values at least 1 apart and 1/2 from 0: no short step meets a kink or changes which of them is the largest."""
    size = int(np.prod(shape))
    return rng.permutation(size).reshape(shape) - size // 2 + 0.5


def with_options(function, *arguments, **options):
    return lambda *inputs: function(*inputs, *arguments, **options)


def batch_norm(training):
    def function(x, weight, bias):
        statistics = [
            leaf(np.full(x.shape[-1], value, np.float32), x.device, requires_grad=False) for value in (0.5, 2)
        ]
        return functional.batch_norm(x, *statistics, weight, bias, training=training)

    return function


def cross_entropy(**options):
    def function(logits):
        target = leaf(np.arange(logits.shape[0]) % logits.shape[1], logits.device)
        return functional.cross_entropy(logits, target, **options)

    return function


CASES = {  # name: (function, how its inputs are drawn, step, shapes of the inputs)
    "adaptive_avgpool2d": (with_options(functional.adaptive_avg_pool2d, (3, 4)), normal, BILINEAR, IMAGES),
    "avgpool2d": (with_options(functional.avg_pool2d, 3, 2, 1, True, False), normal, BILINEAR, IMAGES),
    "maxpool2d": (with_options(functional.max_pool2d, 3, 2, 1), apart, KINKED, FEW_PIXELS),
    "maxpool2d_past_256_places": (with_options(functional.max_pool2d, 17, 2, 8), apart, KINKED, FEW_PIXELS),
    "lrn": (with_options(functional.local_response_norm, 5, 0.9, 0.75, 2.0), normal, CURVED, IMAGES),
    "lrn_of_an_even_window": (with_options(functional.local_response_norm, 4, 0.9, 0.6, 2.0), normal, CURVED, IMAGES),
    "conv2d": (with_options(functional.conv2d, 2, 1, 1, 2), normal, BILINEAR, CONVOLUTIONS),
    "conv2d_dilated": (with_options(functional.conv2d, (1, 2), 2, (2, 1), 2), normal, BILINEAR, CONVOLUTIONS),
    "linear": (functional.linear, normal, BILINEAR, LINEARS),
    "matmul": (operator.matmul, normal, BILINEAR, PRODUCTS),
    "batch_norm_in_training": (batch_norm(True), normal, CURVED, NORMALIZATIONS),
    "batch_norm": (batch_norm(False), normal, BILINEAR, NORMALIZATIONS),
    "cross_entropy": (cross_entropy(label_smoothing=0.1), normal, CURVED, VECTORS),
    "cross_entropy_a_row": (cross_entropy(reduction="none"), normal, CURVED, VECTORS),
    "softmax": (functional.softmax, normal, CURVED, VECTORS),
    "softmax_of_columns": (with_options(functional.softmax, 0), normal, CURVED, VECTORS),
    "log_softmax": (functional.log_softmax, normal, CURVED, VECTORS),
    "log_softmax_of_columns": (with_options(functional.log_softmax, 0), normal, CURVED, VECTORS),
    "relu": (functional.relu, apart, KINKED, VECTORS),
    "tanh": (functional.tanh, normal, CURVED, VECTORS),
    "sigmoid": (functional.sigmoid, normal, CURVED, VECTORS),
    "exp": (lambda x: x.exp(), normal, CURVED, VECTORS),
    "log": (lambda x: x.log(), positive, CURVED, VECTORS),
    "sqrt": (lambda x: x.sqrt(), positive, CURVED, VECTORS),
    "pow": (lambda x: x**2.5, positive, CURVED, VECTORS),
    "add": (operator.add, normal, BILINEAR, PAIRS),
    "add_relu": (lambda x: functional.add_relu(x, x * 0.5), apart, KINKED, VECTORS),
    "sub": (operator.sub, normal, BILINEAR, PAIRS),
    "mul": (operator.mul, normal, BILINEAR, PAIRS),
    "div": (operator.truediv, positive, CURVED, PAIRS),
    "sum": (lambda x: x.sum(axis=0), normal, BILINEAR, VECTORS),
    "mean": (lambda x: x.mean(axis=1), normal, BILINEAR, VECTORS),
    "max": (lambda x: x.max(axis=1), apart, KINKED, VECTORS),
    "strided_copy": (lambda x: x.transpose(0, 1)[1:, ::2], normal, BILINEAR, VECTORS),
    "concatenate": (lambda a, b: functional.concatenate([a, b @ b.transpose(0, 1)], 1), normal, CURVED, PAIRS[1:]),
}


def cases_of(name, rng):
    """(function, inputs, step) at each of its shapes."""
    function, draw, step, shapes = CASES[name]
    for inputs in shapes:
        yield function, [draw(shape, rng) for shape in inputs], step


@pytest.mark.parametrize("name", CASES)
def test_kernels_are_their_own_proof(name, kernel_device, rng):
    for function, inputs, step in cases_of(name, rng):
        check_gradient_of_kernels(function, inputs, kernel_device, **step)


@pytest.mark.parametrize("name", ["conv2d", "conv2d_dilated"])
def test_the_lower_rung_of_convolution_is_its_own_proof(name, kernel_device, rng, monkeypatch):
    monkeypatch.setattr(conv2d_op, "rung", lambda: "im2col")
    test_kernels_are_their_own_proof(name, kernel_device, rng)


def test_no_backward_kernel_is_without_such_a_proof(emulated, rng, monkeypatch):
    """The functions above, with either rung of convolution, launch all of them."""
    launched = set()

    class Recorder:
        def __getattr__(self, kernel):
            launched.add(kernel)
            return getattr(kernels, kernel)

    device = leaf(np.zeros(1, np.float32), "emulated").device
    kernels = device.kernels
    monkeypatch.setattr(device, "kernels", Recorder())
    for rung in conv2d_op.RUNGS:
        monkeypatch.setattr(conv2d_op, "rung", lambda rung=rung: rung)
        for name in CASES:
            for function, inputs, _ in cases_of(name, rng):
                y = function(*(leaf(v.astype(np.float32), device) for v in inputs))
                y.backward(np.ones(y.shape))
    halves = "_bfloat16", "_float16"  # too coarse for differences: tests/ops/test_conv2d_tensor_core.py has them exact
    steps = ("_sgd",)  # what they make of a gradient is all that they write: tests/ops/test_linear_sgd.py
    backward = {name for name in emulated.signatures if "_backward" in name and not name.endswith(halves + steps)}
    assert backward <= launched
