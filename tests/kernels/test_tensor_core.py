"""Products on the tensor cores: every format, layout, tile and cut, exact on integers; real numbers within what the
format gives; and the layout of shared memory, by itself.
"""

import numpy as np
import pytest
from number_formats import BFLOAT16, FLOAT16, TF32, TF32X3, formats

from minicnn import backend
from minicnn.shapes import Layout, Math, Schedule
from minicnn.tensor import Accumulate

layouts = pytest.mark.parametrize("layout", Layout, ids=lambda layout: layout.name)


def stored(layout, a, b):
    """a (m, k) and b (k, n) as they lie in memory."""
    return a.T if layout is Layout.tn else a, b.T if layout is Layout.nt else b


def multiply(device, format, layout, a, b, c, *, bias=None, accumulate=Accumulate.overwrite, narrow=False,
             schedule=(0, 0), shift=0):  # fmt: skip
    """c (m, n) as float32 after the kernel; `narrow`: c too is in the format. `shift`: elements that the operands lie
    behind the beginning of their memory.
    """

    def array(values):
        return device.array(np.pad(values.ravel(), (shift, 0)))[shift:].reshape(values.shape)

    (m, k), n = a.shape, b.shape[1]
    a, b = (array(format.encode(v)) for v in stored(layout, a, b))
    shape = (m, n, k, a.shape[1], b.shape[1], n)
    schedule = Schedule(*schedule, format.math)
    workspace = device.empty((device.kernels.gemm_workspace(shape, schedule),))
    bias = None if bias is None else device.array(np.asarray(bias, np.float32))
    target = device.array(format.encode(c) if narrow else np.asarray(c, np.float32))
    results = [target, None] if narrow else [None, target]
    arguments = [a, b, bias, *(results if format.is_narrow else [target]), workspace, shape, layout, accumulate]
    getattr(device.kernels, "gemm" + format.suffix)(*arguments, schedule)
    result = device.to_numpy(target)
    return format.decode(result) if narrow else result


def integers(rng, *shape):
    return rng.integers(-4, 5, shape).astype(np.float32)


TF32_RUNGS = ["gemm_6_tensor_core", "gemm_7_ldmatrix"]  # of the ladder, below the one that takes every format
SIZES = [(1, 1, 1), (3, 5, 7), (16, 8, 64), (65, 63, 33), (72, 136, 40), (132, 130, 17)]


@formats
@layouts
def test_every_layout_is_exact_on_integers(format, layout, ladder_device, rng):
    """Odd sizes: element by element; multiples of eight: by chunks."""
    for m, n, k in SIZES:
        a, b, bias, before = integers(rng, m, k), integers(rng, k, n), integers(rng, n), integers(rng, m, n)
        for accumulate in Accumulate:
            got = multiply(ladder_device, format, layout, a, b, before, bias=bias, accumulate=accumulate)
            np.testing.assert_array_equal(got, a @ b + bias + before * accumulate, err_msg=f"{m} x {n} x {k}")


@formats
@layouts
@pytest.mark.parametrize("schedule", [(64, 1), (64, 3), (128, 1), (128, 2)], ids=str)
def test_every_tile_and_cut_is_exact(schedule, format, layout, ladder_device, rng):
    """A reduction of less than a slice, of some that are no multiple of the stages, of parts without a slice."""
    for m, n, k in [(64, 64, 8), (136, 72, 112), (31, 130, 65)]:
        a, b, before = integers(rng, m, k), integers(rng, k, n), integers(rng, m, n)
        got = multiply(ladder_device, format, layout, a, b, before, accumulate=Accumulate.add, schedule=schedule)
        np.testing.assert_array_equal(got, a @ b + before)


@formats
@pytest.mark.parametrize("shift", [1, 2, 4])
def test_operands_may_begin_anywhere(shift, format, ladder_device, rng):
    a, b = integers(rng, 72, 48), integers(rng, 48, 80)
    for layout in Layout:
        got = multiply(ladder_device, format, layout, a, b, np.zeros((72, 80)), shift=shift, schedule=(128, 1))
        np.testing.assert_array_equal(got, a @ b)


@pytest.mark.parametrize("format", [BFLOAT16, FLOAT16], ids=lambda format: format.name)
@pytest.mark.parametrize("splits", [1, 2])
def test_results_in_the_format_of_the_operands(splits, format, ladder_device, rng):
    """Each is rounded once, from the float32 sum; an odd number of columns, so that rows begin off any boundary."""
    for m, n, k in [(40, 33, 70), (64, 64, 64)]:
        a, b, bias, before = integers(rng, m, k), integers(rng, k, n), integers(rng, n) / 8, integers(rng, m, n)
        for accumulate in Accumulate:
            got = multiply(ladder_device, format, Layout.nt, a, b, before, bias=bias, accumulate=accumulate,
                           narrow=True, schedule=(64, splits))  # fmt: skip
            expected = a @ b + bias + before * accumulate
            np.testing.assert_array_equal(got, format.decode(format.encode(expected)))


@formats
def test_rows_may_lie_apart(format, ladder_device, rng):
    a, b = integers(rng, 9, 11), integers(rng, 11, 10)
    wide = [format.encode(np.pad(v, ((0, 0), (0, 3)), constant_values=np.nan)) for v in (a, b)]
    c = ladder_device.array(np.full((9, 13), 7, np.float32))
    arguments = [*(ladder_device.array(v) for v in wide), None, *([None] * format.is_narrow), c, None]
    getattr(ladder_device.kernels, "gemm" + format.suffix)(
        *arguments, (9, 10, 11, 14, 13, 13), Layout.nn, Accumulate.overwrite, Schedule(0, 1, format.math)
    )
    got = ladder_device.to_numpy(c)
    np.testing.assert_array_equal(got[:, :10], a @ b)
    assert (got[:, 10:] == 7).all()


@formats
def test_nothing_to_sum_gives_the_bias(format, ladder_device):
    got = multiply(
        ladder_device, format, Layout.nn, np.zeros((3, 0)), np.zeros((0, 2)), np.full((3, 2), np.nan), bias=[1, 2]
    )
    assert got.tolist() == [[1, 2]] * 3


@formats
@layouts
@pytest.mark.parametrize("k", [40, 200])
def test_real_numbers_are_as_near_as_the_format_lets_them_be(k, layout, format, ladder_device, rng):
    """|c - exact| <= (what rounding the operands does + a float32 rounding for each instruction) * |a| |b|."""
    a, b = (rng.standard_normal(s) * 2.0 ** rng.integers(-8, 9, s) for s in [(70, k), (k, 66)])
    a, b = (format.decode(format.encode(v)).astype(float) for v in (a, b))  # numbers that the arrays hold
    got = multiply(ladder_device, format, layout, a, b, np.zeros((70, 66)))
    of_operands = 0 if format.operand_bits == 24 else 2.0**-format.operand_bits * 2.1
    of_sums = (k / format.depth + 2) * 2.0**-24
    excess = np.abs(got - a @ b) / (np.abs(a) @ np.abs(b)) / (of_operands + of_sums)
    assert excess.max() <= 1
    if format.math is Math.tf32:
        assert excess.max() > 0.02, "rounded less than TF32 does"


@layouts
@pytest.mark.parametrize("rung", TF32_RUNGS)
def test_every_rung_in_tf32_rounds_its_operands_as_the_highest(rung, layout, ladder_device, rng):
    """They differ by the rounding of sums, which is a thousandth of what that of the operands does."""
    m, n, k = 70, 66, 40
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n)))
    highest = multiply(ladder_device, TF32, layout, a, b, np.zeros((m, n)))
    a_array, b_array = (ladder_device.array(np.ascontiguousarray(v)) for v in stored(layout, a, b))
    c = ladder_device.empty((m, n))
    shape = (m, n, k, a_array.shape[1], b_array.shape[1], n)
    getattr(ladder_device.kernels, rung)(a_array, b_array, None, c, shape, layout, Accumulate.overwrite)
    differences = np.abs(ladder_device.to_numpy(c) - highest) / (np.abs(a) @ np.abs(b))
    assert differences.max() <= (k / TF32.depth + 2) * 2.0**-24


def test_three_products_are_as_good_as_float32(ladder_device, rng):
    """Their errors beside those of float32 arithmetic, over long sums: not twice as large."""
    a, b = rng.standard_normal((64, 600)), rng.standard_normal((600, 64))
    a, b = a.astype(np.float32), b.astype(np.float32)
    exact = a.astype(float) @ b.astype(float)
    errors = {}
    for math in Math:
        target = ladder_device.array(np.zeros((64, 64), np.float32))
        shape = (64, 64, 600, 600, 64, 64)
        ladder_device.kernels.gemm(
            ladder_device.array(a), ladder_device.array(b), None, target, None, shape, Layout.nn,
            Accumulate.overwrite, Schedule(64, 1, math),
        )  # fmt: skip
        errors[math] = np.abs(ladder_device.to_numpy(target) - exact).mean()
    assert errors[Math.tf32x3] < 2 * errors[Math.float32]
    assert errors[Math.tf32] > 50 * errors[Math.float32]


FLT_MAX, FLT_MIN = np.finfo(np.float32).max, np.finfo(np.float32).tiny
QUIET_PAYLOAD = np.uint32(0x7FC00001).view(np.float32)
SPECIALS = [
    (np.inf, 1), (-np.inf, 1.000001), (1.000001, np.inf), (np.inf, 0), (np.inf, -np.inf), (np.nan, 1), (0, np.nan),
    (QUIET_PAYLOAD, 2), (FLT_MAX, 1), (-FLT_MAX, 1), (FLT_MAX, 0.5), (FLT_MAX, -2), (FLT_MAX, FLT_MIN),
    (FLT_MIN, 0.25), (2.0**-140, 2.0**20), (3e38, 1.13), (-0.0, 5), (1e-30, 1e-30),
]  # fmt: skip


@pytest.mark.parametrize("x, y", SPECIALS, ids=str)
@layouts
def test_three_products_of_special_numbers_are_those_of_float32(layout, x, y, ladder_device):
    """x times y at one place of a sum of ones; next to it, sums without it."""
    a, b = np.ones((17, 24), np.float32), np.ones((24, 18), np.float32)
    a[5, 9], b[9, 3] = x, y
    a[:, 10:], b[10:] = 0, 0
    with np.errstate(all="ignore"):
        expected = np.zeros((17, 18), np.float32)
        for k in range(24):
            expected += np.outer(a[:, k], b[k])
    got = multiply(ladder_device, TF32X3, layout, a, b, np.zeros((17, 18)))
    special = ~np.isfinite(expected)
    np.testing.assert_array_equal(got[special], expected[special])
    np.testing.assert_allclose(got[~special], expected[~special], rtol=2.0**-20)


@pytest.mark.parametrize("format", [TF32, BFLOAT16, FLOAT16], ids=lambda format: format.name)
@pytest.mark.parametrize("x", [np.inf, -np.inf, np.nan])
def test_infinities_and_nan_reach_their_row_alone(x, format, ladder_device):
    a, b = np.ones((9, 20), np.float32), np.ones((20, 6), np.float32)
    a[4, 7] = x
    got = multiply(ladder_device, format, Layout.nn, a, b, np.zeros((9, 6)))
    np.testing.assert_array_equal(got[4], np.full(6, x))
    assert (np.delete(got, 4, 0) == 20).all()


SCHEDULES = [
    (order, seed, asynchrony)
    for order, seed in [("forward", 0), ("reverse", 0), ("random", 1)]
    for asynchrony in ("early", "late", "random")
]


@formats
def test_every_order_and_asynchrony_gives_the_same_bits(format, rng):
    """Five slices, so that every stage is filled again; by chunks, and element by element."""
    device = backend.device("emulated")
    before = device.module.configuration()
    try:
        for m, n, k in [(72, 72, 80 * 64 // 32), (33, 31, 75)]:
            a, b, results = rng.standard_normal((m, k)), rng.standard_normal((k, n)), []
            for order, seed, asynchrony in SCHEDULES:
                device.module.configure(**before | {"order": order, "seed": seed, "asynchrony": asynchrony})
                results.append(multiply(device, format, Layout.nn, a, b, np.zeros((m, n)), schedule=(64, 2)))
            for other in results[1:]:
                np.testing.assert_array_equal(results[0].view(np.uint32), other.view(np.uint32))
    finally:
        device.module.configure(**before)


def test_arithmetic_that_there_is_not_is_refused(ladder_device):
    one = ladder_device.array(np.ones((1, 1), np.float32))
    with pytest.raises(ValueError, match=r"math is 0 \(float32\), 1 \(tf32\) or 2 \(tf32x3\), not 3"):
        ladder_device.kernels.gemm(one, one, None, one, None, (1,) * 6, Layout.nn, Accumulate.overwrite, (64, 1, 3))


# ---- compute capability 7.5, whose tensor cores know Float16 alone ----


@layouts
def test_float16_on_turing_is_exact_on_integers(layout, turing_device, rng):
    for m, n, k in SIZES:
        a, b, bias = integers(rng, m, k), integers(rng, k, n), integers(rng, n)
        got = multiply(turing_device, FLOAT16, layout, a, b, np.zeros((m, n)), bias=bias)
        np.testing.assert_array_equal(got, a @ b + bias, err_msg=f"{m} x {n} x {k}")


def test_bfloat16_on_turing_is_refused(turing_device):
    one = np.ones((1, 1), np.float32)
    message = "^gemm_bfloat16: bfloat16 wants a GPU of compute capability 8.0, this one has 7.5: use float32$"
    with pytest.raises(ValueError, match=message):
        multiply(turing_device, BFLOAT16, Layout.nn, one, one, one)


@pytest.mark.parametrize("rung", TF32_RUNGS)
def test_rungs_in_tf32_on_turing_are_refused(rung, turing_device):
    one = turing_device.array(np.ones((1, 1), np.float32))
    message = f"^{rung}: tf32 wants a GPU of compute capability 8.0, this one has 7.5: use float32$"
    with pytest.raises(ValueError, match=message):
        getattr(turing_device.kernels, rung)(one, one, None, one, (1,) * 6, Layout.nn, Accumulate.overwrite)


@pytest.mark.parametrize("math", [Math.tf32, Math.tf32x3], ids=lambda math: math.name)
def test_tf32_on_turing_is_float32(math, turing_device, rng):
    a, b = (turing_device.array(rng.standard_normal((40, 40)).astype(np.float32)) for _ in range(2))
    results = []
    for asked in (math, Math.float32):
        c = turing_device.empty((40, 40))
        turing_device.kernels.gemm(a, b, None, c, None, (40,) * 6, Layout.nn, Accumulate.overwrite, (64, 1, asked))
        results.append(turing_device.to_numpy(c))
    np.testing.assert_array_equal(*results)


# ---- shared memory ----


def offsets(emulated, element_bytes, tile, along_reduction):
    """Bytes from the beginning of a slice, by (outer, k)."""
    at = emulated.index_maps.tensor_core_slice_offset
    depth = 64 // element_bytes
    return element_bytes * np.array(
        [[at(element_bytes, tile, along_reduction, outer, k) for k in range(depth)] for outer in range(tile)]
    )


def is_free_of_conflicts(addresses, width):
    """Whether lanes that read `width` bytes each, 128 together, find them in different banks."""
    banks = (np.asarray(addresses)[:, None] // 4 + np.arange(width // 4)).ravel() % 32
    return len(set(banks)) == banks.size == 32


@pytest.mark.parametrize("tile", [64, 128])
@pytest.mark.parametrize("element_bytes", [2, 4])
@pytest.mark.parametrize("along_reduction", [0, 1])
def test_slices_have_each_element_once_and_no_bank_conflicts(along_reduction, element_bytes, tile, emulated):
    at = offsets(emulated, element_bytes, tile, along_reduction)
    chunk, depth = 16 // element_bytes, 64 // element_bytes
    assert sorted(at.ravel()) == list(range(0, 64 * tile, element_bytes))
    lines = at if along_reduction else at.T  # (row, place in it)
    chunks = lines[:, ::chunk]
    assert (np.diff(lines.reshape(*chunks.shape, chunk)) == element_bytes).all() and (chunks % 16 == 0).all()
    brought = chunks.reshape(-1, 8)  # by eight threads next to one another, which are a phase of a copy of 16 bytes
    assert all(is_free_of_conflicts(eight, 16) for eight in brought)
    if along_reduction or element_bytes == 2:  # a phase of ldmatrix: a chunk of eight rows
        eights = chunks.reshape(-1, 8, chunks.shape[1]).transpose(0, 2, 1).reshape(-1, 8)
        assert all(is_free_of_conflicts(eight, 16) for eight in eights)
    else:  # 8 outer indices of 4 k, by single loads
        for outer in range(0, tile, 8):
            for k in range(0, depth, 4):
                assert is_free_of_conflicts(at[outer : outer + 8, k : k + 4].ravel(), 4)
