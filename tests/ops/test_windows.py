"""What the pooling ops share in NumPy, and their results do not show: how much is taken at a time, and what is copied."""

import numpy as np
import pytest

from minicnn.ops import windows
from minicnn.shapes import PoolShape

SHAPES = {
    "many_images_a_chunk": (70, 5, 4, 3),
    "some_rows_of_one_image": (2, 40, 9, 8),
    "a_row_larger_than_a_chunk": (2, 6, 50, 16),
}


def shape_of(x, padding=0):
    return PoolShape.of("pool", x, 3, 2, padding)


@pytest.mark.parametrize("x", SHAPES.values(), ids=SHAPES.keys())
def test_chunks_cover_every_row_once_and_are_no_larger_than_asked(x, monkeypatch):
    monkeypatch.setattr(windows, "CHUNK", 600)
    shape = shape_of(x)
    seen = np.zeros((shape.n, shape.p), int)
    for images, rows in windows.chunks(shape, slice(0, shape.n)):
        seen[images, rows] += 1
        elements = len(range(*images.indices(shape.n))) * (rows.stop - rows.start) * shape.stride_h * shape.w * shape.c
        assert elements <= 600 or seen[images, rows].size == 1
    assert (seen == 1).all()


@pytest.mark.parametrize("padding", [0, 1])
def test_a_footprint_is_copied_only_where_there_is_padding(padding):
    shape = shape_of((2, 7, 9, 4), padding)
    x = np.ones((2, 7, 9, 4))
    footprint = windows.Footprint(shape, slice(0, shape.p))
    assert np.shares_memory(footprint.read(x, 0.0), x) == (padding == 0)
    with footprint.adding_to(x) as array:
        assert np.shares_memory(array, x) == (padding == 0)
        array += 1
    assert (x == 2).all()
