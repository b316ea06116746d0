// What becomes of the sums of a convolution whose ReLU and max-pooling by squares of 2 x 2 are within: the four pixels
// of a window are four rows of the product after one another, so that a thread, or a warp's patch, has them all.
#pragma once
#include "gemm/schedule.h"
#include "gemm/tensor_core.h"

namespace minicnn {

// y (N, P / 2, Q / 2, K); index, which may be null, likewise: place 0 to 3 of the winner in its window, the first of
// equals, the last NaN; nobody's where y <= 0. As maxpool2d_forward says of the y of a ReLU.
template <class T>
struct WindowDestination {
  T* y;
  uint8_t* index;
  const float* bias;  // or null
};

constexpr int WINDOW = 4;  // pixels
constexpr uint8_t NOBODYS_PLACE = 255;

// Which pixel of y a row of the product is: window by window.
struct WindowOrder {
  static __device__ Pixel pixel(const ConvShape& conv, int row) {
    const Pixel window = pixel_at(row / WINDOW, conv.p / 2, conv.q / 2);
    return {window.image, 2 * window.row + row % WINDOW / 2, 2 * window.column + row % 2};
  }
};

// Where the windows lie from the start of y on, by the first of their rows.
struct WindowRows {
  int64_t first;
  int pitch;
  __device__ int64_t operator()(int row) const { return first + int64_t(row / WINDOW) * pitch; }
};

// A finished sum as an array of T would hold it. These are what is compared: of two sums that become one number the
// first wins, and what becomes 0 is nobody's.
template <class T>
__device__ inline float as_held(float sum) {
  return to_float(from_float<T>(sum));
}

// The largest of a window of finished sums, and its place.
struct Winner {
  float value = -INFINITY;
  uint8_t place = 0;

  __device__ void meet(float other, int other_place) {
    if (!(other > value || other != other)) return;
    value = other;
    place = uint8_t(other_place);
  }
  __device__ uint8_t index() const { return value <= 0.0f ? NOBODYS_PLACE : place; }
};

struct alignas(4) Places {
  uint8_t values[4];
};

// Those of four neighbouring channels, the first `count` of them.
template <class T>
__device__ inline void write_winners(const Winner (&winners)[4], const WindowDestination<T>& target, int64_t offset,
                                     int count) {
  Vec4 y;
  Places places;
  for (int e = 0; e < 4; ++e) {
    y.values[e] = winners[e].value;
    places.values[e] = winners[e].index();
  }
  store_vec4(target.y + offset, 0, count, y);
  if (target.index == nullptr) return;
  uint8_t* const index = target.index + offset;
  if (count >= 4 && reinterpret_cast<uintptr_t>(index) % alignof(Places) == 0) {
    *reinterpret_cast<Places*>(index) = places;
    return;
  }
  for (int e = 0; e < 4; ++e)
    if (e < count) index[e] = places.values[e];
}

// The windows among the rows below last_row of a tile at (first_row, first_column) that offset_of has.
template <int TILE, class Rows>
__device__ inline void write_windows(ThreadSums<TILE>& sums, const WindowDestination<float>& target,
                                     const Rows& offset_of, int first_row, int last_row, int first_column,
                                     int last_column) {
  using Sums = ThreadSums<TILE>;
  finish_sums(sums, target.bias, Activation::relu, first_column, last_column);
#pragma unroll  // the sums are registers, which no variable can index
  for (int i = 0; i < Sums::ROWS; i += WINDOW) {
    const int row = first_row + Sums::row(i);
    if (row >= last_row || !has_row(offset_of, row)) continue;
    const int64_t offset = offset_of(row);
#pragma unroll
    for (int j = 0; j < Sums::COLUMNS; j += 4) {
      const int column = first_column + Sums::column(j);
      if (column >= last_column) continue;
      Winner winners[4];
      for (int place = 0; place < WINDOW; ++place)
        for (int e = 0; e < 4; ++e) winners[e].meet(sums.values[i + place][j + e], place);
      write_winners(winners, target, offset + column, last_column - column);
    }
  }
}

// The same of the tile that `shared` has kept. All threads of the block take part.
template <class Sums, int TILE, class T, class Rows>
__device__ inline void write_windows(const Sums& sums, TensorCoreStorage<TILE>& shared,
                                     const WindowDestination<T>& target, const Rows& offset_of, int last_row,
                                     int last_column) {
  using Patch = SumsPatch<Sums>;
  for_each_patch(sums, shared, [&](const Patch& patch, int first_row, int first_column) {
#pragma unroll 1
    for (int step = threadIdx.x % 32; step < Patch::HEIGHT / WINDOW * Patch::QUADS; step += 32) {
      const int patch_row = step / Patch::QUADS * WINDOW, patch_column = step % Patch::QUADS * 4;
      const int row = first_row + patch_row, column = first_column + patch_column;
      if (row >= last_row || column >= last_column || !has_row(offset_of, row)) continue;
      Winner winners[4];
      for (int place = 0; place < WINDOW; ++place) {
        Vec4 quad = patch.quad(patch_row + place, patch_column);
        finish_quad(quad, target.bias, Activation::relu, column, last_column);
        for (int e = 0; e < 4; ++e) winners[e].meet(as_held<T>(quad.values[e]), place);
      }
      write_winners(winners, target, offset_of(row) + column, last_column - column);
    }
  });
}

}  // namespace minicnn
