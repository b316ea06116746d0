// Elementary functions: exponential, natural logarithm, square root, powers.
//
//   exp   y = e^x           dx (+)= dy * y                       saved: y
//   log   y = ln x          dx (+)= dy / x                       saved: x
//   sqrt  y = x^(1/2)       dx (+)= dy / (2 y)                   saved: y
//   pow   y = x^exponent    dx (+)= dy * exponent * x^(exponent - 1), and 0 for exponent 0; saved: x
//
// Arrays and threads: native/map.h. Outside of a function's domain the results are the NaN and infinities of IEEE
// arithmetic, as in NumPy and PyTorch. Powers are the C library's, one element at a time: bound by arithmetic.
#include <cmath>

#include "native/map.h"
#include "native/math.h"

namespace minicnn {
namespace {

struct Exp {
  static Floats value(Floats x) { return exponential(x); }
  static Floats gradient(Floats dy, Floats y) { return dy * y; }
};

struct Log {
  static Floats value(Floats x) { return logarithm(x); }
  static Floats gradient(Floats dy, Floats x) { return dy / x; }
};

struct Sqrt {
  static Floats value(Floats x) { return square_root(x); }
  static Floats gradient(Floats dy, Floats y) { return dy / (2.0f * y); }
};

Floats power(Floats x, float exponent) {
  for (int i = 0; i < LANES; ++i) x[i] = std::pow(x[i], exponent);
  return x;
}

struct Pow {
  float exponent;
  Floats value(Floats x) const { return power(x, exponent); }
  Floats gradient(Floats dy, Floats x) const {
    return exponent == 0.0f ? Floats{} : dy * (exponent * power(x, exponent - 1.0f));
  }
};

constexpr int64_t POWERS = 512;  // of the C library, what a thread should have at least

}  // namespace

void exp_forward(const float* x, float* y, int64_t count, Stream) { map_forward(Exp{}, x, y, count, GRAIN / 4); }

void exp_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream) {
  map_backward(Exp{}, dy, y, dx, accumulate, count);
}

void log_forward(const float* x, float* y, int64_t count, Stream) { map_forward(Log{}, x, y, count, GRAIN / 4); }

void log_backward(const float* dy, const float* x, float* dx, Accumulate accumulate, int64_t count, Stream) {
  map_backward(Log{}, dy, x, dx, accumulate, count);
}

void sqrt_forward(const float* x, float* y, int64_t count, Stream) { map_forward(Sqrt{}, x, y, count); }

void sqrt_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream) {
  map_backward(Sqrt{}, dy, y, dx, accumulate, count);
}

void pow_forward(const float* x, float* y, float exponent, int64_t count, Stream) {
  map_forward(Pow{exponent}, x, y, count, POWERS);
}

void pow_backward(const float* dy, const float* x, float* dx, Accumulate accumulate, float exponent, int64_t count,
                  Stream) {
  map_backward(Pow{exponent}, dy, x, dx, accumulate, count, POWERS);
}

}  // namespace minicnn
