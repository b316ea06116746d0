// Logarithm of softmax along the middle axis of (outer, reduced, inner).
//
// Forward:  y[i] = (x[i] - peak) - log(sum_j exp(x[j] - peak)), peak = max_j x[j]
// Backward: dx[i] (+)= dy[i] - exp(y[i]) * sum_j dy[j]
//
// x, y, dy, dx (outer, reduced, inner) float32; a row is the elements of one (outer, inner).
//
// A block owns a row, its threads the runs thread, thread + threads, ... of four elements (of one where inner > 1 or
// reduced % 4 != 0).
// Grid outer * inner, block 32 to 256 threads by the length of the row, 128 bytes of shared memory.
// Bytes an element: 8 forward, 12 backward, 16 with Accumulate::add; later passes over a row find it in the caches:
// bound by memory bandwidth, at inner = 1. Elsewhere neighbouring blocks share the lines that they read.
//
// A row with NaN or +inf, or of -inf alone, becomes NaN by itself, as in PyTorch: inf - inf.
#include "device/row.h"
#include "kernels.h"

namespace minicnn {
namespace {

template <int WIDTH>
__global__ void __launch_bounds__(MAX_ROW_THREADS)
    log_softmax_forward_kernel(const float* x, float* y, int reduced, int inner) {
  auto& storage = shared_memory<BlockReduceStorage>();
  const Row row = row_of(blockIdx.x, reduced, inner);
  const auto [peak, sum] = exp_sum<WIDTH>(x, row, reduced, storage);
  const float log_sum = logf(sum);
  for_each_run<WIDTH>(row, reduced, [&](int, int64_t at) {
    auto run = load_run<WIDTH>(x + at);
    for (float& value : run.values) value = (value - peak) - log_sum;
    store_run(y + at, run);
  });
}

template <int WIDTH>
__global__ void __launch_bounds__(MAX_ROW_THREADS)
    log_softmax_backward_kernel(const float* dy, const float* y, float* dx, Accumulate accumulate, int reduced,
                                int inner) {
  auto& storage = shared_memory<BlockReduceStorage>();
  const Row row = row_of(blockIdx.x, reduced, inner);
  float sum = 0.0f;
  for_each_run<WIDTH>(row, reduced, [&](int, int64_t at) {
    const auto run = load_run<WIDTH>(dy + at);
    for (const float gradient : run.values) sum += gradient;
  });
  sum = block_sum(sum, storage);
  for_each_run<WIDTH>(row, reduced, [&](int, int64_t at) {
    auto gradient = load_run<WIDTH>(dy + at);
    const auto output = load_run<WIDTH>(y + at);
    for (int i = 0; i < WIDTH; ++i) gradient.values[i] -= expf(output.values[i]) * sum;
    store_run(dx + at, gradient, accumulate);
  });
}

}  // namespace

void log_softmax_forward(const float* x, float* y, int64_t outer, int reduced, int inner, Stream stream) {
  if (outer * reduced * inner == 0) return;
  const bool fours = has_rows_of_fours(reduced, inner, {x, y});
  launch(fours ? log_softmax_forward_kernel<4> : log_softmax_forward_kernel<1>,
         row_config("log_softmax_forward", outer * inner, reduced, stream), x, y, reduced, inner);
}

void log_softmax_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t outer, int reduced,
                          int inner, Stream stream) {
  if (outer * reduced * inner == 0) return;
  const bool fours = has_rows_of_fours(reduced, inner, {dy, y, dx});
  launch(fours ? log_softmax_backward_kernel<4> : log_softmax_backward_kernel<1>,
         row_config("log_softmax_backward", outer * inner, reduced, stream), dy, y, dx, accumulate, reduced, inner);
}

}  // namespace minicnn
