"""Axes: which are meant, broadcasting, and that a merged walk visits the same elements in the same order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicnn.axes import (
    AXES,
    LARGEST_EXTENT,
    Walk,
    broadcast_shape,
    broadcast_strides,
    normalize_axes,
    normalize_axis,
    runs,
    strides,
)
from minicnn.errors import OpError

shapes = st.lists(st.integers(0, 3), max_size=7).map(tuple)


def offsets(extents, *strides_of_arrays):
    """The offsets that a walk visits in each array, in order."""
    return [
        [sum(i * step for i, step in zip(index, steps, strict=True)) for index in np.ndindex(extents)]
        for steps in strides_of_arrays
    ]


@given(shapes)
def test_strides_are_numpy_s(shape):
    array = np.zeros(shape, np.uint8)
    if array.size:
        assert offsets(shape, strides(shape)) == offsets(shape, array.strides)


@settings(max_examples=200)
@given(st.data())
def test_a_merged_walk_visits_the_same_elements(data):
    """Walks over broadcast, permuted and sliced arrays, the padding included."""
    extents = data.draw(st.lists(st.integers(1, 3), max_size=6).map(tuple))
    order = data.draw(st.permutations(range(len(extents))))
    repeated = data.draw(st.lists(st.booleans(), min_size=len(extents), max_size=len(extents)))
    steps = data.draw(st.lists(st.integers(1, 2), min_size=len(extents), max_size=len(extents)))
    larger = strides(tuple(extents[axis] * steps[axis] for axis in order))
    a = tuple(0 if repeated[axis] else larger[order.index(axis)] * steps[axis] for axis in range(len(extents)))
    b = strides(extents)
    walk = Walk.of("test", extents, a, b)
    assert offsets(*walk) == offsets(extents, a, b)
    assert offsets(*walk.padded) == offsets(extents, a, b)
    assert all(len(part) == AXES for part in walk.padded)


def test_contiguous_arrays_are_one_axis():
    assert Walk.of("test", (2, 3, 4), (12, 4, 1), (12, 4, 1)) == ((24,), (1,), (1,))


def test_a_bias_is_two_axes():
    shape = (2, 3, 5, 4)
    assert Walk.of("test", shape, strides(shape), broadcast_strides((4,), shape)) == ((30, 4), (4, 1), (0, 1))


def test_no_axis_grows_past_an_int():
    shape = (2, LARGEST_EXTENT - 1)
    assert Walk.of("test", shape, strides(shape), strides(shape)).extents == shape
    shape = (2, LARGEST_EXTENT // 2)
    assert Walk.of("test", shape, strides(shape), strides(shape)).extents == (LARGEST_EXTENT - 1,)


def test_refuses_more_axes_than_kernels_take():
    seven = (2,) * 7
    with pytest.raises(OpError, match=r"^test: at most 6 axes can be walked apart, \(2, 2, 2, 2, 2, 2, 2\) has 7$"):
        Walk.of("test", seven, strides(seven)[::-1], strides(seven))


@given(shapes, shapes)
def test_broadcasting_is_numpy_s(a, b):
    try:
        expected = np.broadcast_shapes(a, b)
    except ValueError:
        with pytest.raises(OpError, match=r"^test: shapes .* do not broadcast: \d+ against \d+ at axis -\d+; "):
            broadcast_shape("test", a, b)
        return
    assert broadcast_shape("test", a, b) == expected
    source = np.arange(np.prod(a, dtype=int)).reshape(a)
    if 0 not in expected:
        assert offsets(expected, broadcast_strides(a, expected)) == [np.broadcast_to(source, expected).ravel().tolist()]


@pytest.mark.parametrize(
    "axes, ndim, expected",
    [
        (None, 3, (0, 1, 2)),
        (None, 0, ()),
        (1, 3, (1,)),
        (-1, 3, (2,)),
        ((2, 0), 3, (0, 2)),
        ((-1, -3), 3, (0, 2)),
        ((), 2, ()),
    ],
)
def test_axes_come_ascending(axes, ndim, expected):
    assert normalize_axes("test", axes, ndim) == expected


def test_refuses_axes_that_are_not_there():
    for axis in (3, -4):
        with pytest.raises(OpError, match=rf"^test: axis {axis} is not there, the tensor has 3 axes$"):
            normalize_axis("test", axis, 3)
    with pytest.raises(OpError, match=r"^test: axis must be an integer, got 'x'$"):
        normalize_axis("test", "x", 3)
    with pytest.raises(OpError, match=r"^test: axes \(0, -3\) name one axis twice$"):
        normalize_axes("test", (0, -3), 3)


@pytest.mark.parametrize(
    "axes, expected",
    [((), []), ((1,), [(1, 2)]), ((0, 1, 2), [(0, 3)]), ((0, 2, 3, 5), [(0, 1), (2, 4), (5, 6)])],
)
def test_runs_of_neighbours(axes, expected):
    assert runs(axes) == expected
