// Softmax along the middle axis of (outer, reduced, inner).
//
// Forward:  y[i] = exp(x[i] - peak) / sum_j exp(x[j] - peak), peak = max_j x[j]
// Backward: dx[i] (+)= y[i] * (dy[i] - sum_j dy[j] * y[j])
//
// x, y, dy, dx (outer, reduced, inner) float32; a row is the elements of one (outer, inner).
//
// A thread owns rows (native/row.h). Later passes over a row find it in the caches; forward takes two exponentials an
// element: bound by arithmetic on one core, by memory on many.
//
// A row with NaN or +inf, or of -inf alone, becomes NaN by itself, as in PyTorch: inf - inf.
#include "native/row.h"

namespace minicnn {

void softmax_forward(const float* x, float* y, int64_t outer, int reduced, int inner, Stream) {
  if (outer * reduced * inner == 0) return;
  each_row(outer, reduced, inner, [&](const Row& row) {
    const auto [peak, sum] = exp_sum(x, row);
    row.each([&, peak = peak, sum = sum](int64_t at, auto lanes) {
      store_some(y + at, exponential(load_some(x + at, lanes) - peak) / sum, lanes);
    });
  });
}

void softmax_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t outer, int reduced,
                      int inner, Stream) {
  if (outer * reduced * inner == 0) return;
  each_row(outer, reduced, inner, [&](const Row& row) {
    Floats dot{};
    row.each([&](int64_t at, auto lanes) { dot += load_some(dy + at, lanes) * load_some(y + at, lanes); });
    dot = row.sum(dot);
    row.each([&](int64_t at, auto lanes) {
      write_some(dx + at, load_some(y + at, lanes) * (load_some(dy + at, lanes) - dot), accumulate, lanes);
    });
  });
}

}  // namespace minicnn
