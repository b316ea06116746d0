// Hyperbolic tangent.
//
// Forward:  y = tanh(x)
// Backward: dx (+)= dy * (1 - y^2)     from y alone, so that x need not be kept
//
// Arrays and threads: native/map.h. 1 - y^2 is computed as (1 - y)(1 + y): near |y| = 1 the square would lose the bits
// that are left. Forward about 30 FLOPs and a division an element: bound by arithmetic on one core, by memory on many.
#include "native/map.h"
#include "native/math.h"

namespace minicnn {
namespace {

struct Tanh {
  static Floats value(Floats x) { return hyperbolic_tangent(x); }
  static Floats gradient(Floats dy, Floats y) { return dy * ((1.0f - y) * (1.0f + y)); }
};

}  // namespace

void tanh_forward(const float* x, float* y, int64_t count, Stream) { map_forward(Tanh{}, x, y, count, GRAIN / 4); }

void tanh_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream) {
  map_backward(Tanh{}, dy, y, dx, accumulate, count);
}

}  // namespace minicnn
