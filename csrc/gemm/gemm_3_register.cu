// GEMM, rung 3: a block of c in the registers of each thread.
//
// c[i,j] (+)= bias[j] + sum over k of op(a)[i,k] op(b)[k,j]
//
// a (m, k) or (k, m), b (k, n) or (n, k), bias (n) or null, c (m, n) float32; rows lda, ldb, ldc apart.
//
// A block owns a 64 x 64 tile of c, a thread the 4 x 4 elements (row + 16 i, column + 16 j) of it.
// Grid ceil(m / 64) x ceil(n / 64), block 16 x 16 threads, at most 8,448 bytes shared.
// FLOPs an element of c: 2k. Bytes from global memory: k / 8.
//
// Idea: the four elements of a and the four of b that a thread reads serve sixteen multiply-adds instead of four. They
// are 16 apart, so that a warp still reads neighbours. Predicted, not measured: half an access to shared memory a
// multiply-add, at most half of the float32 rate, 4.1 ms at 4096^3 on an H100; what waits for global memory at the
// barriers is lost.
//
// Assumes nothing of alignment or sizes.
// Source of the idea: Volkov and Demmel 2008, "Benchmarking GPUs to tune dense linear algebra".
#include "gemm/stage.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int TILE = 64, DEPTH = 16, SIDE = 16, THREADS = SIDE * SIDE, EACH = TILE / SIDE;

template <class A, class B>
struct Storage {
  Slice<TILE, DEPTH, A::along> a;
  Slice<TILE, DEPTH, B::along> b;
};

template <class Slices>
__device__ void multiply_slices(const Slices& shared, float (&sums)[EACH][EACH]) {
  for (int k = 0; k < DEPTH; ++k) {
    float a[EACH], b[EACH];
    for (int i = 0; i < EACH; ++i) a[i] = shared.a.at[k][threadIdx.y + SIDE * i];
    for (int j = 0; j < EACH; ++j) b[j] = shared.b.at[k][threadIdx.x + SIDE * j];
    for (int i = 0; i < EACH; ++i)
      for (int j = 0; j < EACH; ++j) sums[i][j] += a[i] * b[j];
  }
}

template <class A, class B>
__global__ void __launch_bounds__(THREADS)
    gemm_3_register_kernel(A a, B b, const float* bias, float* c, GemmShape shape, Accumulate accumulate) {
  auto& shared = shared_memory<Storage<A, B>>();
  const int thread = threadIdx.y * SIDE + threadIdx.x;
  const int first_row = blockIdx.x * TILE, first_column = blockIdx.y * TILE;
  float sums[EACH][EACH] = {};
  for (int first_k = 0; first_k < shape.k; first_k += DEPTH) {
    stage<THREADS>(shared.a, a, first_row, first_k, shape.k, thread);
    stage<THREADS>(shared.b, b, first_column, first_k, shape.k, thread);
    __syncthreads();
    multiply_slices(shared, sums);
    __syncthreads();
  }
  for (int i = 0; i < EACH; ++i)
    for (int j = 0; j < EACH; ++j) {
      const int row = first_row + threadIdx.y + SIDE * i, column = first_column + threadIdx.x + SIDE * j;
      if (row < shape.m && column < shape.n)
        write_sum(sums[i][j], bias, column, c + int64_t(row) * shape.ldc + column, accumulate);
    }
}

}  // namespace

void gemm_3_register(const float* a, const float* b, const float* bias, float* c, GemmShape shape, Layout layout,
                     Accumulate accumulate, Stream stream) {
  if (shape.m == 0 || shape.n == 0) return;
  with_operands(a, b, shape, layout, [&](auto a_operand, auto b_operand) {
    launch(gemm_3_register_kernel<decltype(a_operand), decltype(b_operand)>,
           {.op = "gemm_3_register",
            .grid = dim3(ceil_div(shape.m, TILE), ceil_div(shape.n, TILE)),
            .block = dim3(SIDE, SIDE),
            .shared_bytes = sizeof(Storage<decltype(a_operand), decltype(b_operand)>),
            .stream = stream},
           a_operand, b_operand, bias, c, shape, accumulate);
  });
}

}  // namespace minicnn
