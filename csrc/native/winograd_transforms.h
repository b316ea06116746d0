// Winograd's minimal filtering F(m x m, r x r) with m + r - 1 = 6: m * m outputs of an r x r filter from 6 x 6 inputs,
// with 36 multiplications where the sum over the taps takes (m r)^2: 144 for F(4x4, 3x3), 100 for F(2x2, 5x5).
//
//   y = A^T [ (G g G^T) * (B^T d B) ] A           * element by element; sums over channels stand in its place
//
// Both sizes evaluate polynomials at the same six points 0, 1, -1, 2, -2, infinity, so they share B:
//
//         | 4  0 -5  0  1  0 |         | 1  1  1  1  1  0 |          | 1/4     (1, p, .. p^(r-1)) at p =  0 |
//         | 0 -4 -4  1  1  0 |         | 0  1 -1  2 -2  0 |          | -1/6    (1, p, .. p^(r-1)) at p =  1 |
//   B^T = | 0  4 -4 -1  1  0 |   A^T = | 0  1  1  4  4  0 |      G = | -1/6    (1, p, .. p^(r-1)) at p = -1 |
//         | 0 -2 -1  2  1  0 |         | 0  1 -1  8 -8  1 |          | 1/24    (1, p, .. p^(r-1)) at p =  2 |
//         | 0  2 -1 -2  1  0 |        m = 2: the first two rows,     | 1/24    (1, p, .. p^(r-1)) at p = -2 |
//         | 0  4  0 -5  0  1 |        with (0 1 -1 2 -2 1) second    | (0, .. 0, 1)           at infinity   |
//
// Transposed, the same identity gives the gradient of the filter: dg = G^T [ (A dy A^T) * (B^T d B) ] G.
//
// Every function transforms one column or row of LANES channels side by side; `both_ways` applies it to columns, then
// to rows. Source: Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", sections 4 and 5.
#pragma once
#include "native/simd.h"

namespace minicnn::winograd {

constexpr int POINTS = 6;                // of one side
constexpr int PLANES = POINTS * POINTS;  // products of matrices in place of a convolution
constexpr int SUM_PLANE = POINTS + 1;    // at (1, 1): of A dy A^T it is the plain sum over the tile
constexpr int FINITE_POINTS = POINTS - 1;
constexpr float POINT[FINITE_POINTS] = {0, 1, -1, 2, -2};
constexpr float SCALE[FINITE_POINTS] = {1 / 4.0f, -1 / 6.0f, -1 / 6.0f, 1 / 24.0f, 1 / 24.0f};

constexpr int outputs_of(int taps) { return POINTS + 1 - taps; }

// B^T d: 6 -> 6.
struct TransformInput {
  static void apply(const Floats* d, int step, Floats* to, int to_step) {
    const Floats d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
    const Floats even_1 = d4 - 4 * d2, odd_1 = d3 - 4 * d1;
    const Floats even_2 = d4 - d2, odd_2 = 2 * (d3 - d1);
    to[0] = 4 * d0 - 5 * d2 + d4;
    to[to_step] = even_1 + odd_1;
    to[2 * to_step] = even_1 - odd_1;
    to[3 * to_step] = even_2 + odd_2;
    to[4 * to_step] = even_2 - odd_2;
    to[5 * to_step] = 4 * d1 - 5 * d3 + d5;
  }
};

// A^T m: 6 -> OUTPUTS.
template <int OUTPUTS>
struct TransformOutput {
  static void apply(const Floats* m, int step, Floats* to, int to_step) {
    const Floats sum_1 = m[step] + m[2 * step], difference_1 = m[step] - m[2 * step];
    const Floats sum_2 = m[3 * step] + m[4 * step], difference_2 = m[3 * step] - m[4 * step];
    to[0] = m[0] + sum_1 + sum_2;
    if constexpr (OUTPUTS == 2) {
      to[to_step] = difference_1 + 2 * difference_2 + m[5 * step];
    } else {
      to[to_step] = difference_1 + 2 * difference_2;
      to[2 * to_step] = sum_1 + 4 * sum_2;
      to[3 * to_step] = difference_1 + 8 * difference_2 + m[5 * step];
    }
  }
};

// A y: OUTPUTS -> 6.
template <int OUTPUTS>
struct TransformGradient {
  static void apply(const Floats* y, int step, Floats* to, int to_step) {
    const Floats y0 = y[0], y1 = y[step];
    const Floats y2 = OUTPUTS == 4 ? y[2 * step] : Floats{}, y3 = OUTPUTS == 4 ? y[3 * step] : Floats{};
    const Floats even_1 = y0 + y2, odd_1 = y1 + y3;
    const Floats even_2 = y0 + 4 * y2, odd_2 = 2 * y1 + 8 * y3;
    to[0] = y0;
    to[to_step] = even_1 + odd_1;
    to[2 * to_step] = even_1 - odd_1;
    to[3 * to_step] = even_2 + odd_2;
    to[4 * to_step] = even_2 - odd_2;
    to[5 * to_step] = OUTPUTS == 4 ? y3 : y1;
  }
};

// G g: TAPS -> 6.
template <int TAPS>
struct TransformFilter {
  static void apply(const Floats* g, int step, Floats* to, int to_step) {
    for (int point = 0; point < FINITE_POINTS; ++point) {
      Floats value = g[(TAPS - 1) * step];
      for (int tap = TAPS - 2; tap >= 0; --tap) value = value * POINT[point] + g[tap * step];
      to[point * to_step] = value * SCALE[point];
    }
    to[FINITE_POINTS * to_step] = g[(TAPS - 1) * step];
  }
};

// G^T m: 6 -> TAPS.
template <int TAPS>
struct TransformFilterGradient {
  static void apply(const Floats* m, int step, Floats* to, int to_step) {
    Floats power[FINITE_POINTS];
    for (int point = 0; point < FINITE_POINTS; ++point) power[point] = m[point * step] * SCALE[point];
    for (int tap = 0; tap < TAPS; ++tap) {
      Floats sum = tap == TAPS - 1 ? m[FINITE_POINTS * step] : Floats{};
      for (int point = 0; point < FINITE_POINTS; ++point) {
        sum += power[point];
        power[point] *= POINT[point];
      }
      to[tap * to_step] = sum;
    }
  }
};

// from (FROM, FROM) -> to (TO, TO), each element LANES channels.
template <class Transform, int FROM, int TO>
void both_ways(const Floats (&from)[FROM * FROM], Floats (&to)[TO * TO]) {
  Floats half[TO * FROM];
#pragma GCC unroll 6
  for (int column = 0; column < FROM; ++column) Transform::apply(from + column, FROM, half + column, FROM);
#pragma GCC unroll 6
  for (int row = 0; row < TO; ++row) Transform::apply(half + row * FROM, 1, to + row * TO, 1);
}

}  // namespace minicnn::winograd
