// The two average poolings as one pair of functions; they differ in their windows (ops/average_windows.h).
//
// Forward:  y[n,p,q,c] = sum of x[n,h,w,c] over h in rows.inputs_of(p), w in columns.inputs_of(q)
//                        / (rows.count(p) * columns.count(q))
// Backward: dx[n,h,w,c] (+)= sum of dy[n,p,q,c] / (rows.count(p) * columns.count(q))
//                            over p in rows.outputs_over(h), q in columns.outputs_over(w), 0 where mask[n,h,w,c] <= 0
//           Where all windows count alike, the sum is divided, not each of its terms.
//
// x, dx (N, H, W, C) float32, mask the same or null; y, dy (N, P, Q, C) float32.
//
// A thread owns rows of output pixels; backward rows of input pixels, for which it gathers: one order of additions
// whatever the threads. A vector of channels at a time.
// Bytes: x or dx once, y or dy once, the mask once; neighbouring windows meet in the cache. An addition for 4 bytes
// read: bound by memory bandwidth. The division is one: a product with the reciprocal, fused with the sum, would not
// cancel what is equal.
#pragma once
#include "native/map.h"
#include "ops/average_windows.h"

namespace minicnn {

// body(image, row, column, at) for the pixels (n, rows, columns) of an array, `at` their number.
template <class Body>
void each_pixel(int64_t images, int rows, int columns, int channels, const Body& body) {
  const int64_t grain = ceil_div<int64_t>(GRAIN / 4, int64_t(columns) * channels + 1);
  parallel(images * rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int column = 0; column < columns; ++column)
        body(row / rows, int(row % rows), column, row * columns + column);
  });
}

template <class Windows>
void average_forward(const float* x, float* y, const Windows& rows, const Windows& columns, int images, int channels) {
  each_pixel(images, rows.outputs, columns.outputs, channels, [&](int64_t image, int p, int q, int64_t pixel) {
    const Range hs = rows.inputs_of(p), ws = columns.inputs_of(q);
    const float count = float(rows.count(p)) * float(columns.count(q));
    const float* from = x + image * rows.inputs * columns.inputs * channels;
    in_vectors(0, channels, [&](int64_t c, auto lanes) {
      Floats sum{};
      for (int h = hs.begin; h < hs.end; ++h)
        for (int w = ws.begin; w < ws.end; ++w)
          sum += load_some(from + (int64_t(h) * columns.inputs + w) * channels + c, lanes);
      store_some(y + pixel * channels + c, sum / count, lanes);
    });
  });
}

// Whether every window along the axis divides by the same number.
template <class Windows>
bool count_alike(const Windows& windows) {
  for (int output = 1; output < windows.outputs; ++output)
    if (windows.count(output) != windows.count(0)) return false;
  return true;
}

template <class Windows>
void average_backward(const float* dy, const float* mask, float* dx, Accumulate accumulate, const Windows& rows,
                      const Windows& columns, int images, int channels) {
  const bool alike = count_alike(rows) && count_alike(columns);
  const float count_of_all = alike ? float(rows.count(0)) * float(columns.count(0)) : 1.0f;
  each_pixel(images, rows.inputs, columns.inputs, channels, [&](int64_t image, int h, int w, int64_t pixel) {
    const Range ps = rows.outputs_over(h), qs = columns.outputs_over(w);
    const float* from = dy + image * rows.outputs * columns.outputs * channels;
    in_vectors(0, channels, [&](int64_t c, auto lanes) {
      Floats sum{};
      for (int p = ps.begin; p < ps.end; ++p)
        for (int q = qs.begin; q < qs.end; ++q) {
          const Floats gradient = load_some(from + (int64_t(p) * columns.outputs + q) * channels + c, lanes);
          sum += alike ? gradient : gradient / (float(rows.count(p)) * float(columns.count(q)));
        }
      if (alike) sum /= count_of_all;
      const int64_t at = pixel * channels + c;
      write_some(dx + at, sum, mask == nullptr ? nullptr : mask + at, accumulate, lanes);
    });
  });
}

}  // namespace minicnn
