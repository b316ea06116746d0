// GEMM, rung 4: 16-byte accesses.
//
// c[i,j] (+)= bias[j] + sum over k of op(a)[i,k] op(b)[k,j]
//
// a (m, k) or (k, m), b (k, n) or (n, k), bias (n) or null, c (m, n) float32; rows lda, ldb, ldc apart.
//
// A block owns a 128 x 128 tile of c, a thread 8 x 8 elements of it, in quads of neighbours (gemm/tile.h).
// Grid ceil(m / 128) x ceil(n / 128), block 256 threads, 8,448 bytes shared.
// FLOPs an element of c: 2k. Bytes from global memory: k / 16.
//
// Idea: a thread moves four neighbours at a time, from global memory, into shared memory and out of it. So 4 loads
// bring the 16 numbers of 64 multiply-adds, where rung 3 has 8 loads for 16. Predicted, not measured: of some 600
// instructions of the main loop, compiled, 512 multiply, so at most 86 % of the float32 rate: at 4096^3 on an H100 (67
// TFLOP/s) 2.4 ms. A block issues instructions for 1,200 clocks a slice, in 1,090 of which shared memory is busy, and
// then waits for the next one, some 700 clocks from global memory. Two blocks share an SM (at most 107 registers a
// thread); where both wait, it is lost.
//
// Assumes nothing of alignment or sizes: off a 16-byte boundary, and at tails, the accesses are 4 bytes wide.
// Source of the idea: the vectorised kernel of Boehm 2022, "How to optimize a CUDA matmul kernel".
#include "gemm/tile.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int TILE = 128, THREADS = tile_threads<TILE>();

struct Storage {
  float a[TILE_K][TILE + 4], b[TILE_K][TILE + 4];  // padded as TileStorage is
};

template <class A, class B>
__global__ void __launch_bounds__(THREADS)
    gemm_4_vectorized_kernel(A a, B b, const float* bias, float* c, GemmShape shape, Accumulate accumulate) {
  auto& shared = shared_memory<Storage>();
  const int first_row = blockIdx.x * TILE, first_column = blockIdx.y * TILE;
  auto a_cursor = matrix_cursor<TILE, Access::any>(a, first_row, 0, shape.k);
  auto b_cursor = matrix_cursor<TILE, Access::any>(b, first_column, 0, shape.k);
  ThreadSums<TILE> sums;
  for (int first_k = 0; first_k < shape.k; first_k += TILE_K) {
    store_quad<A::along>(shared.a, quad_place<TILE, A::along>(), a_cursor.load());
    store_quad<B::along>(shared.b, quad_place<TILE, B::along>(), b_cursor.load());
    __syncthreads();
    multiply_slice(shared.a, shared.b, sums);
    __syncthreads();
    a_cursor.advance();
    b_cursor.advance();
  }
  finish_sums(sums, bias, Activation::none, first_column, shape.n);
  write_tile<TILE>(sums, c, nullptr, accumulate, MatrixRows{c, shape.ldc}, first_row, shape.m, first_column, shape.n);
}

}  // namespace

void gemm_4_vectorized(const float* a, const float* b, const float* bias, float* c, GemmShape shape, Layout layout,
                       Accumulate accumulate, Stream stream) {
  if (shape.m == 0 || shape.n == 0) return;
  with_operands(a, b, shape, layout, [&](auto a_operand, auto b_operand) {
    launch(gemm_4_vectorized_kernel<decltype(a_operand), decltype(b_operand)>,
           {.op = "gemm_4_vectorized",
            .grid = dim3(ceil_div(shape.m, TILE), ceil_div(shape.n, TILE)),
            .block = THREADS,
            .shared_bytes = sizeof(Storage),
            .stream = stream},
           a_operand, b_operand, bias, c, shape, accumulate);
  });
}

}  // namespace minicnn
