// Four elements at a time of a walk over arrays of any strides (ops/walk.h).
#pragma once
#include "device/vec4.h"
#include "ops/walk.h"

namespace minicnn {

// Where four consecutive elements of a walk lie.
struct Place4 {
  int64_t a[4], b[4];
  bool exists[4];
  bool a_adjacent, b_adjacent;  // whether one 16-byte access may move all four, given the alignment
};

// The places of elements [begin, begin + 4), those below `count`. One walk finds all four where no row ends between.
__device__ inline Place4 locate4(const Walk& walk, int64_t begin, int64_t count) {
  constexpr int LAST = PerAxis::COUNT - 1;
  const int row = walk.extents[LAST], a_step = walk.a_strides[LAST], b_step = walk.b_strides[LAST];
  const bool in_one_row = row % 4 == 0 || row == count;
  Place4 places;
  Place first{0, 0};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    places.exists[i] = begin + i < count;
    if (places.exists[i] && (i == 0 || !in_one_row)) first = locate(walk, begin + i);
    const int64_t steps = in_one_row ? i : 0;
    places.a[i] = first.a + steps * a_step;
    places.b[i] = first.b + steps * b_step;
  }
  const bool whole = in_one_row && places.exists[3];
  places.a_adjacent = whole && a_step == 1;
  places.b_adjacent = whole && b_step == 1;
  return places;
}

// The four elements at these offsets; those that do not exist are not read and come back as 0.
__device__ inline Vec4 load_at(const float* array, const int64_t (&offsets)[4], const Place4& places, bool adjacent) {
  if (adjacent) return load_vec4(array + offsets[0], 0, 4);
  Vec4 result;
#pragma unroll
  for (int i = 0; i < 4; ++i) result.values[i] = places.exists[i] ? array[offsets[i]] : 0.0f;
  return result;
}

__device__ inline Vec4 load_a(const float* a, const Place4& places) {
  return load_at(a, places.a, places, places.a_adjacent);
}

__device__ inline Vec4 load_b(const float* b, const Place4& places) {
  return load_at(b, places.b, places, places.b_adjacent);
}

__device__ inline void store_b(float* b, const Place4& places, const Vec4& value) {
  if (places.b_adjacent) return store_vec4(b + places.b[0], 0, 4, value);
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (places.exists[i]) b[places.b[i]] = value.values[i];
}

}  // namespace minicnn
