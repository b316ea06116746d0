// Softmax along the middle axis of (outer, reduced, inner).
//
// Forward:  y[i] = exp(x[i] - peak) / sum_j exp(x[j] - peak), peak = max_j x[j]
// Backward: dx[i] (+)= y[i] * (dy[i] - sum_j dy[j] * y[j])
//
// x, y, dy, dx (outer, reduced, inner) float32; a row is the elements of one (outer, inner).
//
// A block owns a row, its threads elements thread, thread + threads, ...
// Grid outer * inner, block 32 to 256 threads by the length of the row, 128 bytes of shared memory.
// Bytes an element: 8 forward, 12 backward, 16 with Accumulate::add; the second and third pass over a row find it in
// the caches: bound by memory bandwidth, at inner = 1. Elsewhere neighbouring blocks share the lines that they read.
//
// A row with NaN or +inf, or of -inf alone, becomes NaN by itself, as in PyTorch: inf - inf.
#include "device/row.h"
#include "kernels.h"

namespace minicnn {
namespace {

__global__ void __launch_bounds__(MAX_ROW_THREADS)
    softmax_forward_kernel(const float* x, float* y, int reduced, int inner) {
  auto& storage = shared_memory<BlockReduceStorage>();
  const Row row = row_of(blockIdx.x, reduced, inner);
  const auto [peak, sum] = exp_sum(x, row, reduced, storage);
  for (int i = threadIdx.x; i < reduced; i += blockDim.x) y[row.at(i)] = expf(x[row.at(i)] - peak) / sum;
}

__global__ void __launch_bounds__(MAX_ROW_THREADS)
    softmax_backward_kernel(const float* dy, const float* y, float* dx, Accumulate accumulate, int reduced, int inner) {
  auto& storage = shared_memory<BlockReduceStorage>();
  const Row row = row_of(blockIdx.x, reduced, inner);
  float dot = 0.0f;
  for (int i = threadIdx.x; i < reduced; i += blockDim.x) dot += dy[row.at(i)] * y[row.at(i)];
  dot = block_sum(dot, storage);
  for (int i = threadIdx.x; i < reduced; i += blockDim.x) {
    const float gradient = y[row.at(i)] * (dy[row.at(i)] - dot);
    dx[row.at(i)] = accumulate == Accumulate::add ? dx[row.at(i)] + gradient : gradient;
  }
}

}  // namespace

void softmax_forward(const float* x, float* y, int64_t outer, int reduced, int inner, Stream stream) {
  if (outer * reduced * inner == 0) return;
  launch(softmax_forward_kernel, row_config("softmax_forward", outer * inner, reduced, stream), x, y, reduced, inner);
}

void softmax_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t outer, int reduced,
                      int inner, Stream stream) {
  if (outer * reduced * inner == 0) return;
  launch(softmax_backward_kernel, row_config("softmax_backward", outer * inner, reduced, stream), dy, y, dx, accumulate,
         reduced, inner);
}

}  // namespace minicnn
