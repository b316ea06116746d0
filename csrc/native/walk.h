// Walks over arrays of any strides, run by run along the innermost axis.
#pragma once
#include <algorithm>

#include "native/map.h"
#include "ops/walk.h"

namespace minicnn {

// body(place, at, count): `count` neighbouring elements along the innermost axis, number `at` and so on of the walk,
// which lie at `place` in a and b. A thread owns a run of the walk's elements.
template <class Body>
void walk_runs(const Walk& walk, const Body& body) {
  constexpr int INNERMOST = PerAxis::COUNT - 1;
  const int64_t row = walk.extents[INNERMOST];
  parallel(walk_count(walk), GRAIN, LINE, [&](int64_t begin, int64_t end) {
    int64_t index[PerAxis::COUNT], rest = begin;
    for (int axis = INNERMOST; axis >= 0; --axis) {
      index[axis] = rest % walk.extents[axis];
      rest /= walk.extents[axis];
    }
    Place place = locate(walk, begin);
    for (int64_t at = begin; at < end;) {
      const int64_t count = std::min(row - index[INNERMOST], end - at);
      body(place, at, count);
      at += count;
      place.a -= index[INNERMOST] * walk.a_strides[INNERMOST];
      place.b -= index[INNERMOST] * walk.b_strides[INNERMOST];
      index[INNERMOST] = 0;
      for (int axis = INNERMOST - 1; axis >= 0; --axis) {  // the next row
        place.a += walk.a_strides[axis];
        place.b += walk.b_strides[axis];
        if (++index[axis] < walk.extents[axis]) break;
        place.a -= index[axis] * walk.a_strides[axis];
        place.b -= index[axis] * walk.b_strides[axis];
        index[axis] = 0;
      }
    }
  });
}

// Lane i is from[i * stride].
template <class Lanes>
inline Floats load_stepping(const float* from, int64_t stride, Lanes lanes) {
  if (stride == 1) return load_some(from, lanes);
  if (stride == 0) return broadcast(*from);
  Floats values{};
  const int count = lane_count(lanes);
  for (int i = 0; i < count; ++i) values[i] = from[i * stride];
  return values;
}

}  // namespace minicnn
