// Cross-entropy of logits: log-softmax, the loss and its gradient.
//
// Forward:  loss[n] = -sum_c q[n, c] * logp[n, c],  logp[n, c] = (logits[n, c] - peak[n]) - log_sum[n]
// Reduce:   y = (sum_n loss[n]) / divisor
// Backward: dlogits[n, c] (+)= (exp(logp[n, c]) - q[n, c]) * dy[n * dy_stride] / divisor
//           with q[n, c] = (1 - label_smoothing) * [c == target[n]] + label_smoothing / C
//
// logits, dlogits (N, C) float32; target (N) int64; peak, log_sum, loss (N) float32; y () float32;
// dy () or (N) float32, with dy_stride 0 or 1.
//
// Forward and backward: a block owns a row, its threads the runs thread, thread + threads, ... of four logits (of one
// where C % 4 != 0). The forward pass reads a row three times, from memory once: the first-level cache has it then.
// Grid N, block 32 to 256 threads by the length of the row, 128 bytes of shared memory.
// Reduce: one block of 256 threads, each with every 256th loss.
// Bytes a logit: 4 forward, 8 backward (12 with Accumulate::add): the step's cheapest form, since the gradient is made
// once and in its place. A few hundred rows of a thousand classes are bound by latency.
//
// peak and log_sum stay apart because their sum, at large logits, would round the small one away. A target outside [0,
// C) makes the row's loss and gradient NaN. Rows with NaN or +inf, or of -inf alone, become NaN.
#include "device/row.h"
#include "kernels.h"

namespace minicnn {
namespace {

__device__ bool is_class(int64_t target, int classes) { return 0 <= target && target < classes; }

// q[n, c] for target[n] = `target`.
__device__ float target_share(int c, int64_t target, float label_smoothing, int classes) {
  const float every = label_smoothing / float(classes);
  return c == target ? 1.0f - label_smoothing + every : every;
}

template <int WIDTH>
__global__ void __launch_bounds__(MAX_ROW_THREADS)
    cross_entropy_forward_kernel(const float* logits, const int64_t* targets, float* peaks, float* log_sums,
                                 float* losses, float label_smoothing, int classes) {
  auto& storage = shared_memory<BlockReduceStorage>();
  const Row row = row_of(blockIdx.x, classes, 1);
  const int64_t target = targets[blockIdx.x];
  const auto [peak, sum] = exp_sum<WIDTH>(logits, row, classes, storage);
  const float log_sum = logf(sum);
  float loss = 0.0f;
  for_each_run<WIDTH>(row, classes, [&](int c, int64_t at) {
    const auto run = load_run<WIDTH>(logits + at);
    for (int i = 0; i < WIDTH; ++i) {
      const float share = target_share(c + i, target, label_smoothing, classes);
      if (share > 0.0f) loss -= share * ((run.values[i] - peak) - log_sum);  // else 0 * -inf would spoil the row
    }
  });
  loss = block_sum(loss, storage);
  if (threadIdx.x > 0) return;
  peaks[blockIdx.x] = peak;
  log_sums[blockIdx.x] = log_sum;
  losses[blockIdx.x] = is_class(target, classes) ? loss : NAN;
}

__global__ void __launch_bounds__(MAX_ROW_THREADS)
    cross_entropy_reduce_kernel(const float* losses, float* y, float divisor, int64_t rows) {
  auto& storage = shared_memory<BlockReduceStorage>();
  float sum = 0.0f;
  for (int64_t n = threadIdx.x; n < rows; n += blockDim.x) sum += losses[n];
  sum = block_sum(sum, storage);
  if (threadIdx.x == 0) *y = sum / divisor;
}

template <int WIDTH>
__global__ void __launch_bounds__(MAX_ROW_THREADS)
    cross_entropy_backward_kernel(const float* dy, const float* logits, const int64_t* targets, const float* peaks,
                                  const float* log_sums, float* dlogits, Accumulate accumulate, float label_smoothing,
                                  float divisor, int dy_stride, int classes) {
  const Row row = row_of(blockIdx.x, classes, 1);
  const int64_t target = targets[blockIdx.x];
  const float peak = peaks[blockIdx.x], log_sum = log_sums[blockIdx.x];
  const float dloss = is_class(target, classes) ? dy[int64_t(blockIdx.x) * dy_stride] / divisor : NAN;
  for_each_run<WIDTH>(row, classes, [&](int c, int64_t at) {
    auto run = load_run<WIDTH>(logits + at);
    for (int i = 0; i < WIDTH; ++i) {
      const float softmax = expf((run.values[i] - peak) - log_sum);
      run.values[i] = (softmax - target_share(c + i, target, label_smoothing, classes)) * dloss;
    }
    store_run(dlogits + at, run, accumulate);
  });
}

}  // namespace

void cross_entropy_forward(const float* logits, const int64_t* target, float* peak, float* log_sum, float* loss,
                           float label_smoothing, int64_t n, int classes, Stream stream) {
  if (n == 0) return;
  const bool fours = has_rows_of_fours(classes, 1, {logits});
  launch(fours ? cross_entropy_forward_kernel<4> : cross_entropy_forward_kernel<1>,
         row_config("cross_entropy_forward", n, classes, stream), logits, target, peak, log_sum, loss, label_smoothing,
         classes);
}

void cross_entropy_reduce(const float* loss, float* y, float divisor, int64_t n, Stream stream) {
  launch(cross_entropy_reduce_kernel,
         {.op = "cross_entropy_reduce",
          .grid = 1,
          .block = MAX_ROW_THREADS,
          .shared_bytes = sizeof(BlockReduceStorage),
          .stream = stream},
         loss, y, divisor, n);
}

void cross_entropy_backward(const float* dy, const float* logits, const int64_t* target, const float* peak,
                            const float* log_sum, float* dlogits, Accumulate accumulate, float label_smoothing,
                            float divisor, int dy_stride, int64_t n, int classes, Stream stream) {
  if (n == 0) return;
  const bool fours = has_rows_of_fours(classes, 1, {logits, dlogits});
  launch(fours ? cross_entropy_backward_kernel<4> : cross_entropy_backward_kernel<1>,
         row_config("cross_entropy_backward", n, classes, stream), dy, logits, target, peak, log_sum, dlogits,
         accumulate, label_smoothing, divisor, dy_stride, classes);
}

}  // namespace minicnn
