// Elementary functions: exponential, natural logarithm, square root, powers.
//
//   exp   y = e^x           dx (+)= dy * y                       saved: y
//   log   y = ln x          dx (+)= dy / x                       saved: x
//   sqrt  y = x^(1/2)       dx (+)= dy / (2 y)                   saved: y
//   pow   y = x^exponent    dx (+)= dy * exponent * x^(exponent - 1), and 0 for exponent 0; saved: x
//
// Arrays, grid and bound: device/map.h. Outside of a function's domain the results are the NaN and infinities of IEEE
// arithmetic, as in NumPy and PyTorch.
#include "device/map.h"

namespace minicnn {
namespace {

struct Exp {
  __device__ float value(float x) const { return expf(x); }
  __device__ float gradient(float dy, float y) const { return dy * y; }
};

struct Log {
  __device__ float value(float x) const { return logf(x); }
  __device__ float gradient(float dy, float x) const { return dy / x; }
};

struct Sqrt {
  __device__ float value(float x) const { return sqrtf(x); }
  __device__ float gradient(float dy, float y) const { return dy / (2.0f * y); }
};

struct Pow {
  float exponent;
  __device__ float value(float x) const { return powf(x, exponent); }
  __device__ float gradient(float dy, float x) const {
    return exponent == 0.0f ? 0.0f : dy * (exponent * powf(x, exponent - 1.0f));
  }
};

}  // namespace

void exp_forward(const float* x, float* y, int64_t count, Stream stream) {
  map_forward("exp_forward", Exp{}, x, y, count, stream);
}

void exp_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream stream) {
  map_backward("exp_backward", Exp{}, dy, y, dx, accumulate, count, stream);
}

void log_forward(const float* x, float* y, int64_t count, Stream stream) {
  map_forward("log_forward", Log{}, x, y, count, stream);
}

void log_backward(const float* dy, const float* x, float* dx, Accumulate accumulate, int64_t count, Stream stream) {
  map_backward("log_backward", Log{}, dy, x, dx, accumulate, count, stream);
}

void sqrt_forward(const float* x, float* y, int64_t count, Stream stream) {
  map_forward("sqrt_forward", Sqrt{}, x, y, count, stream);
}

void sqrt_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream stream) {
  map_backward("sqrt_backward", Sqrt{}, dy, y, dx, accumulate, count, stream);
}

void pow_forward(const float* x, float* y, float exponent, int64_t count, Stream stream) {
  map_forward("pow_forward", Pow{exponent}, x, y, count, stream);
}

void pow_backward(const float* dy, const float* x, float* dx, Accumulate accumulate, float exponent, int64_t count,
                  Stream stream) {
  map_backward("pow_backward", Pow{exponent}, dy, x, dx, accumulate, count, stream);
}

}  // namespace minicnn
