// GEMM, rung 6: tensor cores.
//
// c[i,j] (+)= bias[j] + sum over k of op(a)[i,k] op(b)[k,j], the elements of a and b rounded to TF32
//
// a (m, k) or (k, m), b (k, n) or (n, k), bias (n) or null, c (m, n) float32; rows lda, ldb, ldc apart.
//
// A block owns a 128 x 128 tile of c, each of its eight warps 64 x 32 elements of it (gemm/warp_tile.h).
// Grid ceil(m / 128) x ceil(n / 128), block 256 threads, 16,912 bytes shared.
// FLOPs an element of c: 2k. Bytes from global memory: k / 16.
//
// Idea: one instruction of a warp multiplies 16 x 8 by 8 x 8 numbers, 1,024 multiply-adds in place of 32. All else is
// rung 5: its cursors, its two stages, its slices, which are as deep as the instruction. Predicted, not measured, in
// clocks of an SM for a slice: 234 for the products at the 260 TFLOP/s that rung 8 is to have; 256 for shared memory,
// 24 loads and 8 stores of 128 bytes a warp; 310 to issue some 155 instructions a warp, of which 48 round 24 numbers.
// That is the bound: at 4096^3 on an H100 (132 SMs, 1.755 GHz) 0.70 ms.
//
// Assumes nothing of alignment or sizes: off a 16-byte boundary, and at tails, the accesses are 4 bytes wide. From
// sm_80 on.
#include "gemm/tensor_core.h"
#include "gemm/warp_tile.h"

namespace minicnn {
namespace {

constexpr int TILE = 128, THREADS = tile_threads<TILE>();
using TileSlice = float[TILE_K][TILE + 4];

// This lane's word of a fragment's eight outer indices, from `outer` on. A sum does not ask in which order k comes:
// what device/mma.h calls k = t and t + 4 are here 2 t and 2 t + 1, so that the rows of the four t lie in different
// banks.
__device__ uint32_t word(const TileSlice& slice, int outer, int half) {
  const int lane = threadIdx.x % 32;
  return __float_as_uint(slice[2 * (lane % 4) + half][outer + lane / 4]);
}

}  // namespace

// sums += the product of two slices, as rung 5's multiply_slices calls it: outside the unnamed namespace, for it is
// found by the kind of its sums.
__device__ inline void multiply_slice(const TileSlice& a, const TileSlice& b, WarpTile& sums) {
  WarpFragments bits;
  for (int i = 0; i < WarpTile::ROWS; ++i)
    for (int w = 0; w < 4; ++w) bits.rows[i][w] = word(a, WarpTile::first_row() + 16 * i + 8 * (w % 2), w / 2);
  for (int j = 0; j < WarpTile::COLUMNS / 2; ++j)
    for (int w = 0; w < 4; ++w) bits.columns[j][w] = word(b, WarpTile::first_column() + 16 * j + 8 * (w / 2), w % 2);
  multiply(bits, sums);
}

namespace {

template <class A, class B>
__global__ void __launch_bounds__(THREADS)
    gemm_6_tensor_core_kernel(A a, B b, const float* bias, float* c, GemmShape shape, Accumulate accumulate) {
  const int first_row = blockIdx.x * TILE, first_column = blockIdx.y * TILE;
  WarpTile sums;
  multiply_slices<TILE>(matrix_cursor<TILE, Access::any>(a, first_row, 0, shape.k),
                        matrix_cursor<TILE, Access::any>(b, first_column, 0, shape.k), ceil_div(shape.k, TILE_K),
                        shared_memory<TileStorage<TILE>>(), sums);
  write_warp_tile(sums, bias, c, shape, accumulate, first_row, first_column);
}

}  // namespace

void gemm_6_tensor_core(const float* a, const float* b, const float* bias, float* c, GemmShape shape, Layout layout,
                        Accumulate accumulate, Stream stream) {
  check_capability<Tf32Arithmetic>("gemm_6_tensor_core");
  if (shape.m == 0 || shape.n == 0) return;
  with_operands(a, b, shape, layout, [&](auto a_operand, auto b_operand) {
    launch(gemm_6_tensor_core_kernel<decltype(a_operand), decltype(b_operand)>,
           {.op = "gemm_6_tensor_core",
            .grid = dim3(ceil_div(shape.m, TILE), ceil_div(shape.n, TILE)),
            .block = THREADS,
            .shared_bytes = sizeof(TileStorage<TILE>),
            .stream = stream},
           a_operand, b_operand, bias, c, shape, accumulate);
  });
}

}  // namespace minicnn
