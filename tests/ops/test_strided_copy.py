"""The strided copy by itself: every schedule of it against NumPy's views, scaled, offset, overwriting and adding."""

import numpy as np
import pytest
from checks import SCHEDULES, thread_order

from minicnn.axes import strides
from minicnn.errors import DeviceError
from minicnn.ops.strided_copy import copy, strided_copy
from minicnn.tensor import Accumulate

CASES = {  # extents, strides and offset in x, strides and offset in y
    "contiguous": ((6, 8), (8, 1), 0, (8, 1), 0),
    "a_tail": ((5, 7), (7, 1), 0, (7, 1), 0),
    "past_one_block": ((1100,), (1,), 3, (1,), 0),
    "into_every_second": ((9,), (1,), 0, (2,), 1),
    "from_every_third": ((9,), (3,), 2, (1,), 0),
    "repeated": ((3, 4), (1, 0), 0, (4, 1), 0),
    "repeated_rows": ((5, 8), (0, 1), 0, (8, 1), 4),
    "one_element": ((), (), 2, (), 3),
    "nothing": ((0, 3), (3, 1), 0, (3, 1), 0),
    "off_a_vector": ((4, 8), (12, 1), 1, (8, 1), 0),
    "a_window_into_a_window": ((4, 8), (12, 1), 4, (16, 1), 8),
    "turned": ((33, 40), (1, 33), 0, (40, 1), 0),
    "turned_with_gaps": ((17, 18), (1, 40), 5, (20, 1), 2),
    "turned_between": ((3, 20, 2, 18), (2 * 20 * 18, 1, 20, 40), 0, (720, 36, 18, 1), 0),
    "turned_but_narrow": ((40, 15), (1, 40), 0, (15, 1), 0),
    "six_axes": ((2, 3, 2, 2, 3, 2), (1, 2, 6, 12, 24, 72), 0, (72, 24, 12, 6, 2, 1), 0),
}


def last(extents, steps, offset):
    return offset + sum((extent - 1) * step for extent, step in zip(extents, steps, strict=True))


@pytest.mark.parametrize("accumulate", Accumulate, ids=lambda accumulate: accumulate.name)
@pytest.mark.parametrize("scale", [1.0, -0.5])
@pytest.mark.parametrize("extents, x_strides, x_offset, y_strides, y_offset", CASES.values(), ids=CASES.keys())
def test_matches_a_loop(extents, x_strides, x_offset, y_strides, y_offset, scale, accumulate, kernel_device, rng):
    x = rng.integers(-8, 9, max(1, last(extents, x_strides, x_offset) + 1)).astype(np.float32)
    y = rng.integers(-8, 9, max(1, last(extents, y_strides, y_offset) + 1)).astype(np.float32)
    on_device = kernel_device.array(y)
    strided_copy(
        kernel_device.kernels, kernel_device.array(x), on_device, extents, x_strides, y_strides, accumulate,
        scale=scale, x_offset=x_offset, y_offset=y_offset,
    )  # fmt: skip
    for index in np.ndindex(extents):
        source = x_offset + sum(i * step for i, step in zip(index, x_strides, strict=True))
        target = y_offset + sum(i * step for i, step in zip(index, y_strides, strict=True))
        y[target] = scale * x[source] + (y[target] if accumulate else 0)
    np.testing.assert_array_equal(kernel_device.to_numpy(on_device), y)


def test_a_copy_may_be_of_an_array_to_itself(kernel_device):
    x = kernel_device.array(np.arange(1030, dtype=np.float32))
    copy(kernel_device.kernels, x, x, Accumulate.add)
    np.testing.assert_array_equal(kernel_device.to_numpy(x), 2 * np.arange(1030, dtype=np.float32))


def test_a_copy_may_change_the_shape(kernel_device):
    x, y = kernel_device.array(np.arange(6, dtype=np.float32)), kernel_device.empty((2, 3), np.float32)
    copy(kernel_device.kernels, x, y, scale=2.0)
    np.testing.assert_array_equal(kernel_device.to_numpy(y), [[0, 2, 4], [6, 8, 10]])


def test_thread_order_does_not_matter(kernel_device, rng):
    if kernel_device.name != "emulated":
        pytest.skip("cuda: the order of threads is the card's own")
    x = kernel_device.array(rng.standard_normal((40, 70)).astype(np.float32))
    results = []
    for schedule in SCHEDULES:
        y = kernel_device.empty((70, 40), np.float32)
        with thread_order(kernel_device, *schedule):
            strided_copy(kernel_device.kernels, x, y, (70, 40), (1, 70), strides((70, 40)))
        results.append(kernel_device.to_numpy(y))
    for y in results:
        np.testing.assert_array_equal(y, kernel_device.to_numpy(x).T)


def test_refuses_arrays_of_another_dtype(kernel_device):
    x = kernel_device.array(np.zeros(3))
    with pytest.raises(
        DeviceError, match=r"^strided_copy: argument 0 must be a contiguous float32 array, got a float64 one$"
    ):
        copy(kernel_device.kernels, x, x)
