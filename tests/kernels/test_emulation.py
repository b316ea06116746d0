"""What the emulation promises to kernels, and what it finds wrong with them (csrc/emulation/probes.cu)."""

import ctypes
import os
import re
import subprocess
import sys

import numpy as np
import pytest


def f32(*shape):
    return np.zeros(shape, np.float32)


# ---- what CUDA promises ----


@pytest.mark.parametrize("count", [1, 31, 32, 33, 256, 1024])
def test_barrier_orders_shared_memory(emulated, schedule, on_device, run, count):
    x, y = on_device(np.arange(count, dtype=np.float32)), on_device(f32(count))
    run(emulated.probes.reverse, x, y, count)
    assert np.array_equal(y, x[::-1])


def test_missing_barrier_shows(emulated, plain, on_device, run):
    """Half of the values are read before they are written, and which half depends on the order of the threads."""
    x, seen = on_device(np.arange(64, dtype=np.float32)), {}
    for order in ("forward", "reverse"):
        y = on_device(f32(64))
        emulated.configure(order)
        run(emulated.probes.reverse_without_barrier, x, y, 64)
        seen[order] = np.isnan(y).tolist()
    assert seen == {"forward": [True] * 32 + [False] * 32, "reverse": [False] * 32 + [True] * 32}


def test_built_in_variables(emulated, schedule, on_device, run):
    grid, block = (3, 2, 4), (5, 3, 2)
    y = on_device(np.zeros((24 * 30, 12), np.int32))
    run(emulated.probes.built_ins, y, *grid, *block)
    expected = [
        [tx, ty, tz, bx, by, bz, *block, *grid]
        for bz, by, bx in np.ndindex(grid[::-1])
        for tz, ty, tx in np.ndindex(block[::-1])
    ]
    assert y.tolist() == expected


@pytest.mark.parametrize("width", [32, 16, 8, 4])
def test_shuffles(emulated, schedule, on_device, run, rng, width):
    x, y = on_device(rng.standard_normal(32).astype(np.float32)), on_device(f32(4, 32))
    run(emulated.probes.shuffles, x, y, width)
    lane = np.arange(32)
    segment = lane - lane % width
    inside = lambda source: np.where(source // width == lane // width, source, lane)  # noqa: E731
    for row, source in enumerate([segment + 5 % width, lane ^ 3, inside(lane + 3), inside(lane - 3)]):
        assert np.array_equal(y[row], x[source]), f"row {row}"


@pytest.mark.parametrize("positive", [[], [0], [31], [3, 17], range(32)], ids=str)
def test_votes(emulated, schedule, on_device, run, positive):
    x, y = on_device(-np.ones(32, np.float32)), on_device(np.zeros((3, 32), np.uint32))
    x[list(positive)] = 1
    run(emulated.probes.votes, x, y)
    assert (y[0] == sum(1 << lane for lane in positive)).all()
    assert (y[1] == (len(positive) > 0)).all()
    assert (y[2] == (len(positive) == 32)).all()


def test_collectives_of_half_a_warp_do_not_mix(emulated, schedule, on_device, run):
    x, y = on_device(2.0 ** np.arange(32, dtype=np.float32) % 1021), on_device(f32(32))
    run(emulated.probes.sum_by_parity, x, y)
    assert (y[::2] == x[::2].sum()).all()
    assert (y[1::2] == x[1::2].sum()).all()


@pytest.mark.parametrize("positive", [0, 1, 99, 100])
def test_block_votes(emulated, schedule, on_device, run, positive):
    x, y = on_device(np.where(np.arange(100) < positive, 1, -1).astype(np.float32)), on_device(np.zeros(3, np.int32))
    for reader in (0, 50, 99):
        run(emulated.probes.block_votes, x, y, 100, reader)
        assert [y[0], bool(y[1]), bool(y[2])] == [positive, positive == 100, positive > 0]


def test_atomics(emulated, schedule, on_device, run, rng):
    x, y = on_device(rng.integers(0, 1000, 8 * 96).astype(np.int32)), on_device(np.zeros(3, np.int32))
    run(emulated.probes.atomics, x, y, 8, 96)
    assert y.tolist() == [x.sum(), x.max(), x.sum()]


# ---- schedules ----


def start_order(emulated, on_device, run, *schedule):
    emulated.configure(*schedule)
    y, counter = on_device(np.zeros(4 * 48, np.int32)), on_device(np.zeros(1, np.int32))
    run(emulated.probes.start_order, y, counter, 4, 48)
    return y.tolist()


def test_orders(emulated, on_device, run):
    numbers = list(range(4 * 48))
    assert start_order(emulated, on_device, run, "forward") == numbers
    assert start_order(emulated, on_device, run, "reverse") == numbers[::-1]
    first, again, other = (start_order(emulated, on_device, run, "random", seed) for seed in (1, 1, 2))
    assert sorted(first) == sorted(other) == numbers
    assert first == again
    assert len({tuple(order) for order in (first, other, numbers, numbers[::-1])}) == 4
    blocks = np.reshape(first, (4, 48))
    assert sorted(blocks.min(1)) == [0, 48, 96, 144], "blocks run one after another"
    assert (np.argsort(blocks, 1)[0] != np.argsort(blocks, 1)[1]).any(), "each block has an order of its own"


def test_configuration_is_what_was_configured(emulated):
    emulated.configure("random", seed=7, workers=2)
    newest = {"asynchrony": "late", "capability": 90}
    assert emulated.configuration() == {"order": "random", "seed": 7, "workers": 2} | newest
    emulated.configure(asynchrony="early", capability=75)
    oldest = {"asynchrony": "early", "capability": 75}
    assert emulated.configuration() == {"order": "forward", "seed": 0, "workers": 1} | oldest


def test_configuration_refuses(emulated):
    with pytest.raises(ValueError, match=r"^order is 'forward', 'reverse' or 'random', not 'sideways'$"):
        emulated.configure("sideways")
    with pytest.raises(ValueError, match=r"^workers is at least 1, not 0$"):
        emulated.configure(workers=0)


def python(emulated, code, **environment):
    """The finished process of a Python that runs `code` with the module as `emulated`."""
    code = f"""
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location({emulated.__name__.rpartition(".")[2]!r}, {emulated.__file__!r})
emulated = module_from_spec(spec)
spec.loader.exec_module(emulated)
{code}"""
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_environment_sets_the_workers(emulated):
    result = python(emulated, "print(emulated.configuration()['workers'])", MINICNN_EMULATED_WORKERS="3")
    assert result.stdout == "3\n", result.stderr


def test_first_block_of_a_process_may_be_one_thread(emulated):
    code = """
import ctypes
x, y = emulated.allocate(4), emulated.allocate(4)
ctypes.memset(x, 0, 4)
emulated.probes.reverse(x, y, 1, 0)
print(ctypes.string_at(y, 4).hex())"""
    assert python(emulated, code).stdout == "00000000\n"


# ---- what kernels do wrong ----

AT = r"probes\.cu:\d+"
FAULTS = {
    "diverge_at_barrier": (
        (),
        rf"{AT}: divergent barrier: this thread is in __syncthreads, \d+ others of its block wait in "
        rf"__syncthreads \({AT}\), in block \(0,0,0\), thread \(\d+,0,0\)",
    ),
    "return_before_barrier": (
        (),
        rf"deadlock in block \(0,0,0\): threads 0-47 wait in __syncthreads \({AT}\); threads 48-63 have returned",
    ),
    "diverge_in_warp": (
        (),
        rf"{AT}: divergent warp: this lane is in \w+ with mask 0xffffffff, others wait in \w+ \({AT}\) "
        rf"with mask 0xffffffff, in block \(0,0,0\), thread \(\d+,0,0\)",
    ),
    "wait_for_each_other": (
        (),
        rf"deadlock in block \(0,0,0\): threads 0-31 wait in __syncthreads \({AT}\); "
        rf"threads 32-47 wait in __syncwarp \({AT}\); threads 48-63 have returned",
    ),
    "shuffle_outside_mask": (
        (),
        rf"{AT}: __shfl_sync: reads lane 20, which is not in the mask, in block \(0,0,0\), thread \(\d+,0,0\)",
    ),
    "shuffle_with_foreign_mask": (
        (),
        rf"{AT}: __shfl_sync: lane \d+ is not in its own mask, in block \(0,0,0\), thread \(\d+,0,0\)",
    ),
    "use_more_shared_than_given": (
        (),
        rf"{AT}: the kernel uses 4096 bytes of shared memory, the launch gave 4095, "
        r"in block \(0,0,0\), thread \(0,0,0\)",
    ),
    "throw_in_thread": ((40,), r"the kernel threw: thrown on purpose, in block \(0,0,0\), thread \(40,0,0\)"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named_and_leaves_the_emulation_usable(emulated, schedule, on_device, run, name):
    arguments, message = FAULTS[name]
    x, y = on_device(np.arange(1024, dtype=np.float32)), on_device(f32(1024))
    for _ in range(2):
        with pytest.raises(RuntimeError, match=rf"^{name}: {message}$"):
            run(getattr(emulated.probes, name), *arguments)
        run(emulated.probes.reverse, x, y, 1024)
        assert np.array_equal(y, x[::-1])


@pytest.mark.parametrize("access", ["read_at", "write_at"])
@pytest.mark.parametrize("index", [64, 1000, -1024], ids=["just_behind", "far_behind", "before"])
def test_access_outside_of_a_buffer(emulated, plain, schedule, on_device, run, access, index):
    """64 floats are 256 bytes: nothing lies between them and the guard page behind. Before them is up to a page."""
    x, y = on_device(f32(64)), on_device(f32(1))
    where = rf"illegal access to byte {4 * index} of a buffer of 256 bytes, in block \(0,0,0\), thread \(7,0,0\)"
    with pytest.raises(RuntimeError, match=f"^{access}: {where}$"):
        run(getattr(emulated.probes, access), *((x, y) if access == "read_at" else (x,)), index)


def test_access_to_no_buffer(emulated, on_device, run):
    with pytest.raises(RuntimeError, match=r"^read_at: illegal access to address 0x4, in block"):
        run(emulated.probes.read_at, 0, on_device(f32(1)), 1)


def test_write_into_the_slack(emulated, plain, on_device, run):
    """A buffer's end is aligned to 256 bytes: what is written in between is found afterwards, once."""
    run(emulated.probes.write_at, on_device(f32(10)), 12)
    run(emulated.probes.write_at, on_device(f32(20)), -1)
    with pytest.raises(RuntimeError) as error:
        emulated.check_guards()
    first, *violations = str(error.value).splitlines()
    assert first == "memory outside of the device's buffers was written"
    assert sorted(violation.strip() for violation in violations) == [
        "written before its beginning: byte -4 of a buffer of 80 bytes",
        "written past its end: byte 48 of a buffer of 40 bytes",
    ]
    emulated.check_guards()


def test_write_into_the_slack_is_remembered_after_release(emulated, plain, run):
    address = emulated.allocate(40)
    run(emulated.probes.write_at, address, 12)
    emulated.release(address)
    with pytest.raises(RuntimeError, match="written past its end: byte 48 of a buffer of 40 bytes"):
        emulated.check_guards()


def test_shared_memory_is_nan_in_every_block(emulated, plain, schedule, on_device, run):
    y = on_device(f32(64))
    run(emulated.probes.reverse, on_device(f32(64)), y, 64)
    run(emulated.probes.read_shared, y, 64)
    assert (y.view(np.uint32) == 0xFFFFFFFF).all()


@pytest.mark.parametrize("index, what", [(10, "byte 40 of .* was written"), (256, "illegal access to byte 1024 of .*")])
def test_write_past_shared_memory(emulated, plain, run, index, what):
    """Its end is aligned to 1024 bytes: what is written in between is found at the end of the block."""
    for _ in range(2):
        with pytest.raises(RuntimeError, match=f"^write_shared: {what}, in block") as error:
            run(emulated.probes.write_shared, index, 10)
        assert "of the block's 40 bytes of shared memory" in str(error.value)
    run(emulated.probes.write_shared, 9, 10)


def test_stack_overflow(emulated, schedule, on_device, run):
    y = on_device(f32(1))
    run(emulated.probes.overflow_stack, y, 10)
    with pytest.raises(
        RuntimeError, match=r"^overflow_stack: stack overflow: the calls and local variables of a thread"
    ):
        run(emulated.probes.overflow_stack, y, 10_000)
    run(emulated.probes.overflow_stack, y, 10)


def test_impossible_launches(emulated, on_device, run):
    y = on_device(np.zeros(12, np.int32))
    for sizes in [
        (0, 1, 1, 1, 1, 1),
        (1, 1, 1, 32, 0, 1),
        (1, 65536, 1, 1, 1, 1),
        (1, 1, 1, 1025, 1, 1),
        (1, 1, 1, 1, 1, 65),
    ]:
        with pytest.raises(RuntimeError, match=r"^built_ins: cannot launch: a (grid|block) "):
            run(emulated.probes.built_ins, y, *sizes)
    with pytest.raises(
        RuntimeError, match=r"^write_shared: cannot launch: a block has at most 227 KiB of shared memory$"
    ):
        run(emulated.probes.write_shared, 0, 227 * 256 + 1)
    run(emulated.probes.write_shared, 0, 227 * 256)


def test_faults_outside_of_kernels_stay_fatal(emulated):
    """The handler is the emulation's for as long as a kernel runs."""
    code = """
import ctypes
address = emulated.allocate(4)
try:
    emulated.probes.read_at(0, address, 0, 0)
except RuntimeError:
    print("caught", flush=True)
ctypes.string_at(0)
print("still alive")
"""
    result = python(emulated, code)
    assert result.stdout == "caught\n", result.stderr
    assert result.returncode < 0


# ---- memory ----


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 4096, 100_000])
def test_buffers_are_aligned_and_start_as_nan(emulated, size):
    address = emulated.allocate(size)
    assert address % 256 == 0
    assert ctypes.string_at(address, size) == b"\xff" * size
    emulated.release(address)


def test_released_memory_is_poisoned_and_comes_back_last_first(emulated):
    first, second = emulated.allocate(4096), emulated.allocate(4096)
    for address in (first, second):
        ctypes.memset(address, 0, 4096)
        emulated.release(address)
        assert ctypes.string_at(address, 4096) == b"\xff" * 4096
    again = [emulated.allocate(4096), emulated.allocate(4096)]
    assert again == [second, first]
    for address in again:
        emulated.release(address)


@pytest.mark.parametrize("found_by", ["check_guards", "allocate"])
def test_write_after_release(emulated, plain, run, found_by):
    address = emulated.allocate(4096)
    emulated.release(address)
    run(emulated.probes.write_at, address, 100)
    if found_by == "allocate":
        assert emulated.allocate(4096) == address
        assert ctypes.string_at(address, 4096) == b"\xff" * 4096
        emulated.release(address)
    with pytest.raises(RuntimeError, match="written after its release: byte 400 of a buffer of 4096 bytes"):
        emulated.check_guards()
    emulated.check_guards()


def test_release_of_what_is_no_buffer(emulated):
    address = emulated.allocate(512)
    with pytest.raises(RuntimeError, match=f"^release: no buffer begins at address {address + 256}$"):
        emulated.release(address + 256)
    emulated.release(address)
    with pytest.raises(RuntimeError, match=re.escape(f"release: no buffer begins at address {address}")):
        emulated.release(address)
