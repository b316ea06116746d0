"""Faults that change no result, each with the argument why: they count for nothing, and may be three in a hundred.

One that a test kills after all ends the run: then the argument is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from .build import ROOT
from .rules import Mutant

MOST = 0.03  # of the faults drawn


@dataclass(frozen=True)
class Equivalent:
    file: str
    original: str
    faulty: str
    why: str
    line: str = ""  # the line has this in it, where the file has the same original elsewhere


OTHER_WRITER = "thread 1 writes in the place of thread 0, and block_sum() has given both of them the same sums"
FEWER_THREADS = "a thread takes every blockDim.x-th element: half of the threads take twice as many"
BLOCKS_WITHOUT_WORK = "more blocks than needed: their threads own nothing and leave at the kernel's own guard"
NO_ROWS = "a launch over one chunk of no rows writes nothing: the early return saves the launch alone"
SLICE_OF_ZEROS = "a slice more, of which the cursors bring zeros"
ADD_RELU_LAUNCH = (
    'launch(add_relu_forward_kernel, {.op = "add_relu_forward", .grid = vec4_blocks(count, THREADS), .block = THREADS, '
    ".stream = stream}, %s, y, count)"
)

EQUIVALENT = (
    Equivalent(
        "csrc/ops/add_relu.cu",
        ADD_RELU_LAUNCH % "a, b",
        ADD_RELU_LAUNCH % "b, a",
        "a sum is the same the other way round",
    ),
    Equivalent("csrc/ops/clip_grad_norm.cu", "threadIdx.x > 0", "threadIdx.x - 1 > 0", OTHER_WRITER),
    Equivalent("csrc/ops/cross_entropy.cu", "threadIdx.x > 0", "threadIdx.x - 1 > 0", OTHER_WRITER),
    Equivalent("csrc/ops/cross_entropy.cu", "MAX_ROW_THREADS", "unsigned(MAX_ROW_THREADS) / 2", FEWER_THREADS),
    Equivalent(
        "csrc/ops/clip_grad_norm.cu",
        "begin < count",
        "begin <= count",
        "load_vec4() gives zeros from the end on, which add 0",
    ),
    Equivalent("csrc/ops/batch_norm.cu", "rows == 0", "false", NO_ROWS),
    Equivalent(
        "csrc/ops/batch_norm.cu",
        "dim3(quads, lanes)",
        "dim3(lanes, quads)",
        "16 x 16 threads where there is more than one tile of channels; in one, more of its threads own no channel, and "
        "rows are taken fewer at a time",
    ),
    Equivalent(
        "csrc/ops/batch_norm.cu",
        "r < ROWS_A_GROUP",
        "r <= ROWS_A_GROUP",
        "`count` is at most ROWS_A_GROUP: the round more finds `r < count` false, and its deviation is 0",
    ),
    Equivalent("csrc/ops/windows.h", "image.size() / width", "image.size() * width", BLOCKS_WITHOUT_WORK),
    Equivalent("csrc/ops/windows.h", "image.size() / width", "image.size() / width + 1", BLOCKS_WITHOUT_WORK),
    Equivalent(
        "csrc/ops/lrn.cu",
        "norm.channels / width",
        "norm.channels * width",
        "more threads side by side than a pixel has runs, up to a block: those past its channels own nothing",
    ),
    Equivalent(
        "csrc/ops/conv2d_implicit.h",
        'schedule.math != Math::float32 && compute_capability("conv2d") >= 80',
        'schedule.math != Math::float32 && compute_capability("conv2d") + 1 >= 80',
        "no device is of capability 7.9",
    ),
    Equivalent(
        "csrc/ops/conv2d_first_layer.cu",
        "dbias != nullptr",
        "workspace != nullptr",
        "the bias's sums have their place in the workspace, where nobody reads them then",
        line="workspace + gradient.bias",
    ),
    Equivalent("csrc/gemm/gemm_4_vectorized.cu", "first_k < shape.k", "first_k <= shape.k", SLICE_OF_ZEROS),
    Equivalent("csrc/gemm/gemm_7_ldmatrix.cu", "first_k < shape.k", "first_k <= shape.k", SLICE_OF_ZEROS),
    Equivalent("csrc/gemm/schedule.cu", "m * ceil_div(n, 4)", "m * ceil_div(n, 4) + 1", BLOCKS_WITHOUT_WORK),
    Equivalent(
        "csrc/ops/conv2d_maxpool2d.h",
        "i < Sums::ROWS",
        "i + 1 < Sums::ROWS",
        "i counts in fours up to 8",
    ),
    Equivalent(
        "csrc/ops/conv2d_tensor_core_cursors.h",
        "tap.r < conv.r && pixel_.image < conv.n && conv.rows().is_inside(h) && conv.columns().is_inside(w)",
        "tap.r <= conv.r && pixel_.image < conv.n && conv.rows().is_inside(h) && conv.columns().is_inside(w)",
        "of columns behind the last tap no result is written",
    ),
    Equivalent(
        "csrc/ops/conv2d_tensor_core.cu",
        "lies_in_chunks(shape, dy, w)",
        "false",
        "what lies in whole chunks is brought element by element: the same numbers, later",
    ),
    Equivalent(
        "csrc/ops/conv2d_tensor_core.cu",
        "is_first_column",
        "true",
        "the other columns' blocks add up sums, too, that they do not write",
        "gradients.see(slice)",
    ),
    Equivalent(
        "csrc/ops/maxpool2d.cu",
        "int64_t(shape.n) * shape.p * shape.q * shape.c == 0",
        "int64_t(shape.n) * shape.q * shape.q * shape.c == 0",
        "at least one window fits along either axis, PoolShape.of refuses the others: neither p nor q is ever 0",
    ),
    Equivalent(
        "csrc/ops/maxpool2d.cu",
        "int64_t(shape.n) * shape.p * shape.q * shape.c == 0",
        "int64_t(shape.n) * shape.p * shape.p * shape.c == 0",
        "at least one window fits along either axis, PoolShape.of refuses the others: neither p nor q is ever 0",
    ),
    Equivalent(
        "csrc/device/strided.h",
        "row % 4 == 0 || row == count",
        "row % 4 == 0 && row == count",
        "of fewer rows it is known that four neighbours lie in one: each of the four is then located by itself",
    ),
)


def argument(mutant: Mutant) -> str:
    """Why a fault is none; "" for the others."""
    return next((e.why for e in EQUIVALENT if is_of(e, mutant)), "")


def is_of(equivalent: Equivalent, mutant: Mutant) -> bool:
    same = (equivalent.file, equivalent.original, equivalent.faulty) == (mutant.file, mutant.original, mutant.faulty)
    return same and equivalent.line in (ROOT / mutant.file).read_text().splitlines()[mutant.line - 1]
