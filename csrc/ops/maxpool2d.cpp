// Max pooling.
//
// Forward:  y[n,p,q,c] = max over r, s of x[n, p*stride_h + r - padding_h, q*stride_w + s - padding_w, c] inside the
// image
//           index[n,p,q,c] = r*S + s of the winner: the first of equals, the last NaN
//           A window wholly in the padding: y = -inf, its index is never read.
//           Where a ReLU made x, index = NOBODY where y <= 0: that ReLU's gradient passes nothing there
// Backward: dx[n,h,w,c] (+)= sum of dy[n,p,q,c] over the windows that contain (h, w) and whose index says (h, w)
//
// x, dx (N, H, W, C) float32; y, dy (N, P, Q, C) float32; index (N, P, Q, C) uint8, or uint16 where R*S > 255.
//
// A thread owns rows of output pixels; backward rows of input pixels, for which it gathers: one order of additions
// whatever the threads. Where no two windows meet, backward owns windows, and dy and its index are read once. A vector
// of channels at a time. Bytes: x and dx once, y and dy once, the index once;
// neighbouring windows meet in the cache. A comparison or an addition for 4 bytes read: bound by memory bandwidth. The
// mask of the ReLU before it costs no byte: a winner is above 0 where its maximum is, and the index has a number left
// to say so.
//
// Assumes R*S <= 65535.
// Source: gathering instead of scattering overlapping windows, cuda-convnet (Krizhevsky 2012); the index of one byte,
// Chen et al. 2016, "Training deep nets with sublinear memory cost" and MXNet.
#include <cmath>

#include "native/map.h"
#include "ops/taps.h"

namespace minicnn {
namespace {

// The place of no tap.
template <class Index>
constexpr Index NOBODY = Index(-1);

// One output pixel: x is its image.
template <class Index>
void pixel_forward(const float* x, Activation of_x, float* y, Index* index, const PoolShape& shape, int h, int w,
                   const Range& rows, const Range& columns) {
  in_vectors(0, shape.c, [&](int64_t c, auto lanes) {
    Floats largest = broadcast(-INFINITY);
    Ints place = broadcast(rows.begin * shape.s + columns.begin);
    for (int r = rows.begin; r < rows.end; ++r)
      for (int s = columns.begin; s < columns.end; ++s) {
        const Floats value = load_some(x + (int64_t(h + r) * shape.w + w + s) * shape.c + c, lanes);
        const Ints wins = (value > largest) | (value != value);
        largest = wins ? value : largest;
        place = wins ? broadcast(r * shape.s + s) : place;
      }
    if (of_x == Activation::relu) place = largest <= 0.0f ? broadcast(int(NOBODY<Index>)) : place;
    store_some(y + c, largest, lanes);
    store_narrow(index + c, place, lanes);
  });
}

template <class Index>
void forward(const float* x, Activation of_x, float* y, Index* index, const PoolShape& shape) {
  const Axis row_axis = shape.rows(), column_axis = shape.columns();
  const int64_t row_size = int64_t(shape.q) * shape.c;
  parallel(int64_t(shape.n) * shape.p, ceil_div<int64_t>(GRAIN / 4, row_size), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int p = int(row % shape.p);
      const float* image = x + row / shape.p * shape.h * shape.w * shape.c;
      for (int q = 0; q < shape.q; ++q) {
        const int64_t at = row * row_size + int64_t(q) * shape.c;
        pixel_forward(image, of_x, y + at, index + at, shape, row_axis.input_at(p, 0), column_axis.input_at(q, 0),
                      taps_inside(row_axis, p), taps_inside(column_axis, q));
      }
    }
  });
}

// One input pixel (h, w): dy and index are its image's.
template <class Index>
void pixel_backward(const float* dy, const Index* index, float* dx, Accumulate accumulate, const PoolShape& shape,
                    int h, int w, const Range& rows, const Range& columns) {
  const int first_r = h - shape.rows().input_at(0, 0), first_s = w - shape.columns().input_at(0, 0);
  in_vectors(0, shape.c, [&](int64_t c, auto lanes) {
    Floats sum{};
    for (int p = rows.begin; p < rows.end; ++p)
      for (int q = columns.begin; q < columns.end; ++q) {
        const int place = (first_r - p * shape.stride_h) * shape.s + first_s - q * shape.stride_w;
        const int64_t at = (int64_t(p) * shape.q + q) * shape.c + c;
        sum += widen(index + at, lanes) == place ? load_some(dy + at, lanes) : Floats{};
      }
    write_some(dx + c, sum, accumulate, lanes);
  });
}

template <class Index>
void backward(const float* dy, const Index* index, float* dx, Accumulate accumulate, const PoolShape& shape) {
  const Axis row_axis = shape.rows(), column_axis = shape.columns();
  const int64_t row_size = int64_t(shape.w) * shape.c, image_size = int64_t(shape.p) * shape.q * shape.c;
  parallel(int64_t(shape.n) * shape.h, ceil_div<int64_t>(GRAIN / 4, row_size), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int h = int(row % shape.h);
      const int64_t image = row / shape.h * image_size;
      const Range rows = windows_over(row_axis, h);
      for (int w = 0; w < shape.w; ++w)
        pixel_backward(dy + image, index + image, dx + row * row_size + int64_t(w) * shape.c, accumulate, shape, h, w,
                       rows, windows_over(column_axis, w));
    }
  });
}

// One output pixel: dx is its window's corner.
template <class Index>
void spread_pixel(const float* dy, const Index* index, float* dx, Accumulate accumulate, const PoolShape& shape) {
  in_vectors(0, shape.c, [&](int64_t c, auto lanes) {
    const Floats gradient = load_some(dy + c, lanes);
    const Ints winner = widen(index + c, lanes);
    for (int r = 0; r < shape.r; ++r)
      for (int s = 0; s < shape.s; ++s)
        write_some(dx + (int64_t(r) * shape.w + s) * shape.c + c, winner == r * shape.s + s ? gradient : Floats{},
                   accumulate, lanes);
  });
}

// Whether no two windows meet, nor the padding: then each element of dx has one writer.
bool windows_are_apart(const PoolShape& shape) {
  return shape.r <= shape.stride_h && shape.s <= shape.stride_w && shape.padding_h == 0 && shape.padding_w == 0 &&
         (shape.p - 1) * shape.stride_h + shape.r <= shape.h && (shape.q - 1) * shape.stride_w + shape.s <= shape.w;
}

// dx of windows that are apart: a thread owns rows of output pixels, with the input rows up to the next one's.
template <class Index>
void backward_apart(const float* dy, const Index* index, float* dx, Accumulate accumulate, const PoolShape& shape) {
  const int64_t row_size = int64_t(shape.w) * shape.c, out_size = int64_t(shape.q) * shape.c;
  const bool gaps = shape.p * shape.r != shape.h || shape.q * shape.s != shape.w;
  parallel(int64_t(shape.n) * shape.p, ceil_div<int64_t>(GRAIN / 4, shape.stride_h * row_size),
           [&](int64_t begin, int64_t end) {
             for (int64_t row = begin; row < end; ++row) {
               const int64_t p = row % shape.p, first_h = row / shape.p * shape.h + p * shape.stride_h;
               const int64_t rows = p + 1 == shape.p ? shape.h - p * shape.stride_h : shape.stride_h;
               float* const first = dx + first_h * row_size;
               if (gaps && accumulate == Accumulate::overwrite) std::fill_n(first, rows * row_size, 0.0f);
               for (int q = 0; q < shape.q; ++q)
                 spread_pixel(dy + row * out_size + int64_t(q) * shape.c, index + row * out_size + int64_t(q) * shape.c,
                              first + int64_t(q) * shape.stride_w * shape.c, accumulate, shape);
             }
           });
}

}  // namespace

void maxpool2d_forward(const float* x, Activation of_x, float* y, uint8_t* index, uint16_t* wide_index, PoolShape shape,
                       Stream) {
  if (int64_t(shape.n) * shape.p * shape.q * shape.c == 0) return;
  wide_index ? forward(x, of_x, y, wide_index, shape) : forward(x, of_x, y, index, shape);
}

void maxpool2d_backward(const float* dy, const uint8_t* index, const uint16_t* wide_index, float* dx,
                        Accumulate accumulate, PoolShape shape, Stream) {
  if (int64_t(shape.n) * shape.h * shape.w * shape.c == 0) return;
  const auto run = [&](const auto* places) {
    windows_are_apart(shape) ? backward_apart(dy, places, dx, accumulate, shape)
                             : backward(dy, places, dx, accumulate, shape);
  };
  wide_index != nullptr ? run(wide_index) : run(index);
}

}  // namespace minicnn
