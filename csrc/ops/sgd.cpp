// One step of stochastic gradient descent with momentum over a flat arena.
//
// g = scale * grad + (weight_decay * decay_multiplier) * w, lr = hyper[0] * lr_multiplier, scale = hyper[1]
//   torch:    v <- momentum * v + g,      w <- w - lr * v
//   nesterov: v <- momentum * v + g,      w <- w - lr * (g + momentum * v)
//   paper:    v <- momentum * v - lr * g, w <- w + v
//
// weights, grads, velocity (count) float32; hyper (2) float32;
// bounds (segments, 2) int64: start and stop of each segment, ascending, starts divisible by 64;
// multipliers (segments, 2) float32: of lr, of weight_decay.
// Elements outside of all segments, and those whose lr_multiplier is 0, stay as they are, velocity too.
//
// A thread owns a run of the arena, and in it the parts of the segments that it meets.
// Bytes an element: 20 (read w, g, v; write w, v, in lines that are there already); 6 FLOPs: bound by memory bandwidth.
//
// Sources: Krizhevsky et al. 2012, section 5; Sutskever et al. 2013, "On the importance of initialization and momentum
// in deep learning" (Nesterov); PyTorch's SGD for where the learning rate stands.
#include "native/map.h"

namespace minicnn {
namespace {

struct Step {
  float lr, grad_scale, momentum, weight_decay;
};

// One vector; v is its velocity.
template <SgdRule RULE>
void update(Floats& w, Floats& v, Floats grad, const Step& step) {
  const Floats g = step.grad_scale * grad + step.weight_decay * w;
  if constexpr (RULE == SgdRule::paper) {
    v = step.momentum * v - step.lr * g;
    w += v;
  } else {
    v = step.momentum * v + g;
    w -= step.lr * (RULE == SgdRule::nesterov ? g + step.momentum * v : v);
  }
}

template <SgdRule RULE>
void update_range(float* weights, const float* grads, float* velocity, int64_t begin, int64_t end, const Step& step) {
  in_vectors(begin, end, [&](int64_t i, auto lanes) {
    Floats w = load_some(weights + i, lanes), v = load_some(velocity + i, lanes);
    update<RULE>(w, v, load_some(grads + i, lanes), step);
    store_some(velocity + i, v, lanes);
    store_some(weights + i, w, lanes);
  });
}

}  // namespace

void sgd_step(float* weights, const float* grads, float* velocity, const int64_t* bounds, const float* multipliers,
              int segments, const float* hyper, float momentum, float weight_decay, SgdRule rule, int64_t count,
              Stream) {
  const auto update_part = rule == SgdRule::torch      ? update_range<SgdRule::torch>
                           : rule == SgdRule::nesterov ? update_range<SgdRule::nesterov>
                                                       : update_range<SgdRule::paper>;
  parallel(count, GRAIN, LINE, [&](int64_t begin, int64_t end) {
    for (int segment = 0; segment < segments; ++segment) {
      const int64_t start = std::max(begin, bounds[2 * segment]), stop = std::min(end, bounds[2 * segment + 1]);
      const float lr_multiplier = multipliers[2 * segment], decay_multiplier = multipliers[2 * segment + 1];
      if (start >= stop || lr_multiplier == 0.0f) continue;
      const Step step = {hyper[0] * lr_multiplier, hyper[1], momentum, weight_decay * decay_multiplier};
      update_part(weights, grads, velocity, start, stop, step);
    }
  });
}

}  // namespace minicnn
