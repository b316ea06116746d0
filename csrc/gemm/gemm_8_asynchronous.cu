// GEMM, rung 8: asynchronous copies.
//
// c[i,j] (+)= bias[j] + sum over k of op(a)[i,k] op(b)[k,j];   gemm_8_fused: with all of operand.h's epilogue
//
// a (m, k) or (k, m), b (k, n) or (n, k) float32, Bfloat16 or Float16; bias (n) float32 or null; c (m, n) float32, or
// in the format of a and b; rows lda, ldb, ldc apart. workspace (splits, m, n) float32 where the reduction is cut.
//
// A block owns a tile of c for one part of the reduction, a warp a quarter of it (of tf32x3's large tile an eighth).
// Grid ceil(m / tile) * ceil(n / tile) x 1 x splits, block 128 (256) threads, 49,168 (24,592) bytes shared.
// FLOPs an element of c: 2k, and 6k with tf32x3. Elements from global memory: k / 64 (k / 32).
//
// Idea: asynchronous copies bring the slices past the registers, into a ring of three stages, two slices ahead: no
// instruction stores them, and no warp waits for one. In the registers that are free a warp has room for 64 x 64 sums,
// so that four warps in place of eight read fragments: 192 clocks of shared memory for 8 of the reduction, where rung 7
// has 256. The inner tile is gemm/tensor_core_tile.h's, which convolution shares; its arithmetics are all of
// gemm/precision.h, in 16 bits 16 x 16 by 16 x 8 numbers an instruction; the small tile, and that a reduction may be
// cut, gemm/schedule.h's matter. Predicted, not measured, on an H100, whose mma.sync reaches 65 % of the matrix rate at
// most: 2 m n k / 514 TFLOP/s in 16 bits (0.27 ms at 4096^3), / 260 in TF32 (0.53 ms), / 87 with tf32x3 (1.6 ms,
// against 2.05 at the rate of float32 arithmetic). In 16 bits that rate asks 8 TB/s of the second-level cache, which is
// likely to be the bound: larger tiles, and so another instruction, are the next rung's matter.
//
// Off 16-byte boundaries, and where extents along memory are no multiples of 16 bytes, the small tile finds its
// elements one by one: float32 by copies of 4 bytes, numbers of 16 bits by way of the registers. On sm_75, Float16
// alone: its products in two halves, its copies plain loads and stores, so that only warps hide one another's waiting.
// Source of the idea: Thakkar et al., CUTLASS, "Efficient GEMM in CUDA"; precision.h has those of its arithmetic.
#include "gemm/gemm.h"
#include "gemm/tensor_core.h"
#include "launch.h"

namespace minicnn {
namespace {

template <class Arithmetic, int TILE, Copies COPIES, class A, class B>
__global__ void __launch_bounds__(TENSOR_CORE_THREADS<Arithmetic, TILE>,
                                  1)  // left to itself, ptxas spills for a sixth block an SM
    gemm_8_asynchronous_kernel(A a, B b, TensorCoreDestination<typename Arithmetic::Element> c, int64_t pitch, int k,
                               bool in_chunks) {
  using ACursor = MatrixChunks<SliceChunks<Arithmetic, TILE, A::along>, COPIES>;
  using BCursor = MatrixChunks<SliceChunks<Arithmetic, TILE, B::along>, COPIES>;
  const int column_tiles = ceil_div(b.extent, TILE);
  const int first_row = blockIdx.x / column_tiles * TILE, first_column = blockIdx.x % column_tiles * TILE;
  const PartOfReduction part = part_of_reduction(k, gridDim.z, blockIdx.z, ACursor::Layout::DEPTH);
  auto& shared = shared_memory<TensorCoreStorage<TILE>>();
  shared.tile.keep(first_row, first_column);
  WarpSumsOf<Arithmetic, TILE> sums;
  multiply_on_tensor_cores<Arithmetic>(ACursor(a, first_row, part.first_k, k, in_chunks),
                                       BCursor(b, first_column, part.first_k, k, in_chunks), part.slices, shared, sums);
  write_sums(sums, shared, c.results, c.epilogue, MatrixRows{blockIdx.z * c.part_stride, pitch}, a.extent, b.extent);
}

template <class T, Along ALONG>
bool lies_in_chunks(const Operand<ALONG, T>& operand, int k) {
  constexpr int CHUNK = sizeof(Chunk) / sizeof(T);
  const int along_memory = ALONG == Along::reduction ? k : operand.extent;
  return is_aligned(operand.data) && operand.pitch % CHUNK == 0 && along_memory % CHUNK == 0;
}

template <class Arithmetic, class Element>
void multiply(const char* op, const Element* a, const Element* b, Results<Element> c, float* workspace, GemmShape shape,
              Layout layout, const EpilogueOf<Element>& epilogue, Schedule schedule, Stream stream) {
  check_capability<Arithmetic>(op);
  const Product product{shape.m, shape.n, shape.k, 1};
  schedule = choose_schedule(op, product, schedule);
  if (shape.m == 0 || shape.n == 0) return;
  const auto target = destination(c, workspace, product.m * product.n, epilogue, schedule);
  const int64_t pitch = has_second_pass(epilogue, schedule) ? shape.n : shape.ldc;
  with_operands(a, b, shape, layout, [&](auto a_operand, auto b_operand) {
    const bool in_chunks = lies_in_chunks(a_operand, shape.k) && lies_in_chunks(b_operand, shape.k);
    launch_tensor_core_tiles<Arithmetic>(
        op, product, schedule, in_chunks, stream, [&](auto tile, auto copies, const LaunchConfig& config) {
          launch(gemm_8_asynchronous_kernel<Arithmetic, tile, copies, decltype(a_operand), decltype(b_operand)>, config,
                 a_operand, b_operand, target, pitch, shape.k, in_chunks);
        });
  });
  if (has_second_pass(epilogue, schedule))
    sum_parts(op, workspace, schedule.splits, shape.m, shape.n, epilogue, c, shape.ldc, stream);
}

}  // namespace

void gemm_8_fused(const float* a, const float* b, float* c, float* workspace, GemmShape shape, Layout layout,
                  const Epilogue& epilogue, Schedule schedule, Stream stream) {
  const auto multiply_as_asked =
      schedule.math == Math::tf32 ? multiply<Tf32Arithmetic, float> : multiply<Tf32x3Arithmetic, float>;
  multiply_as_asked("gemm_8_asynchronous", a, b, {c, nullptr}, workspace, shape, layout, epilogue, schedule, stream);
}

void gemm_8_asynchronous(const float* a, const float* b, const float* bias, float* c, float* workspace, GemmShape shape,
                         Layout layout, Accumulate accumulate, Schedule schedule, Stream stream) {
  gemm_8_fused(a, b, c, workspace, shape, layout, {.bias = bias, .accumulate = accumulate}, schedule, stream);
}

void gemm_bfloat16(const Bfloat16* a, const Bfloat16* b, const float* bias, Bfloat16* c, float* wide_c,
                   float* workspace, GemmShape shape, Layout layout, Accumulate accumulate, Schedule schedule,
                   Stream stream) {
  multiply<Bfloat16Arithmetic, Bfloat16>("gemm_bfloat16", a, b, {wide_c, c}, workspace, shape, layout,
                                         {.bias = bias, .accumulate = accumulate}, schedule, stream);
}

void gemm_float16(const Float16* a, const Float16* b, const float* bias, Float16* c, float* wide_c, float* workspace,
                  GemmShape shape, Layout layout, Accumulate accumulate, Schedule schedule, Stream stream) {
  multiply<Float16Arithmetic, Float16>("gemm_float16", a, b, {wide_c, c}, workspace, shape, layout,
                                       {.bias = bias, .accumulate = accumulate}, schedule, stream);
}

}  // namespace minicnn
