// The rows of softmax and its like: the elements along the middle axis of an array (outer, reduced, inner).
#pragma once
#include "kernels.h"
#include "native/map.h"
#include "native/math.h"

namespace minicnn {

// One row whose elements are the lanes of its vectors (inner = 1), or as many neighbouring rows as there are lanes.
struct Row {
  int64_t begin;
  int vectors;
  int64_t step;     // from one vector to the next
  int lanes, last;  // of the vectors, of the last one
  bool is_one;

  // visit(at, lanes), `at` the offset of a vector.
  template <class Visit>
  void each(const Visit& visit) const {
    for (int v = 0; v < vectors; ++v) {
      const int count = v == vectors - 1 ? last : lanes;
      if (count == LANES)
        visit(begin + v * step, Whole{});
      else
        visit(begin + v * step, count);
    }
  }

  // What the lanes of one row have together, in all of them.
  Floats sum(Floats values) const { return is_one ? broadcast(sum_of_lanes(values)) : values; }
  Floats largest(Floats values) const { return is_one ? broadcast(largest_lane(values)) : values; }
};

inline Row row_of_array(int64_t row, int reduced) {
  const int vectors = ceil_div(reduced, LANES);
  return {row * reduced, vectors, LANES, LANES, reduced - (vectors - 1) * LANES, true};
}

// body(row) for all rows. A thread owns some of them.
template <class Body>
void each_row(int64_t outer, int reduced, int inner, const Body& body) {
  constexpr int64_t ELEMENTS = GRAIN / 8;  // with an exponential each
  if (inner == 1) {
    parallel(outer, ceil_div<int64_t>(ELEMENTS, reduced), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) body(row_of_array(row, reduced));
    });
    return;
  }
  const int64_t strips = ceil_div(inner, LANES);
  parallel(outer * strips, ceil_div<int64_t>(ELEMENTS, int64_t(reduced) * LANES), [&](int64_t begin, int64_t end) {
    for (int64_t strip = begin; strip < end; ++strip) {
      const int column = int(strip % strips) * LANES, lanes = std::min(LANES, inner - column);
      body(Row{strip / strips * reduced * inner + column, reduced, inner, lanes, lanes, false});
    }
  });
}

// A row's maximum, and the sum of exp(x - maximum) over it.
struct ExpSum {
  Floats peak, sum;
};

inline ExpSum exp_sum(const float* x, const Row& row) {
  Floats peak = broadcast(-INFINITY), sum{};
  row.each([&](int64_t at, auto lanes) { peak = maximum(fill(load_some(x + at, lanes), lanes, -INFINITY), peak); });
  peak = row.largest(peak);
  row.each([&](int64_t at, auto lanes) { sum += fill(exponential(load_some(x + at, lanes) - peak), lanes, 0.0f); });
  return {peak, row.sum(sum)};
}

}  // namespace minicnn
