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
// A thread owns rows (native/row.h). An exponential an element each way: bound by arithmetic; a few hundred rows of a
// thousand classes stay in the caches. The losses are added one after the other in float64.
//
// peak and log_sum stay apart because their sum, at large logits, would round the small one away. A target outside [0,
// C) makes the row's loss and gradient NaN. Rows with NaN or +inf, or of -inf alone, become NaN.
#include "native/row.h"

namespace minicnn {
namespace {

bool is_class(int64_t target, int classes) { return 0 <= target && target < classes; }

// q[n, c] for target[n] = `target`, which is a class, and the vector of classes from c on.
Floats target_shares(int64_t c, int64_t target, float label_smoothing, int classes) {
  const float every = label_smoothing / float(classes);
  return lane_numbers() == int(target - c) ? broadcast(1.0f - label_smoothing + every) : broadcast(every);
}

}  // namespace

void cross_entropy_forward(const float* logits, const int64_t* target, float* peak, float* log_sum, float* loss,
                           float label_smoothing, int64_t n, int classes, Stream) {
  each_row(n, classes, 1, [&](const Row& row) {
    const int64_t i = row.begin / classes;
    const auto [row_peak, sum] = exp_sum(logits, row);
    const Floats row_log_sum = logarithm(sum);
    Floats losses{};
    row.each([&, row_peak = row_peak](int64_t at, auto lanes) {
      const Floats shares = target_shares(at - row.begin, target[i], label_smoothing, classes);
      const Floats terms = shares * ((load_some(logits + at, lanes) - row_peak) - row_log_sum);
      losses -= fill(shares > 0.0f ? terms : Floats{}, lanes, 0.0f);  // 0 * -inf would spoil the row
    });
    peak[i] = row_peak[0];
    log_sum[i] = row_log_sum[0];
    loss[i] = is_class(target[i], classes) ? sum_of_lanes(losses) : NAN;
  });
}

void cross_entropy_reduce(const float* loss, float* y, float divisor, int64_t n, Stream) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += loss[i];
  *y = float(sum) / divisor;
}

void cross_entropy_backward(const float* dy, const float* logits, const int64_t* target, const float* peak,
                            const float* log_sum, float* dlogits, Accumulate accumulate, float label_smoothing,
                            float divisor, int dy_stride, int64_t n, int classes, Stream) {
  each_row(n, classes, 1, [&](const Row& row) {
    const int64_t i = row.begin / classes;
    const float dloss = is_class(target[i], classes) ? dy[i * dy_stride] / divisor : NAN;
    row.each([&](int64_t at, auto lanes) {
      const Floats softmax = exponential((load_some(logits + at, lanes) - peak[i]) - log_sum[i]);
      const Floats shares = target_shares(at - row.begin, target[i], label_smoothing, classes);
      write_some(dlogits + at, (softmax - shares) * dloss, accumulate, lanes);
    });
  });
}

}  // namespace minicnn
