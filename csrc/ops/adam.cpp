// One step of Adam over a flat arena.
//
// g = scale * grad + (weight_decay * decay_multiplier) * w, scale = hyper[1]
//   m <- m + mean_rate * (g - m)
//   v <- v + square_rate * (g^2 - v)
//   w <- w - hyper[0] * lr_multiplier * m / (hyper[2] * sqrt(v) + eps)
// The rates are 1 - beta1 and 1 - beta2, which float32 holds to more digits than the betas. At step t hyper[0] is
// lr / (1 - beta1^t) and hyper[2] is 1 / sqrt(1 - beta2^t): the corrections of both moments.
//
// weights, grads, mean (m), square (v) (count) float32; hyper (3) float32;
// bounds (segments, 2) int64: start and stop of each segment, ascending, starts divisible by 64;
// multipliers (segments, 2) float32: of lr, of weight_decay.
// Elements outside of all segments, and those whose lr_multiplier is 0, stay as they are, moments too.
//
// A thread owns a run of the arena, and in it the parts of the segments that it meets.
// Bytes an element: 28 (read w, g, m, v; write w, m, v, in lines that are there already); 14 FLOPs: bound by memory
// bandwidth.
//
// Source: Kingma and Ba 2015, "Adam: a method for stochastic optimization", algorithm 1; PyTorch's Adam for where
// weight decay and eps stand.
#include "native/map.h"

namespace minicnn {
namespace {

struct Step {
  float lr, grad_scale, square_correction, mean_rate, square_rate, eps, weight_decay;
};

void update_range(float* weights, const float* grads, float* mean, float* square, int64_t begin, int64_t end,
                  const Step& step) {
  in_vectors(begin, end, [&](int64_t i, auto lanes) {
    Floats w = load_some(weights + i, lanes), m = load_some(mean + i, lanes), v = load_some(square + i, lanes);
    const Floats g = step.grad_scale * load_some(grads + i, lanes) + step.weight_decay * w;
    m += step.mean_rate * (g - m);
    v += step.square_rate * (g * g - v);
    w -= step.lr * m / (step.square_correction * square_root(v) + step.eps);
    store_some(mean + i, m, lanes);
    store_some(square + i, v, lanes);
    store_some(weights + i, w, lanes);
  });
}

}  // namespace

void adam_step(float* weights, const float* grads, float* mean, float* square, const int64_t* bounds,
               const float* multipliers, int segments, const float* hyper, float mean_rate, float square_rate,
               float eps, float weight_decay, int64_t count, Stream) {
  parallel(count, GRAIN, LINE, [&](int64_t begin, int64_t end) {
    for (int segment = 0; segment < segments; ++segment) {
      const int64_t start = std::max(begin, bounds[2 * segment]), stop = std::min(end, bounds[2 * segment + 1]);
      const float lr_multiplier = multipliers[2 * segment], decay_multiplier = multipliers[2 * segment + 1];
      if (start >= stop || lr_multiplier == 0.0f) continue;
      const Step step = {hyper[0] * lr_multiplier,       hyper[1], hyper[2], mean_rate, square_rate, eps,
                         weight_decay * decay_multiplier};
      update_range(weights, grads, mean, square, start, stop, step);
    }
  });
}

}  // namespace minicnn
