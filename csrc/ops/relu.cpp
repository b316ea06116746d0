// ReLU.
//
// Forward:  y = x < 0 ? 0 : x              (NaN stays NaN)
// Backward: dx (+)= y <= 0 ? 0 : dy        (a NaN of y lets the gradient pass, as PyTorch does)
//
// Arrays, threads and bound: native/map.h.
#include "native/map.h"

namespace minicnn {
namespace {

struct Relu {
  static Floats value(Floats x) { return relu(x); }
  static Floats gradient(Floats dy, Floats y) { return relu_gradient(dy, y); }
};

}  // namespace

void relu_forward(const float* x, float* y, int64_t count, Stream) { map_forward(Relu{}, x, y, count); }

void relu_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream) {
  map_backward(Relu{}, dy, y, dx, accumulate, count);
}

}  // namespace minicnn
