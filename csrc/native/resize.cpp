// A picture resized, with the arithmetic, and so the bytes, of Pillow's Image.resize((q, p), BILINEAR, box).
//
//   t[h, q, c] = round(sum over w of u[q, w] x[h, w, c])
//   y[p, q, c] = round(sum over h of v[p, h] t[h, q, c])
//
// x     (H, W, C) uint8, C 1 or 3
// y     (P, Q, C) uint8
// u, v  an output pixel's weights of the input pixels whose centres are under it: a triangle about its own centre that
//       reaches a pixel to either side, of the output where the picture shrinks, which then does not alias, else of the
//       input. Multiples of 2^-22 that sum to 1 but for their roundings; it would take 8,224 units of those for a sum
//       of bytes to pass 255, and it fits into 31 bits.
//
// A row of t is made when a row of y first needs it and kept as long as one does. What is not under the box is not
// read. Every output of an axis is a sum of the same number of inputs, some weighted by 0, so that no branch depends on
// where a pixel lies.
// Bytes: those under the box once, y once. Multiplications: a row of t, T x 4 lanes a pixel (of C = 3); a byte of y, T;
// with T = ceil(2 * shrink), 3 for the pictures of 375 rows that are cut for training at a short side of 256.
//
// Source: Pillow, src/libImaging/Resample.c. Up to version 12 it goes along the rows first, too; from 13 on unless many
// more rows than columns are lost.
#include "native/resize.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "native/simd.h"

namespace minicnn {
namespace {

constexpr int FRACTION_BITS = 22;
constexpr int32_t HALF = 1 << (FRACTION_BITS - 1);

// The inputs [begin, end) whose centres are under an output pixel.
struct Footprint {
  double centre;
  int begin, end;
};

// The weighted sums of one axis: output i is made of `taps` inputs from first[i] on.
struct Axis {
  int taps = 0;
  std::vector<int> first;        // (outputs), ascending
  std::vector<int32_t> weights;  // (outputs, taps)

  // The interval [begin, end) of `inputs` pixels as `outputs` pixels.
  Axis(float begin, float end, int inputs, int outputs) : first(outputs) {
    const double scale = double(end - begin) / outputs;  // a difference in float32, as Pillow has it
    const double reach = std::max(scale, 1.0);
    std::vector<Footprint> under;
    for (int i = 0; i < outputs; ++i) {
      const double centre = begin + (i + 0.5) * scale;
      under.push_back({centre, std::max(int(centre - reach + 0.5), 0), std::min(int(centre + reach + 0.5), inputs)});
      taps = std::max(taps, under[i].end - under[i].begin);
    }
    weights.resize(size_t(outputs) * taps);
    for (int i = 0; i < outputs; ++i) {
      first[i] = std::min(under[i].begin, inputs - taps);
      set_weights(under[i], reach, &weights[size_t(i) * taps + under[i].begin - first[i]]);
    }
  }

  int outputs() const { return int(first.size()); }
  const int32_t* weights_of(int output) const { return &weights[size_t(output) * taps]; }

 private:
  static void set_weights(const Footprint& under, double reach, int32_t* weights) {
    const auto height = [&](int at) { return 1 - std::abs((at - under.centre + 0.5) * (1 / reach)); };
    double sum = 0;
    for (int at = under.begin; at < under.end; ++at) sum += std::max(height(at), 0.0);
    for (int at = under.begin; at < under.end; ++at)
      *weights++ = int32_t(0.5 + std::max(height(at), 0.0) / sum * (1 << FRACTION_BITS));
  }
};

// A pixel's channels as lanes: of three channels four, the last of which is the next pixel's first.
using FourLanes = int32_t __attribute__((vector_size(4 * sizeof(int32_t))));
template <int C>
using Pixel = std::conditional_t<C == 1, int32_t, FourLanes>;

// A row t (Q, C) from the part x (W, C) of one that is under the box. Behind the last pixel of either there is room for
// the fourth lane.
template <int C>
void resize_row(const int32_t* x, const Axis& columns, bool mirrored, int32_t* t) {
  for (int q = 0; q < columns.outputs(); ++q, t += C) {
    const int column = mirrored ? columns.outputs() - 1 - q : q;
    const int32_t* from = x + int64_t(columns.first[column] - columns.first[0]) * C;
    const int32_t* weights = columns.weights_of(column);
    Pixel<C> sums = Pixel<C>{} + HALF;
    for (int tap = 0; tap < columns.taps; ++tap, from += C) {
      Pixel<C> pixel;
      __builtin_memcpy(&pixel, from, sizeof pixel);
      sums += pixel * weights[tap];
    }
    sums >>= FRACTION_BITS;
    __builtin_memcpy(t, &sums, sizeof sums);
  }
}

// A row y (count) from `taps` rows (count), behind which there is room for a vector.
void sum_rows(const std::vector<const int32_t*>& rows, const int32_t* weights, int64_t count, uint8_t* y) {
  in_vectors(0, count, [&](int64_t i, auto lanes) {
    Ints sums = broadcast(HALF);
    for (size_t tap = 0; tap < rows.size(); ++tap) {
      Ints row;
      __builtin_memcpy(&row, rows[tap] + i, sizeof row);
      sums += row * weights[tap];
    }
    store_narrow(y + i, sums >> FRACTION_BITS, lanes);
  });
}

template <int C>
void resize(const uint8_t* x, int64_t w, const Axis& rows, const Axis& columns, bool mirrored, uint8_t* y) {
  const int64_t begin = columns.first.front(), width = columns.first.back() + columns.taps - begin;
  const int64_t count = int64_t(columns.outputs()) * C, stride = count + LANES;
  std::vector<int32_t> part(width * C + LANES), kept(rows.taps * stride);
  std::vector<const int32_t*> under(rows.taps);
  const auto row = [&](int h) { return &kept[h % rows.taps * stride]; };
  for (int p = 0, h = rows.first[0]; p < rows.outputs(); ++p, y += count) {
    const int first = rows.first[p];
    for (; h < first + rows.taps; ++h) {
      std::copy_n(x + (h * w + begin) * C, width * C, part.data());
      resize_row<C>(part.data(), columns, mirrored, row(h));
    }
    for (int tap = 0; tap < rows.taps; ++tap) under[tap] = row(first + tap);
    sum_rows(under, rows.weights_of(p), count, y);
  }
}

}  // namespace

void resize(const uint8_t* x, int h, int w, int c, float left, float top, float right, float bottom, int mirrored,
            uint8_t* y, int p, int q) {
  const Axis rows(top, bottom, h, p), columns(left, right, w, q);
  (c == 1 ? resize<1> : resize<3>)(x, w, rows, columns, mirrored, y);
}

}  // namespace minicnn
