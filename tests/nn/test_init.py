"""Initial values: their statistics, and that a seed fixes every bit of them."""

import math
import os

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.nn import init


def weight_of(*shape, dtype=np.float32):
    return nn.parameter(np.full(shape, np.nan, dtype))


def test_fan_in_counts_the_inputs_of_one_output():
    assert init.fan_in(weight_of(7, 5)) == 5
    assert init.fan_in(weight_of(8, 3, 2, 4)) == 3 * 2 * 4


def test_normal_has_its_moments():
    weight = weight_of(300, 1000)
    init.normal_(weight, std=0.02, mean=1.5)
    values = weight.numpy().astype(np.float64)
    error = 0.02 / math.sqrt(values.size)
    assert abs(values.mean() - 1.5) < 4 * error
    assert abs(values.std() - 0.02) < 4 * error
    z = (values - 1.5) / 0.02
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / z.size)


def test_he_keeps_the_variance_behind_a_relu():
    weight = weight_of(64, 3, 3, 50)
    init.he_normal_(weight)
    assert weight.numpy().std() == pytest.approx(math.sqrt(2 / 450), rel=0.02)
    init.he_normal_(weight, gain=1.0)
    assert weight.numpy().std() == pytest.approx(math.sqrt(1 / 450), rel=0.02)


def test_a_seed_fixes_every_bit_whatever_the_number_of_threads(monkeypatch):
    size = 2 * init.BLOCK + 5  # two whole blocks and a tail
    drawn = []
    for threads in (1, 4):
        monkeypatch.setattr(os, "cpu_count", lambda threads=threads: threads)
        minicnn.manual_seed(3)
        weight = weight_of(size)
        init.normal_(weight, 1.0)
        drawn.append(weight.numpy())
    assert np.isfinite(drawn[0]).all()
    np.testing.assert_array_equal(*drawn)


def test_blocks_and_successive_weights_differ():
    first, second = weight_of(2 * init.BLOCK), weight_of(2 * init.BLOCK)
    init.normal_(first, 1.0)
    init.normal_(second, 1.0)
    blocks = np.stack([*first.numpy().reshape(2, -1), *second.numpy().reshape(2, -1)])
    assert np.abs(np.corrcoef(blocks) - np.eye(4)).max() < 5 / math.sqrt(init.BLOCK)


def test_a_float64_weight_holds_the_same_draws():
    drawn = []
    for dtype in (np.float32, np.float64):
        minicnn.manual_seed(5)
        weight = weight_of(4, 5, dtype=dtype)
        init.normal_(weight, 1.0)
        assert weight.dtype == dtype
        drawn.append(weight.numpy())
    np.testing.assert_array_equal(*drawn)


def test_writes_are_seen_by_backward():
    weight = weight_of(3, 2)
    init.constant_(weight, 1.0)
    y = minicnn.functional.linear(minicnn.tensor(np.ones((1, 2), np.float32)), weight)
    init.normal_(weight, 1.0)
    with pytest.raises(minicnn.GraphError, match="was changed in place"):
        y.backward(np.ones((1, 3)))


def test_constant_fills_a_moved_parameter(device):
    layer = nn.Linear(5, 3).to(device)
    init.constant_(layer.bias, 0.25)
    init.normal_(layer.weight, 0.0, mean=2.0)
    assert layer.bias.numpy().tolist() == [0.25] * 3
    assert (layer.weight.numpy() == 2).all()


def test_skipped_draws_are_none_and_end_with_the_block():
    before = minicnn.random.generator().bit_generator.state["state"]["counter"].copy()
    with init.skipped():
        with init.skipped():
            pass
        layer = nn.Linear(3, 2)
        init.normal_(layer.weight, 1.0)
    assert not layer.weight.numpy().any()
    np.testing.assert_array_equal(minicnn.random.generator().bit_generator.state["state"]["counter"], before)
    init.normal_(layer.weight, 1.0)
    assert layer.weight.numpy().all()
