// Elementary functions on vectors. NaN stays NaN; infinities and arguments out of range give what IEEE arithmetic has
// for them.
//
// Errors in units of the last place, the largest over all floats (tests/test_native.py): exponential 1.5,
// logarithm 1.5, hyperbolic tangent 3. Source of the polynomials: Moshier, Cephes Mathematical Library (1989): expf,
// logf, tanhf.
#pragma once
#include <cmath>

#include "native/simd.h"

namespace minicnn {

// coefficients[0] * x^(n - 1) + ... + coefficients[n - 1].
template <int COUNT>
inline Floats polynomial(Floats x, const float (&coefficients)[COUNT]) {
  Floats value = broadcast(coefficients[0]);
  for (int i = 1; i < COUNT; ++i) value = value * x + coefficients[i];
  return value;
}

// 2^n for -126 <= n <= 127.
inline Floats power_of_two(Ints n) { return floats_of((n + 127) << 23); }

// e^x = 2^n * e^r with |r| <= ln(2) / 2. The power of two is multiplied in two steps: one would overflow before the
// result does, and underflow before the smallest numbers.
inline Floats exponential(Floats x) {
  constexpr float LOWEST = -104.0f, HIGHEST = 89.0f;  // beyond these it is 0 and infinity
  constexpr float ROUNDER = 0x1.8p23f;                // added to a small number, it leaves the nearest integer
  constexpr float LN2_HIGH = 0.693359375f, LN2_LOW = -2.12194440e-4f;
  const Floats bounded = x < LOWEST ? broadcast(LOWEST) : x > HIGHEST ? broadcast(HIGHEST) : x;
  const Floats rounded = bounded * 1.44269504088896341f + ROUNDER;
  const Ints n = bits_of(rounded) - bits_of(broadcast(ROUNDER));
  const Floats multiple = rounded - ROUNDER;
  const Floats r = (bounded - multiple * LN2_HIGH) - multiple * LN2_LOW;
  const Floats tail = polynomial(
      r, {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f});
  const Ints half = n >> 1;
  return (tail * r * r + r + 1.0f) * power_of_two(half) * power_of_two(n - half);
}

// ln(2^n * m) with m in [sqrt(1/2), sqrt(2)).
inline Floats logarithm(Floats x) {
  constexpr float SMALLEST_NORMAL = 0x1p-126f;
  const Floats normal = x < SMALLEST_NORMAL ? x * 0x1p23f : x;
  const Ints shift = x < SMALLEST_NORMAL ? broadcast(23) : Ints{};
  const Ints n = ((bits_of(normal) - bits_of(broadcast(0.707106781f))) >> 23) - shift;
  const Floats m = floats_of(bits_of(normal) - ((n + shift) << 23)) - 1.0f;
  const Floats exponent = __builtin_convertvector(n, Floats);
  const Floats square = m * m;
  const Floats tail =
      polynomial(m, {7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                     -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f});
  const Floats low = (m * tail - 0.5f) * square + exponent * -2.12194440e-4f;
  const Floats value = m + low + exponent * 0.693359375f;
  const Floats outside = x == 0.0f ? broadcast(-INFINITY) : x < 0.0f ? broadcast(NAN) : x;  // infinity, NaN: itself
  return ((x > 0.0f) & (x < INFINITY)) ? value : outside;
}

// Near zero a polynomial, beyond 1 - 2 / (e^2x + 1).
inline Floats hyperbolic_tangent(Floats x) {
  const Floats size = absolute(x), square = x * x;
  const Floats near_zero = polynomial(square, {-5.70498872745e-3f, 2.06390887954e-2f, -5.37397155531e-2f,
                                               1.33314422036e-1f, -3.33332819422e-1f}) *
                               square * x +
                           x;
  const Floats beyond = 1.0f - 2.0f / (exponential(2.0f * size) + 1.0f);
  return size < 0.625f ? near_zero : x < 0.0f ? -beyond : beyond;
}

}  // namespace minicnn
