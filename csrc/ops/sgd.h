// What a step of SGD makes of one element: of the step over the arena, and of the one in linear_sgd.cu.
#pragma once
#include "device/cuda.h"
#include "kernels.h"

namespace minicnn {

struct SgdStep {
  float lr, grad_scale, momentum, weight_decay;
};

// v is the velocity of w; the formulas are those of sgd.cu.
__device__ inline void sgd_update(float& w, float& v, float grad, const SgdStep& step, SgdRule rule) {
  const float g = step.grad_scale * grad + step.weight_decay * w;
  if (rule == SgdRule::paper) {
    v = step.momentum * v - step.lr * g;
    w += v;
    return;
  }
  v = step.momentum * v + g;
  w -= step.lr * (rule == SgdRule::nesterov ? g + step.momentum * v : v);
}

}  // namespace minicnn
