"""The machine code of every kernel: complete, in registers, with the instructions that its header counts on.

Each gate is also shown a kernel that must not pass it.
"""

import re
import sys
from collections import Counter

import pytest

from gates import launches, machine_code, names, occupancy
from minicnn.toolchain import dotted

# Bound by arithmetic; what they read and write goes through tiles.
MATRIX_KERNELS = re.compile(r"gemm_|conv2d_|tensor_core")

# Kernels that do not move 16 bytes at once, and why. The others are bound by memory bandwidth, and do.
NARROW = {
    "clip_factor_kernel": "one block, a number a thread",
    "col2im_kernel": "gathers, an element a thread",
    "cross_entropy_reduce_kernel": "one block, a number a thread",
    "dropout_draw_kernel": "three counters",
    "im2col_kernel": "gathers, an element a thread",
    "transpose_kernel": "turns a tile: neighbours in one array are none in the other",
}
NARROW_LOADS = NARROW | {"prepare_images_kernel": "bytes"}
NARROW_STORES = NARROW | {
    "clip_squares_kernel": "a number a block",
    "cross_entropy_forward_kernel": "three numbers a row",
    "narrow_kernel": "four numbers of 16 bits, 8 bytes",
    "reduce_columns_kernel": "results, few",
    "reduce_rows_kernel": "results, few",
}

# Of the instructions of the main loop, those that multiply: a bound on the share of the float32 rate, no speed.
MULTIPLYING = {
    r"gemm_4_vectorized_kernel<128, Access 0": 0.86,
    r"gemm_4_vectorized_kernel<64, Access 0": 0.79,
    r"conv2d_\w*forward_kernel<128, Access 0": 0.79,
    r"conv2d_\w*backward_\w+_kernel<128, Access 0": 0.76,
}

# Tiles of 16 rows and of 8 columns of a warp, by the block's tile of the tensor-core kernels.
WARP_TILES = {r"\w*tensor_core\w*<\w+, 128,": (4, 8), r"\w*tensor_core\w*<\w+, 64,": (2, 4)}


def least_products_a_load(row_tiles, column_tiles):
    """HMMA : LDSM, where one ldmatrix brings a tile of 16 rows, or two of 8 columns."""
    return row_tiles * column_tiles / (row_tiles + column_tiles / 2)


# Instances of a file's kernels, where they are more than 8. They are what the compiler's time goes into: a second for one
# with an unrolled tile, and again for every architecture. Another tile or format is paid for here.
FEW_INSTANCES = 8
INSTANCES = {
    "conv2d_first_layer.cu": 18,
    "conv2d_implicit.cu": 12,
    "conv2d_tensor_core.cu": 24,
    "gemm_4_vectorized.cu": 12,
    "gemm_5_tensor_core.cu": 24,
    "lrn.cu": 12,
    "map.h": 12,
    "maxpool2d.cu": 16,
}


def instances_by_file(kernels):
    """{file: instances of all kernels in it}, of one architecture."""
    files = names.kernels_in_sources()
    return Counter(files[kernel.base].name for kernel in kernels)


LOCAL = ("LDL", "STL")  # loads and stores of what registers lack


def named(pattern, code):
    found = [kernel for kernel in code if re.match(pattern, kernel.name)]
    assert found, f"no kernel is called {pattern}"
    return found


def missing_wide(kernels):
    """{(kernel, architecture): which of its instances has no access of 16 bytes, of loads and of stores}."""
    loads, stores = {}, {}
    for kernel in kernels:
        key = kernel.base, kernel.architecture
        loads[key] = loads.get(key, 0) + kernel.count("LDG", "LDGSTS", wide=True)
        stores[key] = stores.get(key, 0) + kernel.count("STG", wide=True)
    return [key for key, number in loads.items() if not number], [key for key, number in stores.items() if not number]


def spilled(kernels):
    return [k for k in kernels if k.stack or k.local or k.count(*LOCAL)]


def test_every_kernel_is_compiled_for_every_architecture(code, cuda_module, count):
    expected = set(names.kernels_in_sources())
    architectures = {"sm_" + name.removesuffix("-real") for name in cuda_module.architectures.split(",")}
    assert set(machine_code.architectures(cuda_module.__file__)) == architectures
    for architecture in architectures:
        assert {kernel.base for kernel in code if kernel.architecture == architecture} == expected
    count("instances of kernels", len(code) // len(architectures))
    count("architectures", len(architectures))
    count("machine instructions", sum(len(kernel.instructions) for kernel in code))


def test_kernels_have_few_instances(code):
    for architecture in {kernel.architecture for kernel in code}:
        counts = instances_by_file(kernel for kernel in code if kernel.architecture == architecture)
        assert {file: count for file, count in counts.items() if count > FEW_INSTANCES} == INSTANCES


def test_registers_hold_everything(code):
    assert not [f"{k.name} {k.architecture}: {k.stack} bytes" for k in spilled(code)]


def test_memory_bound_kernels_move_16_bytes_at_once(code):
    bound = [kernel for kernel in code if not MATRIX_KERNELS.match(kernel.base)]
    loads, stores = missing_wide(bound)
    assert {name for name, _ in loads} == set(NARROW_LOADS)
    assert {name for name, _ in stores} == set(NARROW_STORES)


@pytest.mark.parametrize("pattern", MULTIPLYING)
def test_most_of_the_main_loop_multiplies(pattern, code):
    for kernel in named(pattern, code):
        assert kernel.share_of("FFMA") >= MULTIPLYING[pattern], kernel.name + " " + kernel.architecture


def test_tensor_cores_are_fed(code):
    claiming = [kernel for kernel in code if "tensor_core" in kernel.name]
    for kernel in claiming:
        (tiles,) = (tiles for pattern, tiles in WARP_TILES.items() if re.match(pattern, kernel.name))
        products, loads = kernel.count("HMMA"), kernel.count("LDSM")
        assert products >= least_products_a_load(*tiles) * max(loads, 1), f"{kernel.name} {kernel.architecture}"


def test_the_table_of_occupancy_is_true(code, cuda_module, emulated_device):
    version = dotted((cuda_module.cuda_version // 1000, cuda_module.cuda_version % 1000 // 10))
    kept = occupancy.TABLE.read_text()
    if f"nvcc {version}." not in kept or {k.architecture for k in code} != {"sm_80", "sm_90a"}:
        pytest.skip("docs/occupancy.md speaks of another compiler, or of other architectures")
    recorded = [launch for run in launches.RUNS for launch in launches.record(emulated_device, run).launches]
    assert kept == occupancy.table(code, recorded, version), "docs/occupancy.md is out of date: python -m tests.gates"


def test_the_runs_launch_every_kernel(emulated_device):
    recorded = [launch for run in launches.RUNS for launch in launches.record(emulated_device, run).launches]
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
    assert loads == stores == [("narrow_kernel", "sm_80")]


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
template <int COLUMNS>
__global__ void tensor_core_kernel(float* y) {
  const auto* shared = &shared_memory<unsigned char>() + 16 * threadIdx.x;
  float sums[COLUMNS][4] = {};
  uint32_t a[4], b[2];
  ldmatrix(a, shared);
  for (int j = 0; j < COLUMNS; ++j) {
    ldmatrix(b, shared + 512 * (j + 1));
    mma_m16n8k16_bf16(sums[j], a, b);
  }
  for (int j = 0; j < COLUMNS; ++j) y[j * 32 + threadIdx.x] = sums[j][0] + sums[j][3];
}
template __global__ void tensor_core_kernel<2>(float*);
}
"""


@pytest.mark.usefixtures("cuda_module")
def test_starving_tensor_cores_are_found(compile_text):
    (kernel,) = faulty(compile_text, TENSOR_CORES)
    assert (kernel.name, kernel.count("HMMA"), kernel.count("LDSM")) == ("tensor_core_kernel<2>", 2, 3)
    assert kernel.count("HMMA") < least_products_a_load(4, 8) * kernel.count("LDSM")
    assert least_products_a_load(4, 8) == 4
