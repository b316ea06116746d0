"""The index maps of csrc/shapes.h, exhaustively on small shapes, against NumPy."""

import itertools

import numpy as np
import pytest

from minicnn.shapes import ConvShape, window_count


@pytest.fixture
def maps(emulated):
    return emulated.index_maps


AXES = [
    (inputs, taps, window_count("test", "axis", inputs, taps, stride, padding, dilation), stride, padding, dilation)
    for inputs, taps, stride, padding, dilation in itertools.product(
        (1, 4, 7), (1, 2, 3), (1, 2, 3, 4), (0, 1, 3), (1, 2, 3)
    )
    if inputs + 2 * padding >= dilation * (taps - 1) + 1
]


def test_axis_forward_and_back(maps):
    """reads[o, t], the position that tap t of output o reads, searched for every position."""
    assert len(AXES) > 250
    for axis in AXES:
        inputs, taps, outputs, stride, padding, dilation = axis
        reads = np.arange(outputs)[:, None] * stride + np.arange(taps) * dilation - padding
        for o, t in np.ndindex(reads.shape):
            assert maps.input_at(axis, o, t) == reads[o, t], axis
            assert maps.is_inside(axis, reads[o, t]) == (0 <= reads[o, t] < inputs), axis
        for position, t in np.ndindex(inputs, taps):
            found = np.flatnonzero(reads[:, t] == position)
            assert maps.output_at(axis, position, t) == (found[0] if found.size else -1), (axis, position, t)


def test_taps_of_a_strided_gradient(maps):
    """The taps that read a position at some output, were there outputs without end on both sides."""
    for axis in AXES:
        inputs, taps, _, stride, padding, dilation = axis
        reads = np.arange(-50, 50)[:, None] * stride + np.arange(taps) * dilation - padding
        for position in range(inputs):
            expected = np.flatnonzero((reads == position).any(0)).tolist()
            first, step = maps.first_tap(axis, position), maps.tap_step(axis)
            assert list(range(first, taps, step)) == expected, (axis, position)
            assert first == maps.first_tap(axis, position % stride) or position % stride >= inputs


SHAPES = {
    "plain": ((2, 5, 4, 3), (4, 3, 2, 3), 1, 0, 1, 1),
    "strided_and_padded": ((1, 6, 5, 2), (2, 3, 3, 2), (2, 3), (1, 2), 1, 1),
    "dilated": ((1, 7, 6, 1), (2, 3, 2, 1), 1, (0, 1), (2, 3), 1),
    "grouped": ((1, 3, 4, 6), (4, 2, 3, 3), (1, 2), 1, 1, 2),
    "stride_beyond_kernel": ((2, 7, 8, 1), (1, 2, 1, 1), (3, 4), 0, 1, 1),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def shape(request):
    return ConvShape.of("test", *request.param)


def test_pixels_and_taps_are_numbered_as_they_lie_in_memory(maps, shape):
    n, h, w, k, r, s, p, q = (getattr(shape, name) for name in "nhwkrspq")
    assert [maps.output_pixel(shape, i) for i in range(n * p * q)] == list(np.ndindex(n, p, q))
    assert [maps.input_pixel(shape, i) for i in range(n * h * w)] == list(np.ndindex(n, h, w))
    for channels in (1, 3, k):
        assert [maps.tap_at(shape, i, channels) for i in range(r * s * channels)] == list(np.ndindex(r, s, channels))


def test_offsets(maps, shape):
    n, h, w, c, k, r, s, p, q = shape[:9]
    for offset, extents in [
        (maps.x_offset, (n, h, w, c)),
        (maps.w_offset, (k, r, s, c // shape.groups)),
        (maps.y_offset, (n, p, q, k)),
    ]:
        assert [offset(shape, *index) for index in np.ndindex(extents)] == list(range(np.prod(extents)))


def test_offsets_pass_two_to_the_31(maps):
    shape = ConvShape.of("test", (1024, 224, 224, 64), (64, 3, 3, 64), 1, 1, 1, 1)
    last = (1023, 223, 223, 63)
    expected = 1024 * 224 * 224 * 64 - 1
    assert expected > 2**31
    assert maps.x_offset(shape, *last) == maps.y_offset(shape, *last) == expected


def products(shape):
    """Every product that the convolution adds up: {(offset in x, in w, in y)}, straight from the formula."""
    c_group, k_group = shape.c // shape.groups, shape.k // shape.groups
    x, w, y = (np.arange(np.prod(e)).reshape(e) for e in (shape[:4], (shape.k, shape.r, shape.s, c_group), shape.out))
    result = set()
    for n, p, q, k, r, s, c in np.ndindex(*shape.out, shape.r, shape.s, c_group):
        i = p * shape.stride_h - shape.padding_h + r * shape.dilation_h
        j = q * shape.stride_w - shape.padding_w + s * shape.dilation_w
        if 0 <= i < shape.h and 0 <= j < shape.w:
            result.add((x[n, i, j, k // k_group * c_group + c], w[k, r, s, c], y[n, p, q, k]))
    return result


def fprop(maps, shape, rows, columns, c_group, k_group):
    """(n, p, q, k, r, s, c) of every product of the forward GEMM, k and c within the group."""
    pixels = [maps.output_pixel(shape, i) for i in range(shape.n * shape.p * shape.q)]
    taps = [maps.tap_at(shape, i, c_group) for i in range(shape.r * shape.s * c_group)]
    for (n, p, q), k, (r, s, c) in itertools.product(pixels, range(k_group), taps):
        yield n, p, q, k, r, s, c


def dgrad(maps, shape, rows, columns, c_group, k_group):
    pixels = [maps.input_pixel(shape, i) for i in range(shape.n * shape.h * shape.w)]
    taps = [maps.tap_at(shape, i, k_group) for i in range(shape.r * shape.s * k_group)]
    for (n, i, j), c, (r, s, k) in itertools.product(pixels, range(c_group), taps):
        p, q = maps.output_at(rows, i, r), maps.output_at(columns, j, s)
        if p >= 0 and q >= 0:
            yield n, p, q, k, r, s, c


def wgrad(maps, shape, rows, columns, c_group, k_group):
    pixels = [maps.output_pixel(shape, i) for i in range(shape.n * shape.p * shape.q)]
    taps = [maps.tap_at(shape, i, c_group) for i in range(shape.r * shape.s * c_group)]
    for k, (r, s, c), (n, p, q) in itertools.product(range(k_group), taps, pixels):
        yield n, p, q, k, r, s, c


@pytest.mark.parametrize("gemm", [fprop, dgrad, wgrad])
def test_each_gemm_adds_up_the_products_of_the_convolution(maps, shape, gemm):
    rows, columns = maps.conv_axes(shape)
    c_group, k_group = shape.c // shape.groups, shape.k // shape.groups
    found = []
    for group in range(shape.groups):
        for n, p, q, k, r, s, c in gemm(maps, shape, rows, columns, c_group, k_group):
            i, j = maps.input_at(rows, p, r), maps.input_at(columns, q, s)
            if maps.is_inside(rows, i) and maps.is_inside(columns, j):
                k_here, c_here = group * k_group + k, group * c_group + c
                offsets = maps.x_offset(shape, n, i, j, c_here), maps.w_offset(shape, k_here, r, s, c)
                found.append((*offsets, maps.y_offset(shape, n, p, q, k_here)))
    assert len(found) == len(set(found)), "each product once"
    assert set(found) == products(shape)
