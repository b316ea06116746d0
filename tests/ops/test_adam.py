"""Adam's step: the formula and torch, segments, kernels, exactness."""

import numpy as np
import pytest
from checks import check_thread_orders
from tolerances import assert_close

from minicnn.backend import device as device_of
from minicnn.ops.adam import AdamRule, adam_step
from minicnn.ops.segments import BLOCK, Segment, Segments

# Two end within a 16-byte access, one is frozen, one has a single element; 256 to 320 lie in none.
SEGMENTS = [Segment(0, 70), Segment(128, 201, 0.5, 0.0), Segment(320, 384, 0.0, 1.0), Segment(384, 385, 2.0, 3.0)]
SIZE = 448
RULE = AdamRule(0.8, 0.95, 1e-3, 0.05)


def one_step(w, m, v, g, segment, lr, scale, step, rule):
    """The formula, one number at a time -> (w, m, v)."""
    if segment.lr_multiplier == 0:
        return w, m, v
    g = g * scale + rule.weight_decay * segment.decay_multiplier * w
    m = rule.beta1 * m + (1 - rule.beta1) * g
    v = rule.beta2 * v + (1 - rule.beta2) * g * g
    corrected = m / (1 - rule.beta1**step), v / (1 - rule.beta2**step)
    return w - lr * segment.lr_multiplier * corrected[0] / (corrected[1] ** 0.5 + rule.eps), m, v


def arrays(rng, dtype=np.float64):
    """weights, grads, mean, square (SIZE,): zeros outside of the segments."""
    values = rng.standard_normal((4, SIZE))
    values[3] **= 2
    inside = np.zeros(SIZE, bool)
    for segment in SEGMENTS:
        inside[segment.start : segment.stop] = True
    return (values * inside).astype(dtype)


def step_on(device, values, lr=0.1, scale=0.3, step=3, rule=RULE, segments=SEGMENTS):
    """One step on `device` -> host copies of (weights, mean, square)."""
    device = device_of(device)
    weights, grads, mean, square = (device.array(v) for v in values)
    hyper = device.array(np.array(rule.hyper(lr, scale, step), values[0].dtype))
    adam_step(device, weights, grads, mean, square, Segments(segments, device), hyper, rule)
    return [device.to_numpy(array) for array in (weights, mean, square)]


@pytest.mark.parametrize(("scale", "step"), [(1.0, 1), (0.3, 4)])
def test_reference_is_the_formula(scale, step, rng):
    weights, grads, mean, square = values = arrays(rng)
    got = step_on("numpy", values, scale=scale, step=step)
    expected = np.array([weights, mean, square])
    for segment in SEGMENTS:
        for i in range(segment.start, segment.stop):
            expected[:, i] = one_step(weights[i], mean[i], square[i], grads[i], segment, 0.1, scale, step, RULE)
    for one, other in zip(got, expected, strict=True):
        assert_close(one, other)


def test_four_steps_are_those_of_torch(device, torch, rng):
    """From moments of zero, across a drop of the learning rate, weight decay on, with the usual betas."""
    start, grads = rng.standard_normal(37), rng.standard_normal((4, 37))
    dtype = np.float64 if device.kernels is None else np.float32
    weights, mean, square = start.astype(dtype), np.zeros(37, dtype), np.zeros(37, dtype)
    rule = AdamRule(weight_decay=0.05)
    second = torch.tensor(weights, requires_grad=True)
    optimizer = torch.optim.Adam([second], lr=0.1, weight_decay=0.05)
    for step, (lr, grad) in enumerate(zip((0.1, 0.1, 0.01, 0.01), grads.astype(dtype), strict=True), 1):
        weights, mean, square = step_on(
            device, (weights, grad, mean, square), lr, 1.0, step, rule, segments=[Segment(0, 37)]
        )
        optimizer.param_groups[0]["lr"] = lr
        second.grad = torch.tensor(grad)
        optimizer.step()
        assert_close(weights, second.detach().numpy())


def test_kernels_match_the_reference(kernel_device, rng):
    values = arrays(rng, np.float32)
    for got, reference in zip(step_on(kernel_device, values), step_on("numpy", values.astype(np.float64)), strict=True):
        assert_close(got, reference)


def test_powers_of_two_are_exact(kernel_device, rng):
    """Moments of integers at rates that are powers of two: nothing is rounded, every device has the same bits."""
    values = np.rint(8 * arrays(rng, np.float32))
    rule = AdamRule(0.5, 0.75, 0.125, 0.125)
    expected = step_on("numpy", values, lr=0.25, scale=0.5, rule=rule)
    for got, reference in zip(
        step_on(kernel_device, values, lr=0.25, scale=0.5, rule=rule)[1:], expected[1:], strict=True
    ):
        np.testing.assert_array_equal(got, reference)


def test_what_is_frozen_or_in_no_segment_stays(device, rng):
    values = np.abs(rng.standard_normal((4, SIZE))).astype(np.float32)  # also where no segment lies
    moves = np.zeros(SIZE, bool)
    for segment in SEGMENTS:
        moves[segment.start : segment.stop] = segment.lr_multiplier > 0
    for got, before in zip(step_on(device, values), values[[0, 2, 3]], strict=True):
        np.testing.assert_array_equal(got != before, moves)


def test_segments_longer_than_a_block(rng):
    values = np.abs(rng.standard_normal((4, BLOCK + 3)))
    whole = step_on("numpy", values, segments=[Segment(0, BLOCK + 3)])
    ends = step_on("numpy", values[:, -5:], segments=[Segment(0, 5)])
    for a, b in zip(whole, ends, strict=True):
        np.testing.assert_array_equal(a[-5:], b)


def test_segments_past_one_block_of_threads(kernel_device, rng):
    """256 threads of four elements, and then some."""
    values = np.abs(rng.standard_normal((4, 1037))).astype(np.float32)
    segments = [Segment(0, 1037)]
    reference = step_on("numpy", values, segments=segments)
    for got, expected in zip(step_on(kernel_device, values, segments=segments), reference, strict=True):
        assert_close(got, expected)


def test_nothing_to_do(device):
    assert [a.size for a in step_on(device, np.zeros((4, 0), np.float32), segments=[])] == [0, 0, 0]


def test_thread_order_does_not_matter(kernel_device, rng):
    values = np.abs(rng.standard_normal((4, 2000))).astype(np.float32)
    segments = [Segment(0, 1000), Segment(1024, 2000)]
    check_thread_orders(lambda: step_on(kernel_device, values, segments=segments), kernel_device)
