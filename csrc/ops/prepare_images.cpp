// From the bytes of images to what a network sees, in one pass: crop, mirror, normalise, colour.
//
// y[n,p,q,c] = pixel * scale[c] + offset[n,c], where pixel is
// images[image_n, top_n + p, left_n + (mirrored_n ? Q - 1 - q : q), c], and 0, black, outside of the image.
//
// images (M, H, W, C) uint8; windows (N, 4) int64: image, in [0, M), top, left, mirrored (0 or 1); scale (C) float32;
// offset (N, C) float32; y (N, P, Q, C) float32.
//
// A thread owns rows of y. Bytes an element: 5 (1 read, 4 written), 2 FLOPs: bound by arithmetic on one core, since
// pixels of three channels fill no vectors.
#include "native/map.h"

namespace minicnn {
namespace {

// One row of y (Q, C) from one of an image (W, C), which is null where it lies outside.
void prepare_row(const uint8_t* image_row, int64_t left, bool mirrored, const float* scale, const float* offset,
                 float* y, int w, int c, int q) {
  for (int column = 0; column < q; ++column, y += c) {
    const int64_t from = left + (mirrored ? q - 1 - column : column);
    const bool inside = image_row != nullptr && from >= 0 && from < w;
    for (int channel = 0; channel < c; ++channel) {
      const float pixel = inside ? image_row[from * c + channel] : 0.0f;
      y[channel] = pixel * scale[channel] + offset[channel];
    }
  }
}

}  // namespace

void prepare_images(const uint8_t* images, const int64_t* windows, const float* scale, const float* offset, float* y,
                    int n, int h, int w, int c, int p, int q, Stream) {
  const int64_t row_size = int64_t(q) * c;
  parallel(int64_t(n) * p, ceil_div<int64_t>(GRAIN / 4, row_size + 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t number = row / p;
      const int64_t* window = windows + 4 * number;
      const int64_t from = window[1] + row % p;
      const uint8_t* image_row = from >= 0 && from < h ? images + (window[0] * h + from) * w * c : nullptr;
      prepare_row(image_row, window[2], window[3] != 0, scale, offset + number * c, y + row * row_size, w, c, q);
    }
  });
}

}  // namespace minicnn
