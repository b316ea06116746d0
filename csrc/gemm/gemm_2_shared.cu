// GEMM, rung 2: tiles in shared memory.
//
// c[i,j] (+)= bias[j] + sum over k of op(a)[i,k] op(b)[k,j]
//
// a (m, k) or (k, m), b (k, n) or (n, k), bias (n) or null, c (m, n) float32; rows lda, ldb, ldc apart.
//
// A block owns a TILE x TILE tile of c, a thread one element of it.
// Grid ceil(m / 16) x ceil(n / 16), block 16 x 16 threads, at most 2,304 bytes shared.
// FLOPs an element of c: 2k. Bytes from global memory: k / 2, a sixteenth of rung 1's requests.
//
// Idea: a block brings 16 columns of a and 16 rows of b into shared memory once, and each serves 16 threads. The copy
// runs along memory whatever the layout, so that nn, nt and tn are equally fast from here on. Predicted, not measured:
// global memory stops being the limit, shared memory becomes it: still two accesses a multiply-add, at most an eighth
// of the float32 rate, 16.4 ms at 4096^3 on an H100: the gain is that this is reached in every layout.
//
// Assumes nothing of alignment or sizes.
#include "gemm/stage.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int TILE = 16, THREADS = TILE * TILE;

template <class A, class B>
struct Storage {
  Slice<TILE, TILE, A::along> a;
  Slice<TILE, TILE, B::along> b;
};

template <class A, class B>
__global__ void __launch_bounds__(THREADS)
    gemm_2_shared_kernel(A a, B b, const float* bias, float* c, GemmShape shape, Accumulate accumulate) {
  auto& shared = shared_memory<Storage<A, B>>();
  const int thread = threadIdx.y * TILE + threadIdx.x;
  const int first_row = blockIdx.x * TILE, first_column = blockIdx.y * TILE;
  float sum = 0.0f;
  for (int first_k = 0; first_k < shape.k; first_k += TILE) {
    stage<THREADS>(shared.a, a, first_row, first_k, shape.k, thread);
    stage<THREADS>(shared.b, b, first_column, first_k, shape.k, thread);
    __syncthreads();
    for (int k = 0; k < TILE; ++k) sum += shared.a.at[k][threadIdx.y] * shared.b.at[k][threadIdx.x];
    __syncthreads();
  }
  const int row = first_row + threadIdx.y, column = first_column + threadIdx.x;
  if (row < shape.m && column < shape.n)
    write_sum(sum, bias, column, c + int64_t(row) * shape.ldc + column, accumulate);
}

}  // namespace

void gemm_2_shared(const float* a, const float* b, const float* bias, float* c, GemmShape shape, Layout layout,
                   Accumulate accumulate, Stream stream) {
  if (shape.m == 0 || shape.n == 0) return;
  with_operands(a, b, shape, layout, [&](auto a_operand, auto b_operand) {
    launch(gemm_2_shared_kernel<decltype(a_operand), decltype(b_operand)>,
           {.op = "gemm_2_shared",
            .grid = dim3(ceil_div(shape.m, TILE), ceil_div(shape.n, TILE)),
            .block = dim3(TILE, TILE),
            .shared_bytes = sizeof(Storage<decltype(a_operand), decltype(b_operand)>),
            .stream = stream},
           a_operand, b_operand, bias, c, shape, accumulate);
  });
}

}  // namespace minicnn
