"""The machine code of every kernel: complete, in registers, with the instructions that its header counts on.

Each gate is also shown a kernel that must not pass it.
"""

import re
import sys
from collections import Counter

import pytest

from gates import machine_code, names, occupancy
from minicnn.toolchain import dotted

# Bound by arithmetic; what they read and write goes through tiles.
MATRIX_KERNELS = re.compile(r"gemm_|conv2d_(first_layer_|maxpool2d_)?(forward|backward)_")

# Kernels, or single instances of them, that do not move 16 bytes at once, and why. The others are bound by memory
# bandwidth, and do.
NARROW = {
    "clip_factor_kernel": "one block, a number a thread",
    "col2im_kernel": "gathers, an element a thread",
    "conv2d_first_layer_fold_kernel": "gathers, an element of the filters a thread",
    "conv2d_first_layer_unfold_kernel": "likewise",
    "cross_entropy_reduce_kernel": "one block, a number a thread",
    "dropout_draw_kernel": "three counters",
    "im2col_kernel": "gathers, an element a thread",
    "transpose_kernel": "turns a tile: neighbours in one array are none in the other",
}
HALF_OF_LRN = "8 bytes of x beside 16 of float32; with eight channels a thread it would add half as much again for each"
NARROW_LOADS = NARROW | {
    "lrn_forward_kernel<4, Bfloat16>": HALF_OF_LRN,
    "lrn_forward_kernel<4, Float16>": HALF_OF_LRN,
    "prepare_images_kernel": "bytes",
}
NARROW_STORES = NARROW | {
    "clip_squares_kernel": "a number a block",
    "cross_entropy_forward_kernel": "three numbers a row",
    "lrn_backward_kernel<4, Bfloat16>": HALF_OF_LRN,
    "lrn_backward_kernel<4, Float16>": HALF_OF_LRN,
    "narrow_kernel": "four numbers of 16 bits, 8 bytes",
    "prepare_images_kernel<Bfloat16>": "four numbers of 16 bits, 8 bytes",
    "prepare_images_kernel<Float16>": "four numbers of 16 bits, 8 bytes",
    "reduce_columns_kernel": "results, few",
    "reduce_rows_kernel": "results, few",
    "sum_parts_kernel<Bfloat16>": "four numbers of 16 bits, 8 bytes",
    "sum_parts_kernel<Float16>": "four numbers of 16 bits, 8 bytes",
}

# Of the instructions of the main loop, those that multiply: a bound on the share of the float32 rate, no speed.
MULTIPLYING = {
    "gemm_4_vectorized_kernel": 0.84,
    r"gemm_5_pipelined_kernel<128, Access 0": 0.86,
    r"gemm_5_pipelined_kernel<64, Access 0": 0.78,
    r"conv2d_\w*forward_kernel<128, Access 0": 0.79,
    r"conv2d_\w*backward_\w+_kernel<128, Access 0": 0.76,
    r"linear_backward_weight_sgd_kernel<128, Access 0": 0.86,
    r"linear_backward_weight_sgd_kernel<64, Access 0": 0.77,
}

# The instruction that an idea of the ladder is, and the rung that brings it.
BROUGHT_BY = {"HMMA": 6, "LDSM": 7, "LDGSTS": 8}

ON_TENSOR_CORES = re.compile(r"\w*tensor_core|gemm_[78]_")

# Tiles of 16 rows and of 8 columns of a warp, by the block's tile of the tensor-core kernels.
WARP_TILES = {
    r"gemm_[67]_": (4, 4),
    r"(\w*tensor_core|gemm_8_)\w*<Tf32x3Arithmetic, 128,": (4, 4),
    r"(\w*tensor_core|gemm_8_)\w*<(?!Tf32x3)\w+, 128,": (4, 8),
    r"(\w*tensor_core|gemm_8_)\w*<\w+, 64,": (2, 4),
}


def least_products_a_load(row_tiles, column_tiles):
    """HMMA : LDSM, where one ldmatrix brings a tile of 16 rows, or two of 8 columns."""
    return row_tiles * column_tiles / (row_tiles + column_tiles / 2)


# Instances of a file's kernels, where they are more than 8. They are what the compiler's time goes into: a second for one
# with an unrolled tile, and again for every architecture. Another tile or format is paid for here.
FEW_INSTANCES = 8
INSTANCES = {
    "conv2d_first_layer.cu": 20,
    "conv2d_implicit.cu": 9,
    "conv2d_maxpool2d.cu": 11,
    "conv2d_tensor_core.cu": 24,
    "gemm_5_pipelined.cu": 9,
    "gemm_8_asynchronous.cu": 24,
    "lrn.cu": 12,
    "map.h": 12,
    "maxpool2d.cu": 16,
}


def instances_by_file(kernels):
    """{file: instances of all kernels in it}, of one architecture."""
    files = names.kernels_in_sources()
    return Counter(files[kernel.base].name for kernel in kernels)


def entries(kernels, table):
    """As `table` calls them: by instance, or else by kernel."""
    return {kernel.name if kernel.name in table else kernel.base for kernel in kernels}


def names_of(kernels):
    return "\n".join(f"{kernel.name} {kernel.architecture}" for kernel in kernels)


LOCAL = ("LDL", "STL")  # loads and stores of what registers lack


def named(pattern, code):
    found = [kernel for kernel in code if re.match(pattern, kernel.name)]
    assert found, f"no kernel is called {pattern}"
    return found


def missing_wide(kernels):
    """The instances that have no load, and those that have no store, of 16 bytes."""
    kernels = list(kernels)
    loads = [kernel for kernel in kernels if not kernel.count("LDG", "LDGSTS", wide=True)]
    return loads, [kernel for kernel in kernels if not kernel.count("STG", wide=True)]


def spilled(kernels):
    return [k for k in kernels if k.stack or k.local or k.count(*LOCAL)]


def test_every_kernel_is_compiled_for_every_architecture(code, compiled, cuda_module, count):
    expected = set(names.kernels_in_sources())
    architectures = {"sm_" + name.removesuffix("-real") for name in cuda_module.architectures.split(",")}
    assert {kernel.architecture for kernel in compiled} == architectures
    for architecture in architectures:
        assert {kernel.base for kernel in compiled if kernel.architecture == architecture} == expected
    count("instances of kernels", len(compiled) // len(architectures))
    count("architectures", len(architectures))
    count("machine instructions", sum(len(kernel.instructions) for kernel in code))


def test_kernels_have_few_instances(compiled):
    for architecture in {kernel.architecture for kernel in compiled}:
        counts = instances_by_file(kernel for kernel in compiled if kernel.architecture == architecture)
        assert {file: count for file, count in counts.items() if count > FEW_INSTANCES} == INSTANCES


def test_registers_hold_everything(code, compiled):
    for kernels in (code, compiled):
        assert not spilled(kernels), names_of(spilled(kernels))


def test_memory_bound_kernels_move_16_bytes_at_once(code, recorded):
    """Every instance that runs on whole quads: those for arrays off them have accesses of one element."""
    on_quads = {launch.kernel for launch in recorded}
    bound = [kernel for kernel in code if kernel.name in on_quads and not MATRIX_KERNELS.match(kernel.base)]
    loads, stores = missing_wide(bound)
    assert entries(loads, NARROW_LOADS) == set(NARROW_LOADS), names_of(loads)
    assert entries(stores, NARROW_STORES) == set(NARROW_STORES), names_of(stores)


@pytest.mark.parametrize("pattern", MULTIPLYING)
def test_most_of_the_main_loop_multiplies(pattern, code):
    for kernel in named(pattern, code):
        assert kernel.share_of("FFMA") >= MULTIPLYING[pattern], kernel.name + " " + kernel.architecture


# What ldmatrix cannot transpose: elements of 32 bits along the outer index, in both operands of gradients of weights.
# And the rung of the ladder that does without.
WITHOUT_LDMATRIX = re.compile(
    r"conv2d_(first_layer_)?backward_weight_.*float>|gemm_[78].*(Operand<Along 1, float>,? ?){2}|gemm_6_"
)


def starving(kernels):
    """Those of a tensor-core tile without products or loads of matrices, or with too few products a load."""
    found = []
    for kernel in kernels:
        (tiles,) = (tiles for pattern, tiles in WARP_TILES.items() if re.match(pattern, kernel.name))
        products, loads = kernel.count("HMMA"), kernel.count("LDSM")
        is_loaded = (loads == 0) if WITHOUT_LDMATRIX.match(kernel.name) else loads > 0
        if not is_loaded or products < least_products_a_load(*tiles) * max(loads, 1):
            found.append(kernel)
    return found


def test_tensor_cores_are_fed(code):
    claiming = [kernel for kernel in code if ON_TENSOR_CORES.match(kernel.name) and kernel.architecture != "sm_75"]
    assert not starving(claiming), names_of(starving(claiming))


@pytest.mark.parametrize("instruction", BROUGHT_BY)
def test_no_rung_has_the_idea_of_a_higher_one(instruction, code):
    ladder = [kernel for kernel in named(r"gemm_\d_", code) if kernel.architecture != "sm_75"]
    if not ladder:
        pytest.skip("sm_75 has none of these in float32")
    having = {int(kernel.name[len("gemm_")]) for kernel in ladder if kernel.count(instruction)}
    assert having == set(range(BROUGHT_BY[instruction], 9))


@pytest.fixture(scope="session")
def turing_code(code, compile_file):
    """Tensor-core kernels for sm_75: those of the module where it has them, else of the ladder."""
    found = (
        code if any(kernel.architecture == "sm_75" for kernel in code) else compile_file("gemm/gemm_8_asynchronous.cu")
    )
    return [kernel for kernel in found if ON_TENSOR_CORES.match(kernel.name) and kernel.architecture == "sm_75"]


def test_turing_multiplies_float16_in_halves(turing_code):
    """By the one product of matrices that sm_75 has of them; in other formats by none: those are never launched there."""
    halves = [kernel for kernel in turing_code if "Float16Arithmetic" in kernel.name]
    others = [kernel for kernel in turing_code if kernel not in halves]
    assert halves and others and not starving(halves), names_of(starving(halves))
    assert {i.opcode for kernel in halves for i in kernel.instructions if i.name == "HMMA"} == {"HMMA.1688.F32"}
    assert not [kernel.name for kernel in others if kernel.count("HMMA")]
    assert not spilled(halves), names_of(spilled(halves))


def test_the_table_of_occupancy_is_true(code, cuda_module, recorded):
    version = dotted((cuda_module.cuda_version // 1000, cuda_module.cuda_version % 1000 // 10))
    kept = occupancy.TABLE.read_text()
    code = [kernel for kernel in code if kernel.architecture in ("sm_80", "sm_90a")]
    if f"nvcc {version}." not in kept or {k.architecture for k in code} != {"sm_80", "sm_90a"}:
        pytest.skip("docs/occupancy.md speaks of another compiler, or of other architectures")
    assert kept == occupancy.table(code, recorded, version), "docs/occupancy.md is out of date: python -m tests.gates"


def test_the_runs_launch_every_kernel(recorded):
    assert {names.base_name(launch.kernel) for launch in recorded} == set(names.kernels_in_sources())


# registers a thread, threads, bytes of shared memory -> blocks, warps of one processor, by the occupancy calculator
OCCUPANCY = {
    "threads": (("sm_80", 32, 256, 0), 8),
    "registers": (("sm_80", 127, 256, 16896), 2),
    "registers_by_eights": (("sm_80", 129, 256, 0), 1),
    "shared_memory": (("sm_80", 32, 128, 48 * 1024), 3),
    "blocks": (("sm_90a", 16, 32, 0), 32),
    "more_shared_memory": (("sm_90a", 32, 128, 48 * 1024), 4),
    "none": (("sm_75", 32, 128, 65 * 1024), 0),
}


@pytest.mark.parametrize("block, expected", OCCUPANCY.values(), ids=OCCUPANCY.keys())
def test_known_occupancies(block, expected):
    assert occupancy.blocks_per_processor(*block) == expected


def faulty(compile_text, text):
    file, compiler = compile_text(text)
    assert compiler.returncode == 0, compiler.stderr
    return machine_code.kernels(file)


@pytest.mark.usefixtures("cuda_module")
def test_a_spilling_kernel_is_found(compile_text):
    (kernel,) = faulty(
        compile_text,
        """
        __global__ void __launch_bounds__(1024, 2) spilling_kernel(float* x) {
          float values[64];
          for (int i = 0; i < 64; ++i) values[i] = x[i * 1024 + threadIdx.x];
          __syncthreads();
          for (int i = 0; i < 64; ++i) x[(63 - i) * 1024 + threadIdx.x] = values[i] * values[63 - i];
        }""",
    )
    assert kernel.name == "spilling_kernel" and spilled([kernel]) == [kernel]


COPY = """
#include "device/vec4.h"
namespace minicnn {
__global__ void narrow_kernel(const float* x, float* y) {
  for (int i = 0; i < 4; ++i) y[4 * threadIdx.x + i] = x[4 * threadIdx.x + i];
}
__global__ void wide_kernel(const float* x, float* y) { move_whole(x + vec4_begin(), y + vec4_begin()); }
}
"""


@pytest.mark.usefixtures("cuda_module")
def test_narrow_accesses_are_found(compile_text):
    loads, stores = missing_wide(faulty(compile_text, COPY))
    assert [kernel.name for kernel in loads] == [kernel.name for kernel in stores] == ["narrow_kernel"]


LOOPS = """
__global__ void lean_kernel(const float* x, float* y, int n) {
  float a = x[0], b = x[1], c = x[2];
#pragma unroll 64
  for (int i = 0; i < n; ++i) a = a * b + c;
  *y = a;
}
__global__ void laden_kernel(const float* x, float* y, int n) {
  float a = x[0];
  for (int i = 0; i < n; ++i) a = a * x[2 * i] + x[3 * i];
  *y = a;
}
"""


@pytest.mark.usefixtures("cuda_module")
def test_a_loop_that_does_other_things_is_found(compile_text):
    shares = {kernel.name: kernel.share_of("FFMA") for kernel in faulty(compile_text, LOOPS)}
    assert shares["lean_kernel"] > 0.85 and shares["laden_kernel"] < 0.35


def test_a_notice_of_ptxas_ends_a_strict_build(compile_text):
    """Without launch bounds, setmaxnreg is ignored: a notice, with which nvcc itself is content."""
    text = '__global__ void kernel() { asm volatile("setmaxnreg.inc.sync.aligned.u32 152;"); }'
    launcher = (sys.executable, str(names.CSRC / "cmake" / "refuse_notices.py"))
    _, content = compile_text(text, "90a")
    _, refused = compile_text(text, "90a", launcher)
    _, right = compile_text(text.replace("void k", "void __launch_bounds__(128, 1) k"), "90a", launcher)
    assert (content.returncode, refused.returncode, right.returncode) == (0, 1, 0)
    assert "(C7508)" in refused.stderr


TENSOR_CORES = """
#include "device/ldmatrix.h"
#include "device/mma.h"
namespace minicnn {
struct Planted;
template <class Arithmetic, int TILE, bool BY_LDMATRIX>
__global__ void tensor_core_kernel(float* y) {
  const auto* shared = &shared_memory<unsigned char>() + 16 * threadIdx.x;
  float sums[2][4] = {};
  uint32_t a[4], b[2];
  const auto load = [](auto& bits, const unsigned char* from) {
    if constexpr (BY_LDMATRIX) ldmatrix(bits, from);
    else for (auto& word : bits) word = *reinterpret_cast<const uint32_t*>(from + 512 * (&word - bits));
  };
  load(a, shared);
#pragma unroll
  for (int i = 0; i < 64; ++i) {
    if (i % 32 == 0) load(b, shared + 4096 + 512 * i);
    mma_m16n8k16_bf16(sums[i % 2], a, b);
  }
  for (int j = 0; j < 2; ++j) y[j * 32 + threadIdx.x] = sums[j][0] + sums[j][3];
}
template __global__ void tensor_core_kernel<Planted, 128, true>(float*);
template __global__ void tensor_core_kernel<Planted, 128, false>(float*);
}
"""

HUNGRY = TENSOR_CORES.replace("i % 32", "i % 2")  # 33 loads for 64 products


@pytest.mark.usefixtures("cuda_module")
def test_starving_tensor_cores_are_found(compile_text):
    fed, plain = sorted(faulty(compile_text, TENSOR_CORES), key=lambda kernel: -kernel.count("LDSM"))
    assert [(kernel.count("HMMA"), kernel.count("LDSM")) for kernel in (fed, plain)] == [(64, 3), (64, 0)]
    assert starving([fed, plain]) == [plain]
    hungry = faulty(compile_text, HUNGRY)
    assert sorted(kernel.count("LDSM") for kernel in hungry) == [0, 33] and starving(hungry) == hungry
    assert least_products_a_load(4, 8) == 4
