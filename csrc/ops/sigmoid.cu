// Logistic sigmoid.
//
// Forward:  y = 1 / (1 + exp(-x))
// Backward: dx (+)= dy * y * (1 - y)     from y alone, so that x need not be kept
//
// Arrays, grid and bound: device/map.h. The exponential is taken of -|x|, which cannot overflow: for negative x the
// formula is exp(x) / (1 + exp(x)), accurate down to the smallest y.
#include "device/map.h"

namespace minicnn {
namespace {

struct Sigmoid {
  __device__ float value(float x) const {
    const float decay = expf(-fabsf(x));
    return (x < 0.0f ? decay : 1.0f) / (1.0f + decay);
  }
  __device__ float gradient(float dy, float y) const { return dy * (y * (1.0f - y)); }
};

}  // namespace

void sigmoid_forward(const float* x, float* y, int64_t count, Stream stream) {
  map_forward("sigmoid_forward", Sigmoid{}, x, y, count, stream);
}

void sigmoid_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream stream) {
  map_backward("sigmoid_backward", Sigmoid{}, dy, y, dx, accumulate, count, stream);
}

}  // namespace minicnn
