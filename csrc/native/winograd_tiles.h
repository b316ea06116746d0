// What both passes of winograd.h share: the tiles of an image, and their transformed inputs as matrices.
#pragma once
#include "native/panels.h"
#include "native/winograd_transforms.h"
#include "shapes.h"

namespace minicnn::winograd {

// The tiles of `outputs` x `outputs` pixels that cover y, some of them over its border.
struct TileGrid {
  int rows, columns, outputs;
  int64_t count;

  TileGrid(const ConvShape& conv, int outputs)
      : rows(ceil_div(conv.p, outputs)),
        columns(ceil_div(conv.q, outputs)),
        outputs(outputs),
        count(int64_t(conv.n) * rows * columns) {}

  // The first output pixel of a tile.
  Pixel at(int64_t tile) const {
    const int64_t line = tile / columns;
    return {int(line / rows), int(line % rows) * outputs, int(tile % columns) * outputs};
  }
};

// One matrix in panels for each of the 36 products. A plane is one cache line longer than it need be, so that the same
// place in all planes is not one set of the cache.
struct Planes {
  float* data;
  int64_t plane_floats, rows;

  static int64_t floats_of_plane(int64_t rows, int64_t columns) { return panels_size(rows, columns) + Scratch::LINE; }
  static int64_t size(int64_t rows, int64_t columns) { return PLANES * floats_of_plane(rows, columns); }
  static Planes of(float* data, int64_t rows, int64_t columns) { return {data, floats_of_plane(rows, columns), rows}; }

  Panels operator[](int plane) const { return panels_of(data + plane * plane_floats, rows); }

  void store_all(int64_t row, int64_t column, const Floats (&values)[PLANES]) const {
    float* const to = (*this)[0].at(row, column);
    for (int plane = 0; plane < PLANES; ++plane) store(to + plane * plane_floats, values[plane]);
  }
  void load_all(int64_t row, int64_t column, Floats (&values)[PLANES]) const {
    const float* const from = (*this)[0].at(row, column);
    for (int plane = 0; plane < PLANES; ++plane) values[plane] = load(from + plane * plane_floats);
  }
};

// LANES channels (`count` of them) of EXTENT x EXTENT pixels of an image (rows, columns, channels), from (row, column)
// on; 0 outside of it.
template <int EXTENT>
void load_square(const float* image, int rows, int columns, int channels, int row, int column, int count,
                 Floats (&to)[EXTENT * EXTENT]) {
  const bool inside = row >= 0 && column >= 0 && row + EXTENT <= rows && column + EXTENT <= columns;
  if (inside && count == LANES) {
    const float* const first = image + (int64_t(row) * columns + column) * channels;
    for (int i = 0; i < EXTENT; ++i)
      for (int j = 0; j < EXTENT; ++j) to[i * EXTENT + j] = load(first + (int64_t(i) * columns + j) * channels);
    return;
  }
  for (int i = 0; i < EXTENT; ++i)
    for (int j = 0; j < EXTENT; ++j) {
      const bool pixel_inside = unsigned(row + i) < unsigned(rows) && unsigned(column + j) < unsigned(columns);
      const int64_t pixel = int64_t(row + i) * columns + column + j;
      to[i * EXTENT + j] = pixel_inside ? load_some(image + pixel * channels, count) : Floats{};
    }
}

// B^T d B of one tile of a group's channels, into row `row` of the planes.
inline void transform_input(const float* x, const ConvShape& conv, int group, const Pixel& tile, const Planes& to,
                            int64_t row) {
  const float* const image = x + x_offset(conv, tile.image, 0, 0, group * conv.group_c());
  for (int channel = 0; channel < conv.group_c(); channel += LANES) {
    Floats input[PLANES], transformed[PLANES];
    load_square<POINTS>(image + channel, conv.h, conv.w, conv.c, tile.row - conv.padding_h,
                        tile.column - conv.padding_w, std::min(LANES, conv.group_c() - channel), input);
    both_ways<TransformInput, POINTS, POINTS>(input, transformed);
    to.store_all(row, channel, transformed);
  }
}

}  // namespace minicnn::winograd
