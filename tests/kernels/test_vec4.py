"""Four floats a thread (csrc/device/vec4.h), seen through ReLU: every count and alignment, nothing beside touched."""

import itertools

import numpy as np
import pytest


@pytest.mark.parametrize("count", [*range(10), 1023, 1024, 1025, 1029])
def test_every_alignment(emulated, on_device, run, rng, count):
    values = rng.standard_normal(count).astype(np.float32)
    for x_offset, y_offset in itertools.product(range(4), range(4)):
        x = on_device(np.full(count + x_offset + 3, np.nan, np.float32))[x_offset:]
        y = on_device(np.full(count + y_offset + 3, -7, np.float32))
        x[:count] = values
        run(emulated.relu_forward, x, y[y_offset:], count)
        expected = np.concatenate([np.full(y_offset, -7), np.maximum(values, 0), np.full(3, -7)])
        assert np.array_equal(y, expected)


@pytest.mark.parametrize("accumulate", [0, 1])
def test_in_place(emulated, on_device, run, rng, accumulate):
    y, dy = (rng.standard_normal(1027).astype(np.float32) for _ in range(2))
    dx = on_device(dy)
    run(emulated.relu_backward, dx, on_device(y), dx, accumulate, dx.size)
    assert np.array_equal(dx, np.where(y > 0, dy, 0) + accumulate * dy)
