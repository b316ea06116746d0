// Logarithm of softmax along the middle axis of (outer, reduced, inner).
//
// Forward:  y[i] = (x[i] - peak) - log(sum_j exp(x[j] - peak)), peak = max_j x[j]
// Backward: dx[i] (+)= dy[i] - exp(y[i]) * sum_j dy[j]
//
// x, y, dy, dx (outer, reduced, inner) float32; a row is the elements of one (outer, inner).
//
// A thread owns rows (native/row.h). Later passes over a row find it in the caches; each way takes an exponential an
// element: bound by arithmetic on one core, by memory on many.
//
// A row with NaN or +inf, or of -inf alone, becomes NaN by itself, as in PyTorch: inf - inf.
#include "native/row.h"

namespace minicnn {

void log_softmax_forward(const float* x, float* y, int64_t outer, int reduced, int inner, Stream) {
  if (outer * reduced * inner == 0) return;
  each_row(outer, reduced, inner, [&](const Row& row) {
    const auto [peak, sum] = exp_sum(x, row);
    const Floats log_sum = logarithm(sum);
    row.each([&, peak = peak](int64_t at, auto lanes) {
      store_some(y + at, (load_some(x + at, lanes) - peak) - log_sum, lanes);
    });
  });
}

void log_softmax_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t outer, int reduced,
                          int inner, Stream) {
  if (outer * reduced * inner == 0) return;
  each_row(outer, reduced, inner, [&](const Row& row) {
    Floats sum{};
    row.each([&](int64_t at, auto lanes) { sum += load_some(dy + at, lanes); });
    sum = row.sum(sum);
    row.each([&](int64_t at, auto lanes) {
      const Floats gradient = load_some(dy + at, lanes) - exponential(load_some(y + at, lanes)) * sum;
      write_some(dx + at, gradient, accumulate, lanes);
    });
  });
}

}  // namespace minicnn
