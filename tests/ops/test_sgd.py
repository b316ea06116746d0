"""SGD's step: every rule against the formula and torch, segments, kernels, exactness."""

import numpy as np
import pytest
from checks import check_thread_orders
from number_formats import BFLOAT16, FLOAT16
from tolerances import assert_close

from minicnn import precision
from minicnn.backend import device as device_of
from minicnn.ops.precision import numbers_of
from minicnn.ops.sgd import BLOCK, Segment, Segments, SgdRule, sgd_step
from minicnn.tensor import Narrow

# Two end within a 16-byte access, one is frozen, one has a single element; 256 to 320 lie in none.
SEGMENTS = [Segment(0, 70), Segment(128, 201, 0.5, 0.0), Segment(320, 384, 0.0, 1.0), Segment(384, 385, 2.0, 3.0)]
SIZE = 448


def one_step(w, v, g, segment, lr, scale, momentum, weight_decay, rule):
    """The formula, one number at a time -> (w, v)."""
    if segment.lr_multiplier == 0:
        return w, v
    lr *= segment.lr_multiplier
    g = g * scale + weight_decay * segment.decay_multiplier * w
    if rule is SgdRule.paper:
        v = momentum * v - lr * g
        return w + v, v
    v = momentum * v + g
    return w - lr * (g + momentum * v if rule is SgdRule.nesterov else v), v


def arrays(rng, dtype=np.float64):
    """weights, grads, velocity (SIZE,): zeros outside of the segments."""
    values = rng.standard_normal((3, SIZE)).astype(dtype)
    inside = np.zeros(SIZE, bool)
    for segment in SEGMENTS:
        inside[segment.start : segment.stop] = True
    return values * inside


def step_on(device, values, lr, scale, momentum, weight_decay, rule, segments=SEGMENTS, copy=None):
    """One step on `device` -> host copies of (weights, velocity)."""
    device = device_of(device)
    weights, grads, velocity = (device.array(v) for v in values)
    hyper = device.array(np.array([lr, scale], values[0].dtype))
    sgd_step(device, weights, grads, velocity, Segments(segments, device), hyper, momentum, weight_decay, rule, copy)
    return device.to_numpy(weights), device.to_numpy(velocity)


@pytest.fixture(params=SgdRule, ids=lambda rule: rule.name)
def rule(request):
    return request.param


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_reference_is_the_formula(rule, scale, rng):
    weights, grads, velocity = values = arrays(rng)
    got_weights, got_velocity = step_on("numpy", values, 0.1, scale, 0.9, 0.05, rule)
    expected = np.array([weights, velocity])
    for segment in SEGMENTS:
        for i in range(segment.start, segment.stop):
            one = one_step(weights[i], velocity[i], grads[i], segment, 0.1, scale, 0.9, 0.05, rule)
            expected[:, i] = one
    assert_close(got_weights, expected[0])
    assert_close(got_velocity, expected[1])


@pytest.mark.parametrize("nesterov", [False, True], ids=["plain", "nesterov"])
def test_three_steps_are_those_of_torch(nesterov, device, torch, rng):
    """Across a drop of the learning rate, weight decay on."""
    start, grads = rng.standard_normal(37), rng.standard_normal((3, 37))
    dtype = np.float64 if device.kernels is None else np.float32
    weights, velocity = start.astype(dtype), np.zeros(37, dtype)
    second = torch.tensor(weights, requires_grad=True)
    optimizer = torch.optim.SGD([second], lr=0.1, momentum=0.9, weight_decay=0.05, nesterov=nesterov)
    rule = SgdRule.nesterov if nesterov else SgdRule.torch
    for lr, grad in zip((0.1, 0.1, 0.01), grads.astype(dtype), strict=True):
        weights, velocity = step_on(
            device, (weights, grad, velocity), lr, 1.0, 0.9, 0.05, rule, segments=[Segment(0, 37)]
        )
        optimizer.param_groups[0]["lr"] = lr
        second.grad = torch.tensor(grad)
        optimizer.step()
        assert_close(weights, second.detach().numpy())


def test_the_dialects_part_when_lr_drops(rng):
    """Fact A9: equal steps at one learning rate, different ones after a drop, and by how much."""
    grads = rng.standard_normal((3, 5))
    traces = {}
    for rule in (SgdRule.torch, SgdRule.paper):
        weights, velocity = np.ones(5), np.zeros(5)
        traces[rule] = []
        for lr, grad in zip((0.1, 0.1, 0.01), grads, strict=True):
            values = (weights, grad, velocity)
            weights, velocity = step_on("numpy", values, lr, 1.0, 0.9, 5e-4, rule, segments=[Segment(0, 5)])
            traces[rule].append((weights, velocity))
    ours, papers = traces[SgdRule.torch], traces[SgdRule.paper]
    assert_close(papers[0][0], ours[0][0])
    assert_close(papers[1][0], ours[1][0])
    carried = 0.9 * ours[1][1]  # the paper's velocity keeps the old learning rate: 0.1 where torch now takes 0.01
    assert_close(papers[2][0], ours[2][0] - (0.1 - 0.01) * carried)


def test_kernels_match_the_reference(rule, kernel_device, rng):
    values = arrays(rng, np.float32)
    expected = step_on("numpy", values.astype(np.float64), 0.1, 0.3, 0.9, 0.05, rule)
    for got, reference in zip(step_on(kernel_device, values, 0.1, 0.3, 0.9, 0.05, rule), expected, strict=True):
        assert_close(got, reference)


def test_powers_of_two_are_exact(rule, kernel_device, rng):
    """Integers times powers of two: no product and no sum is rounded, so every device has the same bits."""
    values = np.rint(8 * arrays(rng, np.float32))
    expected = step_on("numpy", values, 0.25, 0.5, 0.5, 0.125, rule)
    assert all(np.array_equal(e, e.astype(np.float16)) for e in expected)  # few bits each: nothing was rounded
    for got, reference in zip(step_on(kernel_device, values, 0.25, 0.5, 0.5, 0.125, rule), expected, strict=True):
        np.testing.assert_array_equal(got, reference)


def test_what_is_frozen_or_in_no_segment_stays(rule, device, rng):
    values = rng.standard_normal((3, SIZE)).astype(np.float32)  # also where no segment lies
    weights, velocity = step_on(device, values, 0.1, 1.0, 0.9, 0.05, rule)
    moves = np.zeros(SIZE, bool)
    for segment in SEGMENTS:
        moves[segment.start : segment.stop] = segment.lr_multiplier > 0
    np.testing.assert_array_equal(weights != values[0], moves)
    np.testing.assert_array_equal(velocity != values[2], moves)


def test_segments_longer_than_a_block(rule, rng):
    values = rng.standard_normal((3, BLOCK + 3))
    whole = step_on("numpy", values, 0.1, 0.5, 0.9, 0.05, rule, segments=[Segment(0, BLOCK + 3)])
    ends = step_on("numpy", values[:, -5:], 0.1, 0.5, 0.9, 0.05, rule, segments=[Segment(0, 5)])
    for a, b in zip(whole, ends, strict=True):
        np.testing.assert_array_equal(a[-5:], b)


def test_segments_past_one_block_of_threads(rule, kernel_device, rng):
    """256 threads of four elements, and then some."""
    values = rng.standard_normal((3, 1037)).astype(np.float32)
    step = (0.1, 0.3, 0.9, 0.05, rule, [Segment(0, 1037)])
    for got, reference in zip(step_on(kernel_device, values, *step), step_on("numpy", values, *step), strict=True):
        assert_close(got, reference)


@pytest.mark.parametrize("format", (BFLOAT16, FLOAT16), ids=lambda format: format.name)
def test_a_copy_in_16_bits_is_that_of_the_weights_that_move(rule, format, ladder_device, rng):
    values, step = 100 * arrays(rng, np.float32), (0.1, 0.3, 0.9, 0.05, rule)
    expected = step_on(ladder_device, values, *step)
    with precision(format.name):
        numbers = numbers_of(ladder_device, np.float32)
    before = format.encode(rng.standard_normal(SIZE))
    copy = Narrow(ladder_device.array(before), numbers)

    def with_copy():
        ladder_device.write(copy.array, before)
        return [*step_on(ladder_device, values, *step, copy=copy), ladder_device.to_numpy(copy.array)]

    moves = np.zeros(SIZE, bool)
    for segment in SEGMENTS:
        moves[segment.start : segment.stop] = segment.lr_multiplier > 0
    weights, velocity, got = with_copy()
    np.testing.assert_array_equal(weights, expected[0])
    np.testing.assert_array_equal(velocity, expected[1])
    np.testing.assert_array_equal(got, np.where(moves, format.encode(weights), before))
    check_thread_orders(with_copy, ladder_device)


def test_nothing_to_do(device):
    values = np.zeros((3, 0), np.float32)
    assert [a.size for a in step_on(device, values, 0.1, 1.0, 0.9, 0.05, SgdRule.torch, segments=[])] == [0, 0]


def test_thread_order_does_not_matter(kernel_device, rng):
    values = rng.standard_normal((3, 2000)).astype(np.float32)
    segments = [Segment(0, 1000), Segment(1024, 2000)]
    step = (0.1, 0.5, 0.9, 0.05, SgdRule.nesterov)
    check_thread_orders(lambda: step_on(kernel_device, values, *step, segments=segments), kernel_device)


def test_the_kernel_refuses_an_unknown_rule(kernel_device):
    x = kernel_device.array(np.zeros(4, np.float32))
    table = Segments([Segment(0, 4)], kernel_device)
    with pytest.raises(ValueError, match=r"^the rule of SGD is 0 \(torch\), 1 \(nesterov\) or 2 \(paper\), not 3$"):
        kernel_device.kernels.sgd_step(x, x, x, table.bounds, table.multipliers, 1, x, 0.9, 0.0, 3, 4)
