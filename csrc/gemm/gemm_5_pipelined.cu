// GEMM, rung 5: the next slice on its way while this one is multiplied.
//
// c[i,j] (+)= bias[j] + sum over k of op(a)[i,k] op(b)[k,j];   gemm_5_fused: with all of operand.h's epilogue
//
// a (m, k) or (k, m), b (k, n) or (n, k), bias (n) or null, c (m, n) float32; rows lda, ldb, ldc apart.
// workspace (splits, m, n) float32 where the reduction is cut.
//
// A block owns a tile of c for one part of the reduction, a thread 8 x 8 elements of it (8 x 4 in a tile of 64).
// Grid ceil(m / tile) * ceil(n / tile) x 1 x splits, block 2 * tile threads, 16,912 (8,720) bytes shared.
// FLOPs an element of c: 2k. Bytes from global memory: k / 16 (k / 8).
//
// Idea: two stages of shared memory. A thread asks for its quads of the next slice before it multiplies, and stores
// them behind that, where nobody reads: global memory is waited for while 512 multiply-adds are issued, and of two
// barriers a slice one is left. The inner tile is gemm/tile.h's, which convolution shares. The small tile, and that a
// reduction may be cut, are gemm/schedule.h's matter, for small products. Predicted, not measured: with the rest of the
// loop, compiled, 87 to 89 % of the instructions multiply, so at most that share of the float32 rate: at 4096^3 on an
// H100 (67 TFLOP/s) 2.3 ms, where 2 m n k / rate is 2.05. That hardly differs from rung 4's bound: what is gained is
// that one block an SM comes near it, which is all that 129 registers a thread leave room for (nt on sm_90a).
//
// Assumes nothing of alignment or sizes: off a 16-byte boundary, and at tails, the accesses are 4 bytes wide, and the
// tile is the small one.
// Source of the idea: the double-buffered kernel of Boehm 2022, "How to optimize a CUDA matmul kernel".
#include "gemm/gemm.h"
#include "gemm/schedule.h"
#include "launch.h"

namespace minicnn {
namespace {

template <int TILE, Access ACCESS, class A, class B>
__global__ void __launch_bounds__(tile_threads<TILE>())  // a second block's worth of registers would spill on sm_90a
    gemm_5_pipelined_kernel(A a, B b, Destination c, int64_t pitch, int k) {
  const int column_tiles = ceil_div(b.extent, TILE);
  const int first_row = blockIdx.x / column_tiles * TILE, first_column = blockIdx.x % column_tiles * TILE;
  const PartOfReduction part = part_of_reduction(k, gridDim.z, blockIdx.z);
  auto& shared = shared_memory<TileStorage<TILE>>();
  shared.tile.keep(first_row, first_column);
  ThreadSums<TILE> sums;
  multiply_slices<TILE>(matrix_cursor<TILE, ACCESS>(a, first_row, part.first_k, k),
                        matrix_cursor<TILE, ACCESS>(b, first_column, part.first_k, k), part.slices, shared, sums);
  finish_sums(sums, c.epilogue.bias, c.epilogue.activation, shared.tile.first_column, b.extent);
  write_tile<TILE>(sums, c.result, c.epilogue.mask, c.epilogue.accumulate,
                   MatrixRows{c.result + blockIdx.z * c.part_stride, pitch}, shared.tile.first_row, a.extent,
                   shared.tile.first_column, b.extent);
}

template <Along ALONG>
bool lies_in_quads(const Operand<ALONG>& operand, int k) {
  const int along_memory = ALONG == Along::reduction ? k : operand.extent;
  return is_aligned(operand.data) && operand.pitch % 4 == 0 && along_memory % 4 == 0;
}

}  // namespace

void gemm_5_fused(const float* a, const float* b, float* c, float* workspace, GemmShape shape, Layout layout,
                  const Epilogue& epilogue, Schedule schedule, Stream stream) {
  const char* const op = "gemm_5_pipelined";
  const Product product{shape.m, shape.n, shape.k, 1};
  schedule = choose_schedule(op, product, schedule);
  if (shape.m == 0 || shape.n == 0) return;
  const Destination target = destination(c, workspace, product.m * product.n, epilogue, schedule);
  const int64_t pitch = has_second_pass(epilogue, schedule) ? shape.n : shape.ldc;
  with_operands(a, b, shape, layout, [&](auto a_operand, auto b_operand) {
    const bool quads = lies_in_quads(a_operand, shape.k) && lies_in_quads(b_operand, shape.k);
    launch_tiles(op, product, schedule, quads ? Access::quads : Access::elements, stream,
                 [&](auto tile, auto access, const LaunchConfig& config) {
                   launch(gemm_5_pipelined_kernel<tile, access, decltype(a_operand), decltype(b_operand)>, config,
                          a_operand, b_operand, target, pitch, shape.k);
                 });
  });
  if (has_second_pass(epilogue, schedule))
    sum_parts(op, workspace, schedule.splits, shape.m, shape.n, epilogue, c, shape.ldc, stream);
}

void gemm_5_pipelined(const float* a, const float* b, const float* bias, float* c, float* workspace, GemmShape shape,
                      Layout layout, Accumulate accumulate, Schedule schedule, Stream stream) {
  gemm_5_fused(a, b, c, workspace, shape, layout, {.bias = bias, .accumulate = accumulate}, schedule, stream);
}

}  // namespace minicnn
