// Logistic sigmoid.
//
// Forward:  y = 1 / (1 + exp(-x))
// Backward: dx (+)= dy * y * (1 - y)     from y alone, so that x need not be kept
//
// Arrays and threads: native/map.h. The exponential is taken of -|x|, which cannot overflow: for negative x the formula
// is exp(x) / (1 + exp(x)), accurate down to the smallest y.
#include "native/map.h"
#include "native/math.h"

namespace minicnn {
namespace {

struct Sigmoid {
  static Floats value(Floats x) {
    const Floats decay = exponential(-absolute(x));
    return (x < 0.0f ? decay : broadcast(1.0f)) / (1.0f + decay);
  }
  static Floats gradient(Floats dy, Floats y) { return dy * (y * (1.0f - y)); }
};

}  // namespace

void sigmoid_forward(const float* x, float* y, int64_t count, Stream) {
  map_forward(Sigmoid{}, x, y, count, GRAIN / 4);
}

void sigmoid_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream) {
  map_backward(Sigmoid{}, dy, y, dx, accumulate, count);
}

}  // namespace minicnn
