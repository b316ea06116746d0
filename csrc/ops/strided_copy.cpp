// Strided copy: the work behind permutation, basic indexing, concatenation, and the gradients of all that repeats or
// moves elements (sum, mean, add, sub, broadcasting).
//
//   y[y_offset + i . y_strides] (+)= scale * x[x_offset + i . x_strides]      for all indices i below extents
//
// x, y  float32, reached at the given strides only. A stride of 0 in x repeats an element; no two indices may lead to
//       the same element of y.
//
// A thread owns a run of indices, and takes it row by row of the innermost axis. Where x and y have unit stride along
// different axes, a thread owns planes of both instead, and takes them in tiles whose lines stay in the first-level
// cache until all of their elements are used.
// Bytes an element: 8, 12 with Accumulate::add, and 4 more where the processor reads a line before it overwrites it:
// bound by memory bandwidth where one of x and y is contiguous along the innermost axis.
#include "native/walk.h"

namespace minicnn {
namespace {

constexpr int INNERMOST = PerAxis::COUNT - 1;
constexpr int TILE = 16;  // floats in a line of memory

void copy_runs(const float* x, float* y, Accumulate accumulate, float scale, const Walk& walk) {
  const int64_t x_step = walk.a_strides[INNERMOST], y_step = walk.b_strides[INNERMOST];
  walk_runs(walk, [&](const Place& place, int64_t, int64_t count) {
    const float* from = x + place.a;
    float* to = y + place.b;
    if (y_step == 1) {
      in_vectors(0, count, [&](int64_t i, auto lanes) {
        write_some(to + i, scale * load_stepping(from + i * x_step, x_step, lanes), accumulate, lanes);
      });
      return;
    }
    for (int64_t i = 0; i < count; ++i) {
      const float value = scale * from[i * x_step];
      to[i * y_step] = accumulate == Accumulate::add ? to[i * y_step] + value : value;
    }
  });
}

// Axis p has unit stride in x, the innermost axis q in y.
void transpose(const float* x, float* y, Accumulate accumulate, float scale, const Walk& walk, int p_axis) {
  const int p_extent = walk.extents[p_axis], q_extent = walk.extents[INNERMOST];
  const int64_t p_stride_y = walk.b_strides[p_axis], q_stride_x = walk.a_strides[INNERMOST];
  const int strips = ceil_div(p_extent, TILE);
  Walk planes = walk;
  planes.extents.axis[p_axis] = planes.extents.axis[INNERMOST] = 1;

  parallel(walk_count(planes) * strips, ceil_div<int64_t>(GRAIN, TILE * q_extent), [&](int64_t begin, int64_t end) {
    for (int64_t strip = begin; strip < end; ++strip) {
      const Place corner = locate(planes, strip / strips);
      const int p_begin = int(strip % strips) * TILE, p_end = std::min(p_begin + TILE, p_extent);
      for (int q_begin = 0; q_begin < q_extent; q_begin += TILE) {
        const int q_end = std::min(q_begin + TILE, q_extent);
        for (int p = p_begin; p < p_end; ++p)
          for (int q = q_begin; q < q_end; ++q) {
            float& element = y[corner.b + p * p_stride_y + q];
            const float value = scale * x[corner.a + p + q * q_stride_x];
            element = accumulate == Accumulate::add ? element + value : value;
          }
      }
    }
  });
}

}  // namespace

void strided_copy(const float* x, float* y, Accumulate accumulate, float scale, PerAxis extents, PerAxis x_strides,
                  PerAxis y_strides, int64_t x_offset, int64_t y_offset, Stream) {
  const Walk walk{extents, x_strides, y_strides};
  if (walk_count(walk) == 0) return;
  const int p = transposed_axis(walk, TILE);
  if (p >= 0)
    transpose(x + x_offset, y + y_offset, accumulate, scale, walk, p);
  else
    copy_runs(x + x_offset, y + y_offset, accumulate, scale, walk);
}

}  // namespace minicnn
