// Walks over arrays of any strides: what broadcasting, permutation, indexing and concatenation share, on every device.
#pragma once
#include "device/host_device.h"
#include "shapes.h"

namespace minicnn {

// All indices below `extents` in C order, and how many elements a step along each axis takes in two arrays a and b.
// The caller has merged neighbouring axes (minicnn/axes.py): two contiguous arrays are walked along one axis.
struct Walk {
  PerAxis extents, a_strides, b_strides;
};

inline int64_t walk_count(const Walk& walk) {
  int64_t count = 1;
  for (int axis = 0; axis < PerAxis::COUNT; ++axis) count *= walk.extents[axis];
  return count;
}

struct Place {
  int64_t a, b;  // offsets
};

// Where element `index` of the walk lies. A division for each axis but the outermost: none where one axis is left.
MINICNN_HOST_DEVICE inline Place locate(const Walk& walk, int64_t index) {
  Place place{0, 0};
  int axis = PerAxis::COUNT - 1;
  for (; index >= walk.extents[axis]; --axis) {
    const int64_t outer = index / walk.extents[axis], inner = index - outer * walk.extents[axis];
    place.a += inner * walk.a_strides[axis];
    place.b += inner * walk.b_strides[axis];
    index = outer;
  }
  return {place.a + index * walk.a_strides[axis], place.b + index * walk.b_strides[axis]};
}

// The axis along which a is contiguous, if a tile pays there: b is contiguous along another one, the innermost, and
// both fill at least half of a tile. -1 where not.
inline int transposed_axis(const Walk& walk, int tile) {
  constexpr int INNERMOST = PerAxis::COUNT - 1;
  if (walk.b_strides[INNERMOST] != 1 || walk.a_strides[INNERMOST] == 1 || walk.extents[INNERMOST] < tile / 2) return -1;
  for (int axis = 0; axis < INNERMOST; ++axis)
    if (walk.a_strides[axis] == 1 && walk.extents[axis] >= tile / 2) return axis;
  return -1;
}

}  // namespace minicnn
