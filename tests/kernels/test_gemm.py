"""The GEMM ladder: every rung, layout, tile and cut of the reduction, exact on integers at the edges of tiles."""

import re
from pathlib import Path

import numpy as np
import pytest

from minicnn.shapes import Math
from minicnn.tensor import Accumulate

SCHEDULED = ("gemm_5_pipelined", "gemm_8_asynchronous", "gemm")
LAYOUTS = {"nn": 0, "nt": 1, "tn": 2}
RUNGS = [
    "gemm_1_naive",
    "gemm_2_shared",
    "gemm_3_register",
    "gemm_4_vectorized",
    "gemm_5_pipelined",
    "gemm_6_tensor_core",
    "gemm_7_ldmatrix",
    "gemm_8_asynchronous",
    "gemm",
]
SIZES = [(1, 1, 1), (3, 5, 7), (16, 16, 16), (31, 33, 17), (64, 64, 8), (65, 63, 9), (130, 66, 20), (31, 130, 9)]
FEW = [(31, 33, 17), (64, 64, 8), (130, 131, 9), (132, 260, 8)]


@pytest.fixture(params=RUNGS)
def rung(request, kernel_device):
    if not hasattr(kernel_device.kernels, request.param):
        pytest.skip("device cpu has one kernel in the place of the ladder")
    return request.param


def operands(layout: str, m: int, n: int, k: int, rng):
    """(a, b as they lie in memory, their product)."""
    a, b = rng.integers(-4, 5, (m, k)).astype(np.float32), rng.integers(-4, 5, (k, n)).astype(np.float32)
    stored_a = np.ascontiguousarray(a.T) if layout == "tn" else a
    stored_b = np.ascontiguousarray(b.T) if layout == "nt" else b
    return stored_a, stored_b, a @ b


def launch(device, name, layout, a, b, bias, c, shape, accumulate, *, schedule=None, shift=0):
    """One rung on arrays of `device`; those with a schedule have a workspace too. `shift`: elements that the operands lie
    behind the beginning of their memory.
    """
    shifted = [device.array(np.pad(v.ravel(), (shift, 0)))[shift:].reshape(v.shape) for v in (a, b)]
    arrays = [*shifted, None if bias is None else device.array(bias)]
    target = device.array(c)
    arguments = [*arrays, target]
    if schedule is not None:
        arguments.append(device.empty((device.kernels.gemm_workspace(shape, schedule),)))
    arguments += [shape, LAYOUTS[layout], accumulate]
    if schedule is not None:
        arguments.append(schedule)
    getattr(device.kernels, name)(*arguments)
    return device.to_numpy(target)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_rung_is_exact(rung, layout, kernel_device, rng):
    for m, n, k in SIZES:
        a, b, product = operands(layout, m, n, k, rng)
        bias, before = rng.integers(-4, 5, n).astype(np.float32), rng.integers(-4, 5, (m, n)).astype(np.float32)
        shape = (m, n, k, a.shape[1], b.shape[1], n)
        schedule = (0, 0) if rung in SCHEDULED else None
        for accumulate in Accumulate:
            got = launch(kernel_device, rung, layout, a, b, bias, before, shape, accumulate, schedule=schedule)
            np.testing.assert_array_equal(
                got, product + bias + before * accumulate, err_msg=f"{rung} {layout} {m}x{n}x{k}"
            )


@pytest.mark.parametrize("shift", [0, 1, 4])
def test_every_rung_takes_operands_that_begin_anywhere(shift, rung, kernel_device, rng):
    """Five slices of the deepest, so that every stage is filled again."""
    m, n, k = 36, 40, 76
    for layout in LAYOUTS:
        a, b, product = operands(layout, m, n, k, rng)
        schedule = (128, 1) if rung in SCHEDULED else None
        shape, c = (m, n, k, a.shape[1], b.shape[1], n), np.zeros((m, n), np.float32)
        got = launch(
            kernel_device, rung, layout, a, b, None, c, shape, Accumulate.overwrite, schedule=schedule, shift=shift
        )
        np.testing.assert_array_equal(got, product, err_msg=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("schedule", [(64, 1), (64, 2), (128, 1), (128, 3)], ids=str)
def test_every_tile_and_cut_is_exact(schedule, layout, kernel_device, rng):
    for m, n, k in FEW:
        a, b, product = operands(layout, m, n, 3 * k, rng)
        shape = (m, n, 3 * k, a.shape[1], b.shape[1], n)
        got = launch(kernel_device, "gemm", layout, a, b, None, product, shape, Accumulate.add, schedule=schedule)
        np.testing.assert_array_equal(got, 2 * product)


@pytest.mark.parametrize("m, n", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("math", Math, ids=lambda math: math.name)
def test_a_product_of_nothing(math, m, n, ladder_device):
    a, b, c = (np.zeros(shape, np.float32) for shape in ((m, 3), (3, n), (m, n)))
    got = launch(
        ladder_device, "gemm", "nn", a, b, None, c, (m, n, 3, 3, n, n), Accumulate.overwrite, schedule=(0, 0, math)
    )
    assert got.shape == (m, n)


def test_float32_keeps_all_of_24_bits(kernel_device):
    """Which two numbers of TF32 would not: 8390657 is 2^23 + 2^11 + 1."""
    a, one, c = np.array([[8390657.0]], np.float32), np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
    got = launch(kernel_device, "gemm", "nn", a, one, None, c, (1,) * 6, Accumulate.overwrite, schedule=(0, 0))
    assert got[0, 0] == 8390657


def test_a_product_and_its_transpose_are_cut_alike(ladder_device):
    """Few tiles over a long reduction: in as many parts as keep the processors busy, the more the fewer tiles."""
    k, workspace = 1 << 20, ladder_device.kernels.gemm_workspace
    wide, tall = (workspace((m, n, k, k, n, n), (0, 0)) for m, n in ((3, 200), (200, 3)))
    assert wide == tall > 3 * 200
    assert wide % (3 * 200) == 0
    assert workspace((200, 200, k, k, 200, 200), (0, 0)) / (200 * 200) < wide / (3 * 200)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("extents", [(9, 10, 11), (31, 33, 20), (32, 36, 17), (32, 36, 20)], ids=str)
@pytest.mark.parametrize("off", [0, 1], ids=["in_quads", "off_quads"])
def test_rows_may_lie_apart(off, extents, layout, rung, kernel_device, rng):
    """Between them lies NaN, which nobody reads or writes; a row may begin where quads do, and yet end within one."""
    m, n, k = extents
    *ab, product = operands(layout, m, n, k, rng)
    gaps = [((0, 0), (0, 4 - array.shape[1] % 4 + off)) for array in (*ab, product)]
    a, b, c = (
        np.pad(v, gap, constant_values=np.nan) for v, gap in zip((*ab, np.ones_like(product)), gaps, strict=True)
    )
    shape = (m, n, k, a.shape[1], b.shape[1], c.shape[1])
    schedules = {"gemm": [(64, 1, math) for math in Math]}.get(rung, [(64, 1) if rung in SCHEDULED else None])
    for schedule in schedules:
        got = launch(kernel_device, rung, layout, a, b, None, c, shape, Accumulate.add, schedule=schedule)
        np.testing.assert_array_equal(got[:, :n], product + 1)
        np.testing.assert_array_equal(got[:, n:], c[:, n:])


def test_nothing_to_sum_gives_the_bias(kernel_device):
    a, b = np.zeros((3, 0), np.float32), np.zeros((0, 2), np.float32)
    c = np.full((3, 2), np.nan, np.float32)
    got = launch(
        kernel_device,
        "gemm",
        "nn",
        a,
        b,
        np.array([1, 2], np.float32),
        c,
        (3, 2, 0, 1, 2, 2),
        Accumulate.overwrite,
        schedule=(0, 1),
    )
    assert got.tolist() == [[1, 2]] * 3


def test_a_product_without_rows_or_columns_writes_nothing(rung, kernel_device):
    schedule = (0, 0) if rung in SCHEDULED else None
    for m, n in ((0, 5), (5, 0)):
        a, b, c = np.ones((m, 3), np.float32), np.ones((3, n), np.float32), np.ones((m, n), np.float32)
        shape = (m, n, 3, 3, n, n)
        launch(kernel_device, rung, "nn", a, b, None, c, shape, Accumulate.overwrite, schedule=schedule)


def test_a_tile_that_there_is_not_is_refused(ladder_device, rng):
    a, b, product = operands("nn", 3, 3, 3, rng)
    with pytest.raises(ValueError, match="a tile is 64 or 128, or 0 to have it chosen, not 32"):
        launch(
            ladder_device, "gemm", "nn", a, b, None, product, (3, 3, 3, 3, 3, 3), Accumulate.overwrite, schedule=(32, 1)
        )


def test_every_rung_says_what_it_adds_and_what_is_predicted():
    """In terms that compare: milliseconds of one product on one GPU, or what was measured."""
    files = sorted((Path(__file__).parents[2] / "csrc" / "gemm").glob("gemm_[0-9]*.cu"))
    assert [file.stem for file in files] == [rung for rung in RUNGS if rung != "gemm"]
    for number, file in enumerate(files, 1):
        head = " ".join(line.removeprefix("// ") for line in file.read_text().split("\n#include")[0].splitlines())
        assert head.startswith(f"GEMM, rung {number}: "), file.name
        said = re.search(r"Idea: .*?((?:Predicted|Measured).*?\d ms.*)", head)
        assert said and "4096^3" in said[1] and "H100" in said[1], file.name
