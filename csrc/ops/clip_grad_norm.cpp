// The gradients scaled down to a given norm.
//
// Squares: partial[b] = sum of x^2 over chunk b
// Factor:  norm = sqrt(sum of partial), factor = min(1, max_norm / (norm + 1e-6))
// Scale:   x <- x * factor
//
// x (count) float32; partial (clip_workspace) float32; norm, factor () float32. The partial sums of several x may lie
// one behind the other, for one factor.
//
// A thread owns chunks of 8192 elements, which follow from the count alone: the same bits with any number of threads.
// Bytes an element: squares 4; scale 8, and none where factor is 1, so that a small gradient costs one reading. Bound
// by memory bandwidth.
//
// A NaN or infinity in x reaches norm and, through factor, every element, as in PyTorch's clip_grad_norm_.
#include <cmath>

#include "native/map.h"

namespace minicnn {
namespace {

constexpr int64_t CHUNK = 8192;

float sum_of_squares(const float* x, int64_t count) {
  constexpr int SUMS = 4;  // as many additions are under way at a time
  Floats sums[SUMS] = {};
  in_vectors(0, count, [&](int64_t i, auto lanes) {
    const Floats values = load_some(x + i, lanes);
    sums[i / LANES % SUMS] += values * values;
  });
  return sum_of_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

}  // namespace

int64_t clip_workspace(int64_t count) { return ceil_div(count, CHUNK); }

void clip_squares(const float* x, float* partial, int64_t count, Stream) {
  parallel(clip_workspace(count), GRAIN / CHUNK, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk)
      partial[chunk] = sum_of_squares(x + chunk * CHUNK, std::min(CHUNK, count - chunk * CHUNK));
  });
}

void clip_factor(const float* partial, float max_norm, float* norm, float* factor, int64_t count, Stream) {
  double sum = 0.0;
  for (int64_t i = 0; i < count; ++i) sum += partial[i];
  *norm = float(std::sqrt(sum));
  const float ratio = max_norm / (*norm + 1e-6f);
  *factor = ratio > 1.0f ? 1.0f : ratio;  // a NaN stays
}

void clip_scale(float* x, const float* factor, int64_t count, Stream) {
  const float scale = *factor;
  if (scale == 1.0f) return;
  parallel(count, GRAIN, LINE, [&](int64_t begin, int64_t end) {
    in_vectors(begin, end, [&](int64_t i, auto lanes) { store_some(x + i, load_some(x + i, lanes) * scale, lanes); });
  });
}

}  // namespace minicnn
