"""The step that takes the place of a weight's gradient: every rule against the two kernels that it stands for, exactness,
tiles, tails, orders of threads.
"""

import numpy as np
import pytest
from checks import check_thread_orders
from tolerances import assert_close

from minicnn.backend import device as device_of
from minicnn.ops.sgd import Segment, Segments, SgdRule, sgd_step
from minicnn.shapes import AUTOMATIC, Schedule

# (N, in, out): by quads, element by element, past a tile, no image, one slice, past a slice
CASES = {
    "one_of_each": (1, 1, 1),
    "odd": (5, 33, 7),
    "whole_quads": (8, 64, 36),
    "past_a_tile": (9, 67, 66),
    "quads_of_inputs_alone": (6, 8, 5),
    "quads_of_outputs_alone": (6, 5, 8),
    "past_a_tile_of_quads": (12, 68, 132),
    "long_reduction": (700, 8, 4),
    "empty_batch": (0, 5, 3),
    "no_inputs": (5, 0, 3),
    "no_outputs": (5, 3, 0),
}
CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
SCHEDULES = pytest.mark.parametrize(
    "schedule", [AUTOMATIC, Schedule(64, 1), Schedule(128, 3)], ids=["chosen", "64", "128"]
)
LR, SCALE, MOMENTUM, DECAY, MULTIPLIER = 0.25, 0.5, 0.5, 0.125, 2.0


@pytest.fixture(params=SgdRule, ids=lambda rule: rule.name)
def rule(request):
    return request.param


def expected(dy, x, weight, velocity, rule):
    """(weight, velocity) after the step with dweight = dy.T @ x, by the reference of the step over an arena."""
    device = device_of("numpy")
    arrays = [a.copy().ravel() for a in (weight, dy.T @ x, velocity)]
    segments = Segments([Segment(0, weight.size, MULTIPLIER, 1.0)], device)
    sgd_step(device, *arrays, segments, np.array([LR, SCALE], weight.dtype), MOMENTUM, DECAY, rule)
    return arrays[0].reshape(weight.shape), arrays[2].reshape(weight.shape)


def step_on(device, dy, x, weight, velocity, rule, schedule=AUTOMATIC):
    (n, c), k = x.shape, dy.shape[1]
    dy, x, weight, velocity, hyper = (
        device.array(np.asarray(a, np.float32)) for a in (dy, x, weight, velocity, [LR, SCALE])
    )
    step = (weight, velocity, hyper, MULTIPLIER, MOMENTUM, DECAY, int(rule))
    device.kernels.linear_backward_weight_sgd(dy, x, *step, n, c, k, schedule)
    return device.to_numpy(weight), device.to_numpy(velocity)


def given(case, rng):
    """dy, x, weight, velocity"""
    n, c, k = case
    return [rng.standard_normal(shape) for shape in ((n, k), (n, c), (k, c), (k, c))]


@CASE
def test_the_kernel_matches_the_reference(case, rule, ladder_device, rng):
    inputs = [a.astype(np.float32) for a in given(case, rng)]
    reference = expected(*(a.astype(np.float64) for a in inputs), rule)
    for got, want in zip(step_on(ladder_device, *inputs, rule), reference, strict=True):
        assert_close(got, want, atol=2e-5)  # sums of up to 700 products of size 1


@CASE
@SCHEDULES
def test_integers_and_powers_of_two_are_exact(case, schedule, rule, ladder_device, rng):
    inputs = [np.rint(2 * a) for a in given(case, rng)]
    reference = expected(*inputs, rule)
    for got, want in zip(step_on(ladder_device, *inputs, rule, schedule), reference, strict=True):
        np.testing.assert_array_equal(got, want)


def test_arrays_off_a_16_byte_boundary(unaligned_device, rng):
    if not hasattr(unaligned_device.kernels, "linear_backward_weight_sgd"):
        pytest.skip("device cpu writes the gradient")
    inputs = [np.rint(2 * a) for a in given(CASES["whole_quads"], rng)]
    for got, want in zip(
        step_on(unaligned_device, *inputs, SgdRule.torch), expected(*inputs, SgdRule.torch), strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_thread_order_does_not_matter(ladder_device, rng):
    inputs = given(CASES["past_a_tile"], rng)
    check_thread_orders(lambda: step_on(ladder_device, *inputs, SgdRule.nesterov), ladder_device)
