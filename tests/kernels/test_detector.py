"""What the detector of the checked module finds, in its own words, and what it must not take for a fault."""

import ctypes
import functools
import importlib
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import unavailable

CSRC = Path(__file__).parents[2] / "csrc"
SCHEDULES = [
    ("forward", 0, "late"),
    ("forward", 0, "early"),
    ("reverse", 0, "late"),
    ("random", 1, "random"),
    ("random", 2, "random"),
]


@pytest.fixture
def emulated():
    """The checked module, whatever the emulated device of this run uses."""
    try:
        module = importlib.import_module("minicnn._emulated_checked")
    except ImportError:
        unavailable("checked", "minicnn._emulated_checked was not built (MINICNN_CHECKED=1)")
    before = module.configuration()
    yield module
    module.configure(**before)
    module.check_guards()


@pytest.fixture
def races(emulated):
    return emulated.races


@pytest.fixture(params=SCHEDULES, ids=lambda schedule: "{}{}-{}".format(*schedule))
def schedule(request, emulated):
    order, seed, asynchrony = request.param
    emulated.configure(order, seed, asynchrony=asynchrony)


def f32(*shape):
    return np.zeros(shape, np.float32)


def i32(*shape):
    return np.zeros(shape, np.int32)


def at(code, file="races.cu"):
    """The place of this code in the source, where it stands once: races.cu:25."""
    lines = next(CSRC.rglob(file)).read_text().splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if code in line)
    return f"{file}:{number}"


def pattern(text):
    """A regular expression for `text` in which # stands for any number."""
    return re.escape(text).replace(re.escape("#"), r"-?\d+")


@pytest.fixture
def finds(run):
    """A function: the kernel is refused, and with this message; any of the messages, where there are several."""

    def check(messages, function, *arguments):
        with pytest.raises(RuntimeError) as error:
            run(function, *arguments)
        messages = [messages] if isinstance(messages, str) else messages
        assert re.fullmatch("|".join(map(pattern, messages)), str(error.value)), (
            f"\ngot      {error.value}\nexpected " + "\n      or ".join(messages)
        )

    return check


def race(op, memory, one, other, block=""):
    """The two messages of a race: which access comes last is a matter of the schedule."""
    return [
        f"{op}: race on byte # of {memory}: {last}, {first} by thread (#,0,0){block}, "
        "and nothing orders the two, in block (#,0,0), thread (#,0,0)"
        for last, first in ((one, other), (other, one))
    ]


# ---- threads of a block ----


@pytest.mark.parametrize("between", [0, 2, 3, 4], ids=["nothing", "shuffle", "vote", "half_warps"])
def test_what_gives_no_order_in_a_warp(races, schedule, on_device, finds, between):
    """Neither do shuffles and votes: "These intrinsics do not imply a memory barrier" (CUDA C++ Programming Guide)."""
    write, read = at("shared.values[lane] = float(between);"), at("y[lane] = shared.values[(lane + 1) % 32];")
    message = race("neighbours", "the block's 128 bytes of shared memory", f"written at {write}", f"read at {read}")
    finds(message, races.neighbours, on_device(f32(32)), between)


@pytest.mark.parametrize("between", [1, 5], ids=["syncwarp", "syncthreads"])
def test_what_gives_order_in_a_warp(races, schedule, on_device, run, between):
    y = on_device(f32(32))
    run(races.neighbours, y, between)
    assert (y == between).all()


def test_whose_accesses_they_were(emulated, races, on_device, finds):
    write, read = at("shared.values[lane] = float(between);"), at("y[lane] = shared.values[(lane + 1) % 32];")
    finds(
        f"neighbours: race on byte 4 of the block's 128 bytes of shared memory: written at {write}, read at {read} "
        "by thread (0,0,0), and nothing orders the two, in block (0,0,0), thread (1,0,0)",
        races.neighbours,
        on_device(f32(32)),
        0,
    )


def test_bytes_of_a_word_are_apart(races, schedule, on_device, run):
    x, y = on_device(np.zeros(7, np.uint8)), on_device(np.zeros(7, np.uint8))
    for _ in range(2):
        run(races.bytes, x, y, 7, 0)
    assert x.tolist() == list(range(7))


def test_a_byte_that_two_threads_share(races, schedule, on_device, finds):
    message = race(
        "bytes", "a buffer of 7 bytes", f"written at {at('x[i] = uint8_t(i);')}", f"read at {at('x[i + 1];')}"
    )
    finds(message, races.bytes, on_device(np.zeros(7, np.uint8)), on_device(np.zeros(7, np.uint8)), 7, 1)


def test_words_written_as_bytes_and_read_whole(races, schedule, on_device, run):
    y = on_device(i32(1))
    run(races.read_partly_written, y, 4)
    assert y[0] == 0x04030201


@pytest.mark.parametrize("who_waits", [1, 2], ids=["reader", "writer"])
def test_named_barrier_orders_for_who_waits(races, schedule, on_device, run, finds, who_waits):
    y = on_device(f32(32))
    if who_waits == 1:
        run(races.named, y, who_waits)
        assert y.tolist() == list(range(32))
        return
    write, read = at("shared.values[lane] = float(lane);"), at("y[lane] = shared.values[lane];")
    message = race("named", "the block's 128 bytes of shared memory", f"written at {write}", f"read at {read}")
    finds(message, races.named, y, who_waits)


# ---- blocks and launches ----


@pytest.mark.parametrize("writer", [0, 1, 2])
def test_blocks_read_and_one_of_them_writes(races, schedule, on_device, finds, writer):
    """The writer's own read is not the only one that counts."""
    message = race(
        "read_and_write",
        "a buffer of 4 bytes",
        f"written at {at('x[0] = 2.0f;')}",
        f"read at {at('y[blockIdx.x] = x[0];')}",
        block=" of block (#,0,0)",
    )
    finds(message, races.read_and_write, on_device(f32(1)), on_device(f32(3)), 3, writer)


def test_blocks_that_only_read(races, schedule, on_device, run):
    run(races.read_and_write, on_device(f32(1)), on_device(f32(3)), 3, -1)


def test_a_block_may_overwrite_what_it_read(races, schedule, on_device, run):
    run(races.read_and_write, on_device(f32(1)), on_device(f32(1)), 1, 0)


def test_launches_and_the_blocks_that_reuse_shared_memory_are_ordered(races, schedule, on_device, run):
    x = on_device(i32(5))
    run(races.reuse, x, 5)
    for _ in range(3):
        run(races.increment, x, 5)
    assert x.tolist() == [3, 4, 5, 6, 7]


# ---- atomics and fences ----


def test_atomics_do_not_race(races, schedule, on_device, run):
    x = on_device(i32(2))
    run(races.atomic_and_plain, x, 0)
    run(races.atomic_and_plain, x, 3)
    assert x.tolist() == [128, 128]
    run(races.atomics_of_blocks, x, 3, 0)
    run(races.atomics_of_blocks, x, 1, 1)
    assert x[0] == 132


@pytest.mark.parametrize("plain, access", [(1, "read at {}"), (2, "written at {}")], ids=["read", "write"])
def test_atomic_against_plain(races, schedule, on_device, finds, plain, access):
    place = at("if (plain == 1 || plain == 3) x[1] = x[0];" if plain == 1 else "if (plain == 2) x[0] = 0;")
    update = f"updated by an atomic at {at('atomicAdd(&x[0], 1);  // of 64 threads')}"
    message = race("atomic_and_plain", "a buffer of 8 bytes", access.format(place), update)
    finds(message, races.atomic_and_plain, on_device(i32(2)), plain)


def test_atomics_of_too_narrow_scope(races, schedule, on_device, finds):
    update = f"updated by a block's atomic at {at('atomicAdd_block(&x[0], 1);')}"
    message = race("atomics_of_blocks", "a buffer of 4 bytes", update, update, block=" of block (#,0,0)")
    finds(message, races.atomics_of_blocks, on_device(i32(1)), 3, 1)


def test_fences_round_an_atomic_order_blocks(races, schedule, on_device, run):
    y = on_device(i32(1))
    run(races.last_block, on_device(i32(4)), on_device(i32(1)), y, 4, 2, 2, 2)
    assert y[0] == 10


@pytest.mark.parametrize(
    "release, acquire",
    [(0, 2), (2, 0), (1, 2), (2, 1)],
    ids=["no_release", "no_acquire", "release_in_block", "acquire_in_block"],
)
def test_a_fence_that_is_missing_or_too_narrow(races, schedule, on_device, finds, release, acquire):
    write, read = at("parts[blockIdx.x] = int(blockIdx.x) + 1;"), at("sum += parts[i];")
    message = race(
        "last_block", "a buffer of 16 bytes", f"written at {write}", f"read at {read}", block=" of block (#,0,0)"
    )
    finds(message, races.last_block, on_device(i32(4)), on_device(i32(1)), on_device(i32(1)), 4, release, acquire, 2)


def test_a_ticket_of_too_narrow_scope(races, schedule, on_device, finds):
    update = f"updated by a block's atomic at {at('atomicAdd_block(ticket, 1)')}"
    message = race("last_block", "a buffer of 4 bytes", update, update, block=" of block (#,0,0)")
    finds(message, races.last_block, on_device(i32(4)), on_device(i32(1)), on_device(i32(1)), 4, 2, 2, 1)


@pytest.mark.parametrize("scope", [1, 2], ids=["block", "device"])
def test_fences_in_a_block(races, schedule, on_device, run, scope):
    y = on_device(i32(1))
    run(races.flag_in_block, on_device(i32(1)), on_device(i32(1)), y, scope)
    assert y[0] == 7


def test_a_flag_without_fences(races, schedule, on_device, finds):
    message = race(
        "flag_in_block", "a buffer of 4 bytes", f"written at {at('value[0] = 7;')}", f"read at {at('y[0] = value[0];')}"
    )
    finds(message, races.flag_in_block, on_device(i32(1)), on_device(i32(1)), on_device(i32(1)), 0)


# ---- asynchronous copies ----

SHARED = "the block's 256 bytes of shared memory"
COPY = "by an asynchronous copy started at {}"


@pytest.mark.parametrize("how", [0, 4], ids=["own", "neighbours_after_a_barrier"])
def test_copies_that_were_waited_for(races, schedule, on_device, run, how):
    x, y = on_device(np.arange(64, dtype=np.float32)), on_device(f32(64))
    run(races.copies, x, y, how)
    expected = x.reshape(2, 32) if how == 0 else np.roll(x.reshape(2, 32), -1, axis=1)
    assert np.array_equal(y.reshape(2, 32), expected)


@pytest.mark.parametrize(
    "how, access, code",
    [
        (1, "read", "y[lane] = shared.values[0][source];"),
        (2, "read", "y[32 + lane] = shared.values[1][source];"),
        (3, "read", "y[lane] = shared.values[0][source];"),
        (6, "written", "if (how == 6) shared.values[0][lane] = 0.0f;"),
    ],
    ids=["not_waited_for", "in_the_group_still_under_way", "of_another_thread_without_a_barrier", "overwritten"],
)
def test_shared_memory_under_a_copy(races, schedule, on_device, finds, how, access, code):
    copy = f"written {COPY.format(at('async_copy<4>(&shared.values[stage][lane]'))}"
    message = race("copies", SHARED, f"{access} at {at(code)}", copy)
    finds(message, races.copies, on_device(f32(64)), on_device(f32(64)), how)


def test_source_of_a_copy_overwritten(races, schedule, on_device, finds):
    copy = f"read {COPY.format(at('async_copy<4>(&shared.values[stage][lane]'))}"
    message = race("copies", "a buffer of 256 bytes", f"written at {at('if (how == 5) x[lane] = 0.0f;')}", copy)
    finds(message, races.copies, on_device(f32(64)), on_device(f32(64)), 5)


def test_source_of_a_copy_out_of_bounds(races, schedule, on_device, run, finds):
    x, y = on_device(np.ones(10, np.float32)), on_device(f32(1))
    run(races.copy_from, x, y, 9, 1)
    assert y[0] == 1
    run(races.copy_from, x, y, 10, 0)
    assert y[0] == 0, "a source that is not inside is not read"
    place = at("async_copy_or_zero<4>(&shared, x + index, inside != 0);")
    for index in (10, -1):
        message = f"copy_from: {place}: illegal access to byte {4 * index} of a buffer of 40 bytes, {HERE}"
        finds(message, races.copy_from, x, y, index, 1)


# ---- bounds and memory that nobody wrote ----

HERE = "in block (0,0,0), thread (0,0,0)"


@pytest.mark.parametrize("index", [10, 11, 63, 1000, -1])
@pytest.mark.parametrize("access", ["read_at", "write_at"])
def test_bounds_of_a_buffer(emulated, schedule, on_device, finds, access, index):
    """To the byte: 40 bytes, with 216 behind them up to the guard page."""
    code = "if (threadIdx.x == 7) *y = x[index];" if access == "read_at" else "if (threadIdx.x == 7) y[index] = 1.0f;"
    x, y = on_device(f32(10)), on_device(f32(1))
    place = f"byte {4 * index} of a buffer of 40 bytes, in block (0,0,0), thread (7,0,0)"
    arguments = (x, y) if access == "read_at" else (x,)
    finds(
        f"{access}: {at(code, 'probes.cu')}: illegal access to {place}",
        getattr(emulated.probes, access),
        *arguments,
        index,
    )


def test_a_buffer_that_was_released(emulated, on_device, finds):
    y, address = on_device(f32(1)), emulated.allocate(40)
    emulated.release(address)
    code = at("if (threadIdx.x == 7) *y = x[index];", "probes.cu")
    place = "byte 8 of a buffer of 40 bytes, which was released, in block (0,0,0), thread (7,0,0)"
    finds(f"read_at: {code}: illegal access to {place}", emulated.probes.read_at, address, y, 2)


@pytest.mark.parametrize("index", [10, 256, -1])
def test_bounds_of_shared_memory(emulated, schedule, finds, index):
    code = "(&shared_memory<float>())[index] = 0.0f;"
    place = f"byte {4 * index} of the block's 40 bytes of shared memory"
    finds(
        f"write_shared: {at(code, 'probes.cu')}: illegal access to {place}, {HERE}",
        emulated.probes.write_shared,
        index,
        10,
    )


def test_the_line_of_the_kernel_and_of_the_helper_inlined_in_it(emulated, on_device, finds):
    dy, y, dx = on_device(f32(8)), on_device(f32(8)), on_device(f32(7))
    outer, inner = at("store_vec4(dx, begin, count, gradient);", "relu.cu"), at("array[begin + i] = value", "vec4.h")
    with pytest.raises(RuntimeError) as error:
        emulated.relu_backward(dy.ctypes.data, y.ctypes.data, dx.ctypes.data, 0, 7 + 1, 0)
    moved = at("*reinterpret_cast<FourFloats*>(target)", "vec4.h")
    place = f"(?:{outer} \\({inner}\\)|{outer} \\({moved}\\))"
    assert re.match(
        rf"relu_backward: {place}: illegal access to byte 28 of a buffer of 28 bytes, in block", str(error.value)
    )


@pytest.mark.parametrize(
    "which, code, array, last, value",
    [
        (0, "y[0] = own[index];", "float [4]", 3, 4),
        (1, "y[0] = run.values[index];", "float [4]", 3, 4),
        (2, "y[0] = rows.values[0][index];", "float [2]", 1, 2),
        (3, "y[0] = rows.values[index][0];", "float [2][2]", 1, 3),
        (4, "for (const float* p = own; p < &own[index]; ++p) y[0] = *p;", "float [4]", 4, 4),
    ],
    ids=["own_array", "member", "row", "array_of_rows", "pointer_to_the_end"],
)
def test_bounds_of_a_threads_own_array(races, schedule, on_device, run, finds, which, code, array, last, value):
    x, y = on_device(np.arange(1, 5, dtype=np.float32)), on_device(f32(1))
    run(races.own_array, x, y, which, last)
    assert y[0] == value
    for index in (last + 1, 1000, -1, -(2**31)):
        message = f"own_array: {at(code)}: index {index} is outside of '{array}', {HERE}"
        finds(message, races.own_array, x, y, which, index)


@pytest.mark.parametrize("how", [0, 1, 2], ids=["run", "shared_memory", "vec4"])
@pytest.mark.parametrize("index", [0, 1, 2, 3, 4])
def test_alignment_of_sixteen_bytes(races, schedule, on_device, run, finds, how, index):
    """An x86 reads four floats from anywhere, a GPU does not."""
    x, y = on_device(np.arange(8, dtype=np.float32)), on_device(f32(4))
    if index % 4 == 0:
        run(races.move_four, x, y, index, how)
        assert np.array_equal(y, x[:4] if how == 1 else x[index : index + 4])
        return
    outer, inner = {
        0: (at("if (how == 0) store_run(y, load_run<4>(x + index));"), at("return *reinterpret_cast", "run.h")),
        1: (at("store_run(&shared.values[index], load_run<4>(x));"), at(" = run;", "run.h")),
        2: (at("if (how == 2) move_whole(x + index, y);"), at("*reinterpret_cast<FourFloats*>(target)", "vec4.h")),
    }[how]
    memory = "the block's 128 bytes of shared memory" if how == 1 else "a buffer of 32 bytes"
    place = f"byte {4 * index} of {memory}, whose address is divisible by {4 * (index & -index)}, not by 16"
    finds(f"move_four: {outer} ({inner}): access to {place}, {HERE}", races.move_four, x, y, index, how)


def test_an_index_in_code_of_the_host(races):
    """It has no launch that could end: the process does, and says where."""
    program = "import minicnn._emulated_checked as module; print(module.races.on_the_host({}))"
    run = functools.partial(subprocess.run, text=True, capture_output=True)
    assert run([sys.executable, "-I", "-c", program.format(3)], check=True).stdout == "3\n"
    result = run([sys.executable, "-I", "-c", program.format(4)], check=False)
    assert result.returncode == -signal.SIGABRT
    assert re.fullmatch(
        rf".*{at('return four[index];')}: an index is outside of its array, in code of the host\n", result.stderr
    )


def test_shared_memory_that_nobody_wrote(emulated, schedule, on_device, finds):
    code = "y[threadIdx.x] = (&shared_memory<float>())[threadIdx.x];"
    message = f"read_shared: {at(code, 'probes.cu')}: read of byte # of the block's 256 bytes of shared memory, "
    finds(
        message + "which nothing has written, in block (0,0,0), thread (#,0,0)",
        emulated.probes.read_shared,
        on_device(f32(64)),
        64,
    )


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_a_word_of_which_bytes_were_not_written(races, schedule, on_device, finds, written):
    message = f"byte {written} of the block's 4 bytes of shared memory, which nothing has written, {HERE}"
    finds(f"read_partly_written: {at('y[0] = shared;  // four bytes')}: read of {message}", races.read_partly_written,
          on_device(i32(1)), written)  # fmt: skip


def unwritten(index, bytes):
    code = at("if (threadIdx.x == 7) *y = x[index];", "probes.cu")
    place = f"byte {4 * index} of a buffer of {bytes} bytes"
    return f"read_at: {code}: read of {place}, which nothing has written, in block (0,0,0), thread (7,0,0)"


def test_global_memory_that_nobody_wrote(emulated, schedule, on_device, run, finds):
    y, address = on_device(f32(1)), emulated.allocate(40)
    finds(unwritten(3, 40), emulated.probes.read_at, address, y, 3)
    run(emulated.probes.write_at, address, 3)
    run(emulated.probes.read_at, address, y, 3)
    assert y[0] == 1
    finds(unwritten(4, 40), emulated.probes.read_at, address, y, 4)
    emulated.release(address)
    assert emulated.allocate(40) == address
    finds(unwritten(3, 40), emulated.probes.read_at, address, y, 3)
    emulated.release(address)


def test_what_the_host_wrote(emulated, on_device, run, finds):
    """Seen by itself where it is not the poison; where it is, the host must say so."""
    y, address = on_device(f32(1)), emulated.allocate(40)
    ctypes.memset(address, 0, 4)
    run(emulated.probes.read_at, address, y, 0)
    ctypes.memset(address + 4, 0xFF, 4)
    finds(unwritten(1, 40), emulated.probes.read_at, address, y, 1)
    emulated.mark_written(address + 4, 4)
    run(emulated.probes.read_at, address, y, 1)
    finds(unwritten(2, 40), emulated.probes.read_at, address, y, 2)
    emulated.release(address)
