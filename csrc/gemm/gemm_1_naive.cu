// GEMM, rung 1: one thread an element.
//
// c[i,j] (+)= bias[j] + sum over k of op(a)[i,k] op(b)[k,j]
//
// a (m, k) or (k, m), b (k, n) or (n, k), bias (n) or null, c (m, n) float32; rows lda, ldb, ldc apart.
//
// A thread owns c[i,j] and walks along k; the lanes of a warp own neighbours of one row of c.
// Grid ceil(m / 8) x ceil(n / 32), block 32 x 8 threads, no shared memory.
// FLOPs an element of c: 2k. Each of its k multiply-adds loads both factors through the first-level cache.
//
// Idea: none yet; the formula, with the lanes placed so that they share their element of a and read b side by side.
// Predicted, not measured: a multiply-add of a warp costs two cache accesses where an SM issues four multiply-adds for
// one access, so at most an eighth of the float32 rate: at 4096^3 on an H100 (67 TFLOP/s) 16.4 ms; where b lies along k
// (nt) the lanes read 32 lines, far slower.
//
// Assumes nothing of alignment or sizes.
#include "gemm/operand.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int COLUMNS = 32, ROWS = 8;  // of a block

template <class A, class B>
__global__ void __launch_bounds__(COLUMNS* ROWS)
    gemm_1_naive_kernel(A a, B b, const float* bias, float* c, GemmShape shape, Accumulate accumulate) {
  const int row = blockIdx.x * ROWS + threadIdx.y, column = blockIdx.y * COLUMNS + threadIdx.x;
  if (row >= shape.m || column >= shape.n) return;
  float sum = 0.0f;
  for (int k = 0; k < shape.k; ++k) sum += *a.at(row, k) * *b.at(column, k);
  write_sum(sum, bias, column, c + int64_t(row) * shape.ldc + column, accumulate);
}

}  // namespace

void gemm_1_naive(const float* a, const float* b, const float* bias, float* c, GemmShape shape, Layout layout,
                  Accumulate accumulate, Stream stream) {
  if (shape.m == 0 || shape.n == 0) return;
  with_operands(a, b, shape, layout, [&](auto a_operand, auto b_operand) {
    launch(gemm_1_naive_kernel<decltype(a_operand), decltype(b_operand)>,
           {.op = "gemm_1_naive",
            .grid = dim3(ceil_div(shape.m, ROWS), ceil_div(shape.n, COLUMNS)),
            .block = dim3(COLUMNS, ROWS),
            .stream = stream},
           a_operand, b_operand, bias, c, shape, accumulate);
  });
}

}  // namespace minicnn
