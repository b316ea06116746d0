"""Sums and maxima over a block (csrc/device/reduce.h)."""

import numpy as np
import pytest


def reductions(emulated, on_device, run, values):
    x = on_device(np.asarray(values, np.float32))
    y = on_device(np.zeros((2, x.size), np.float32))
    run(emulated.probes.block_reductions, x, y, x.size)
    assert (y.view(np.uint32) == y.view(np.uint32)[:, :1]).all(), "every thread has the same bits"
    return y[:, 0]


@pytest.mark.parametrize("count", [32, 96, 256, 1024])
def test_integers_are_exact_in_every_schedule(emulated, schedule, on_device, run, rng, count):
    values = rng.integers(-1000, 1000, count)
    assert reductions(emulated, on_device, run, values).tolist() == [values.sum(), values.max()]


def test_same_bits_in_every_schedule(emulated, on_device, run, rng):
    values, seen = rng.standard_normal(256) * 10.0 ** rng.integers(-6, 6, 256), set()
    for schedule in [("forward",), ("reverse",), ("random", 1), ("random", 2)]:
        emulated.configure(*schedule)
        seen.add(reductions(emulated, on_device, run, values).tobytes())
    assert len(seen) == 1


def test_maximum_of_negative_numbers_and_infinities(emulated, on_device, run):
    assert reductions(emulated, on_device, run, -np.arange(1.0, 97.0))[1] == -1
    assert reductions(emulated, on_device, run, np.full(64, -np.inf))[1] == -np.inf


@pytest.mark.parametrize("place", [0, 31, 32, 95])
def test_nan_wins(emulated, on_device, run, place):
    values = np.arange(96.0)
    values[place] = np.nan
    assert np.isnan(reductions(emulated, on_device, run, values)).all()
