// The segments of an arena, each with multipliers of its own: what the steps of optimizers look up.
#pragma once
#include "device/cuda.h"

namespace minicnn {

struct Segment {
  int64_t stop;
  float lr_multiplier, decay_multiplier;
};

// The last segment that starts at element `begin` or before it; stop is 0 where there is none.
// bounds (segments, 2): start and stop of each, ascending; multipliers (segments, 2).
__device__ inline Segment find_segment(const int64_t* bounds, const float* multipliers, int segments, int64_t begin) {
  int low = 0, high = segments;  // segments before `low` start at or before `begin`, those from `high` on after it
  while (low < high) {
    const int middle = (low + high) / 2;
    if (bounds[2 * middle] <= begin)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == 0) return {};
  return {bounds[2 * low - 1], multipliers[2 * low - 2], multipliers[2 * low - 1]};
}

}  // namespace minicnn
