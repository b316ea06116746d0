// What both passes of winograd.h share: the tiles of a batch, and their transformed inputs as matrices.
//
// Tiles that do not divide an image compute pixels that nobody wants: 4 x 4 tiles of 13 x 13 pixels, 256 for 169. So
// images lie side by side on a sheet, up to MOST_IMAGES along either axis, so far apart that no window reaches from one
// into the next, and tiles cover the sheet: four images of 13 x 13, one column of zeros between them, take 7 x 7 tiles
// where apart they take 8 x 8.
#pragma once
#include <array>

#include "native/panels.h"
#include "native/winograd_transforms.h"
#include "shapes.h"

namespace minicnn::winograd {

// Images along one axis of a sheet, their first pixels `pitch` apart.
struct Strip {
  int images, pitch, tiles;

  Strip(int images, const Axis& axis, int outputs)
      : images(images),
        pitch(std::max(axis.inputs + axis.padding, axis.outputs)),
        tiles(ceil_div((images - 1) * pitch + axis.outputs, outputs)) {}

  struct Place {
    int image, pixel;  // the pixel may be none of the image's
  };
  Place at(int position) const {
    int image = 0;
    for (; image + 1 < images && position >= pitch; ++image) position -= pitch;
    return {image, position};
  }
};

// Neighbours on a sheet: where the channels of each begin in an array of images, or OUTSIDE.
template <int EXTENT>
struct Square {
  static constexpr int64_t OUTSIDE = -1;

  std::array<int64_t, EXTENT * EXTENT> offsets;
  bool is_whole;  // none is outside

  // LANES channels of each pixel, `count` of them; 0 outside.
  void load_all(const float* channel, int count, Floats (&to)[EXTENT * EXTENT]) const {
    if (is_whole && count == LANES) {
      for (int i = 0; i < EXTENT * EXTENT; ++i) to[i] = load(channel + offsets[i]);
      return;
    }
    for (int i = 0; i < EXTENT * EXTENT; ++i)
      to[i] = offsets[i] == OUTSIDE ? Floats{} : load_some(channel + offsets[i], count);
  }
};

// The tiles of `outputs` x `outputs` pixels that cover the sheets of a batch, some of them over a border.
struct TileGrid {
  static constexpr int MOST_IMAGES = 4;

  Strip down, across;
  int images, outputs;
  int64_t count;

  // Of all sheets those that take fewest tiles.
  TileGrid(const ConvShape& conv, int outputs) : TileGrid(conv, outputs, 1, 1) {
    for (int rows = 1; rows <= MOST_IMAGES; ++rows)
      for (int columns = 1; columns <= MOST_IMAGES; ++columns) {
        const TileGrid other(conv, outputs, rows, columns);
        if (other.count < count) *this = other;
      }
  }

  // EXTENT x EXTENT pixels of images (height, width, channels), from `before` rows and columns before the tile on.
  template <int EXTENT>
  Square<EXTENT> square(int64_t tile, const Pixel& before, int height, int width, int channels) const {
    const int64_t line = tile / across.tiles, sheet = line / down.tiles;
    const int row = int(line % down.tiles) * outputs - before.row;
    const int column = int(tile % across.tiles) * outputs - before.column;
    Square<EXTENT> found;
    found.is_whole = true;
    for (int i = 0; i < EXTENT; ++i) {
      const Strip::Place y = down.at(row + i);
      for (int j = 0; j < EXTENT; ++j) {
        const Strip::Place x = across.at(column + j);
        const int64_t image = (sheet * down.images + y.image) * across.images + x.image;
        const bool is_inside = unsigned(y.pixel) < unsigned(height) && unsigned(x.pixel) < unsigned(width);
        const int64_t offset = ((image * height + y.pixel) * width + x.pixel) * channels;
        found.offsets[i * EXTENT + j] = is_inside && image < images ? offset : Square<EXTENT>::OUTSIDE;
        found.is_whole &= found.offsets[i * EXTENT + j] != Square<EXTENT>::OUTSIDE;
      }
    }
    return found;
  }

 private:
  TileGrid(const ConvShape& conv, int outputs, int rows, int columns)
      : down(rows, conv.rows(), outputs),
        across(columns, conv.columns(), outputs),
        images(conv.n),
        outputs(outputs),
        count(ceil_div<int64_t>(conv.n, rows * columns) * down.tiles * across.tiles) {}
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

// B^T d B of one tile of a group's channels, into row `row` of the planes.
inline void transform_input(const float* x, const ConvShape& conv, int group, const TileGrid& grid, int64_t tile,
                            const Planes& to, int64_t row) {
  const auto pixels = grid.square<POINTS>(tile, {0, conv.padding_h, conv.padding_w}, conv.h, conv.w, conv.c);
  for (int channel = 0; channel < conv.group_c(); channel += LANES) {
    Floats input[PLANES], transformed[PLANES];
    pixels.load_all(x + group * conv.group_c() + channel, std::min(LANES, conv.group_c() - channel), input);
    both_ways<TransformInput, POINTS, POINTS>(input, transformed);
    to.store_all(row, channel, transformed);
  }
}

}  // namespace minicnn::winograd
