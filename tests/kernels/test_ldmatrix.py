"""ldmatrix on the device (csrc/device/ldmatrix.h) against the layout that the PTX ISA gives it."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import unavailable

ROWS = 64  # of 8 elements of 16 bits each, in shared memory
PROBES = Path(__file__).parents[2] / "csrc/emulation/probes_tensor_core.cu"
NOTHING, BEFORE, AFTER = range(3)  # the barrier that is left out


def expected_registers(x, offsets, matrices, transposed):
    """Lane 8 m + i hands in row i of matrix m; thread l gets elements 2 (l % 4) and the next of row l / 4, or column."""
    memory = x.reshape(-1)
    registers = np.zeros((32, matrices), np.uint32)
    for number in range(matrices):
        rows = [memory[begin // 2 : begin // 2 + 8] for begin in offsets[8 * number : 8 * number + 8]]
        matrix = np.array(rows).T if transposed else np.array(rows)
        for lane in range(32):
            low, high = (int(matrix[lane // 4, lane % 4 * 2 + i]) for i in range(2))
            registers[lane, number] = high << 16 | low
    return registers


def load(module, on_device, run, x, offsets, matrices=4, transposed=False, left_out=NOTHING):
    y = on_device(np.zeros((32, matrices), np.uint32))
    offsets = on_device(np.asarray(offsets, np.int32))
    run(module.instructions.load_matrices, on_device(x), offsets, y, matrices, int(transposed), left_out)
    return y


def place(code):
    """ "probes_tensor_core.cu:25": where the source has this code, which it has once."""
    lines = [i for i, text in enumerate(PROBES.read_text().splitlines(), 1) if code in text]
    assert len(lines) == 1, f"{code!r} stands in {len(lines)} lines"
    return re.escape(f"{PROBES.name}:{lines[0]}")


def in_order(matrices):
    """Rows one after another; the lanes that are left over hand in the first ones again."""
    return 16 * (np.arange(32) % (8 * matrices))


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "trans"])
@pytest.mark.parametrize("matrices", [1, 2, 4])
def test_every_lane_gets_the_published_elements(emulated, schedule, on_device, run, matrices, transposed):
    """Each element is its own number: row 2, column 5 is 2 * 8 + 5."""
    x = np.arange(8 * ROWS, dtype=np.uint16).reshape(ROWS, 8)
    offsets = in_order(matrices)
    got = load(emulated, on_device, run, x, offsets, matrices, transposed)
    np.testing.assert_array_equal(got, expected_registers(x, offsets, matrices, transposed))


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "trans"])
@pytest.mark.parametrize("matrices", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_random_bits_from_rows_anywhere(emulated, on_device, run, matrices, transposed, seed):
    """Rows in any order, some of them twice; the bits are moved as they are, those of NaNs and infinities too."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2**16, (ROWS, 8)).astype(np.uint16)
    x[rng.random(x.shape) < 0.2] |= 0x7F80
    offsets = 16 * rng.integers(0, ROWS, 32)
    got = load(emulated, on_device, run, x, offsets, matrices, transposed)
    np.testing.assert_array_equal(got, expected_registers(x, offsets, matrices, transposed))


def test_elements_of_32_bits(emulated, on_device, run, rng):
    """Lane l gets element (l / 4, l % 4) of 8 rows of four, which is how mma takes TF32."""
    x = rng.integers(0, 2**32, (ROWS // 2 * 8,)).astype(np.uint32)
    offsets = in_order(4)
    got = load(emulated, on_device, run, x.view(np.uint16).reshape(ROWS, 8), offsets)
    matrices = x[: 4 * 32].reshape(4, 8, 4)
    for lane in range(32):
        np.testing.assert_array_equal(got[lane], matrices[:, lane // 4, lane % 4])


# ---- what kernels do wrong ----

AT = r"probes_tensor_core\.cu:\d+"


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "trans"])
@pytest.mark.parametrize("lane", [0, 9, 31])
@pytest.mark.parametrize("offset", [2, 8, 24])
def test_misaligned_row(emulated, schedule, on_device, run, lane, offset, transposed):
    """Of lanes that a single matrix does not need too: sm_75 reads their addresses."""
    offsets = in_order(1)
    offsets[lane] = offset
    name = "ldmatrix_trans" if transposed else "ldmatrix"
    message = (
        rf"^load_matrices: {AT}: {name}: this lane's row begins at byte {offset} of shared memory, and not at a "
        rf"multiple of 16, in block \(0,0,0\), thread \({lane},0,0\)$"
    )
    with pytest.raises(RuntimeError, match=message):
        load(emulated, on_device, run, np.zeros((ROWS, 8), np.uint16), offsets, 1, transposed)


@pytest.mark.parametrize("offset", [16 * ROWS, 16 * ROWS - 8, -16, 2**30], ids=["behind", "across", "before", "far"])
def test_row_outside_of_shared_memory(emulated, on_device, run, offset):
    offsets = in_order(4)
    offsets[5] = offset
    message = (
        rf"^load_matrices: {AT}: ldmatrix: the 16 bytes of this lane's row are not in the block's 1024 bytes of "
        rf"shared memory, in block \(0,0,0\), thread \(5,0,0\)$"
    )
    with pytest.raises(RuntimeError, match=message):
        load(emulated, on_device, run, np.zeros((ROWS, 8), np.uint16), offsets)


def test_part_of_a_warp(emulated, schedule, run):
    message = (
        rf"^load_matrices_in_half_a_warp: deadlock in block \(0,0,0\): threads 0-15 wait in ldmatrix \({AT}\); "
        r"threads 16-31 have returned$"
    )
    with pytest.raises(RuntimeError, match=message):
        run(emulated.probes.load_matrices_in_half_a_warp)


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "trans"])
@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
class TestUnderTheDetector:
    @pytest.fixture
    def emulated(self, order):
        """The checked module, whatever the emulated device of this run uses."""
        try:
            module = importlib.import_module("minicnn._emulated_checked")
        except ImportError:
            unavailable("checked", "minicnn._emulated_checked was not built (MINICNN_CHECKED=1)")
        before = module.configuration()
        module.configure(**before | {"order": order})
        yield module
        module.configure(**before)

    @pytest.mark.parametrize(
        "left_out, write", [(BEFORE, "shared.elements[i] = x[i];"), (AFTER, "shared.elements[i] = 0;")]
    )
    def test_missing_barrier_is_a_race(self, emulated, on_device, run, left_out, write, transposed):
        """The read is reported where the kernel calls ldmatrix, the write where it stores, whichever comes last."""
        read = f"read at {place('  ldmatrix_trans(registers, row);' if transposed else '  ldmatrix(registers, row);')}"
        write = f"written at {place(write)}"
        with pytest.raises(RuntimeError) as error:
            load(emulated, on_device, run, np.zeros((ROWS, 8), np.uint16), in_order(4), 4, transposed, left_out)
        message = "|".join(
            rf"load_matrices: race on byte \d+ of the block's 1024 bytes of shared memory: {last}, {first} by thread "
            r"\(\d+,0,0\), and nothing orders the two, in block \(0,0,0\), thread \(\d+,0,0\)"
            for last, first in [(read, write), (write, read)]
        )
        assert re.fullmatch(message, str(error.value)), str(error.value)

    def test_barriers_order_the_loads(self, emulated, on_device, run, rng, transposed):
        x = rng.integers(0, 2**16, (ROWS, 8)).astype(np.uint16)
        got = load(emulated, on_device, run, x, in_order(4), 4, transposed)
        np.testing.assert_array_equal(got, expected_registers(x, in_order(4), 4, transposed))
