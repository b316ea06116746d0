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
// Rows of t are made when a row of y first needs them, as many at a time as pixels fill a vector, and kept as long as a
// row of y needs them. Every output of an axis is a sum of the same number of inputs, some weighted by 0, so that no
// branch depends on where a pixel lies.
// Bytes: those under the box once, y once. Multiplications: of a pixel of t, T in each of 4 lanes (C = 3); of a byte of
// y, T; with T = ceil(2 * shrink), 3 for the pictures of 375 rows that are cut for training at a short side of 256.
//
// Source: Pillow, src/libImaging/Resample.c. Up to version 12 it goes along the rows first, too; from 13 on unless many
// more rows than columns are lost.
#include "native/resize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "native/simd.h"

namespace minicnn {
namespace {

constexpr int FRACTION_BITS = 22;
constexpr int32_t HALF = 1 << (FRACTION_BITS - 1);

inline Ints load(const int32_t* from) {
  Ints values;
  __builtin_memcpy(&values, from, sizeof values);
  return values;
}

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

// The lanes of a pixel, of which its channels are the first, and the rows whose pixels fill a vector.
template <int C>
constexpr int PIXEL_LANES = C == 1 ? 1 : 4;
template <int C>
constexpr int ROWS = LANES / PIXEL_LANES<C>;

// Of a part (W, ROWS, PIXEL_LANES), the row number `row`, from x (W, C).
template <int C>
void set_row(const uint8_t* x, int64_t w, int row, int32_t* part) {
  part += row * PIXEL_LANES<C>;
  for (int64_t i = 0; i < w; ++i, x += C, part += LANES)
    for (int c = 0; c < C; ++c) part[c] = x[c];
}

// ROWS rows t (Q, C) from the part (W, ROWS, PIXEL_LANES) of as many that is under the box. Behind the last pixel of
// each there is room for the lanes that are no channels.
template <int C>
void resize_rows(const int32_t* part, const Axis& columns, bool mirrored, int32_t* const* t) {
  for (int q = 0; q < columns.outputs(); ++q) {
    const int column = mirrored ? columns.outputs() - 1 - q : q;
    const int32_t* from = part + int64_t(columns.first[column] - columns.first[0]) * LANES;
    const int32_t* weights = columns.weights_of(column);
    Ints sums = broadcast(HALF);
    for (int tap = 0; tap < columns.taps; ++tap) sums += load(from + tap * LANES) * weights[tap];
    sums >>= FRACTION_BITS;
    int32_t pixels[LANES];
    __builtin_memcpy(pixels, &sums, sizeof sums);
    for (int row = 0; row < ROWS<C>; ++row)
      __builtin_memcpy(t[row] + q * C, pixels + row * PIXEL_LANES<C>, PIXEL_LANES<C> * sizeof(int32_t));
  }
}

// A row y (count) from `taps` rows (count), behind which there is room for a vector.
void sum_rows(const std::vector<const int32_t*>& rows, const int32_t* weights, int64_t count, uint8_t* y) {
  in_vectors(0, count, [&](int64_t i, auto lanes) {
    Ints sums = broadcast(HALF);
    for (size_t tap = 0; tap < rows.size(); ++tap) sums += load(rows[tap] + i) * weights[tap];
    store_narrow(y + i, sums >> FRACTION_BITS, lanes);
  });
}

template <int C>
void resize(const uint8_t* x, int h, int64_t w, const Axis& rows, const Axis& columns, bool mirrored, uint8_t* y) {
  const int64_t begin = columns.first.front(), width = columns.first.back() + columns.taps - begin;
  const int64_t count = int64_t(columns.outputs()) * C, stride = count + LANES, places = rows.taps + ROWS<C> - 1;
  std::vector<int32_t> part(width * LANES), kept(places * stride);
  std::vector<const int32_t*> under(rows.taps);
  const auto place = [&](int row) { return &kept[row % places * stride]; };
  for (int p = 0, next = rows.first[0]; p < rows.outputs(); ++p, y += count) {
    for (; next < rows.first[p] + rows.taps; next += ROWS<C>) {
      int32_t* t[ROWS<C>];
      for (int i = 0; i < ROWS<C>; ++i) {
        t[i] = place(next + i);
        const int row = std::min(next + i, h - 1);  // behind the last one: a row that nobody asks for
        set_row<C>(x + (row * w + begin) * C, width, i, part.data());
      }
      resize_rows<C>(part.data(), columns, mirrored, t);
    }
    for (int tap = 0; tap < rows.taps; ++tap) under[tap] = place(rows.first[p] + tap);
    sum_rows(under, rows.weights_of(p), count, y);
  }
}

}  // namespace

void resize(const uint8_t* x, int h, int w, int c, float left, float top, float right, float bottom, int mirrored,
            uint8_t* y, int p, int q) {
  const Axis rows(top, bottom, h, p), columns(left, right, w, q);
  (c == 1 ? resize<1> : resize<3>)(x, h, w, rows, columns, mirrored, y);
}

}  // namespace minicnn
