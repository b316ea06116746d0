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
// A thread owns four consecutive elements; 16 neighbours share a piece of 64, hence a segment, which each finds by
// bisection in a table that stays in the first-level cache.
// Grid ceil(count / 1024), block 256 threads, no shared memory.
// Bytes an element: 28 (read w, g, m, v; write w, m, v); 14 FLOPs: bound by memory bandwidth.
//
// Source: Kingma and Ba 2015, "Adam: a method for stochastic optimization", algorithm 1; PyTorch's Adam for where
// weight decay and eps stand.
#include "device/vec4.h"
#include "kernels.h"
#include "launch.h"
#include "ops/segment.h"

namespace minicnn {
namespace {

constexpr int THREADS = 256;

struct AdamStep {
  float lr, grad_scale, square_correction, mean_rate, square_rate, eps, weight_decay;
};

__device__ inline void adam_update(float& w, float& m, float& v, float grad, const AdamStep& step) {
  const float g = step.grad_scale * grad + step.weight_decay * w;
  m += step.mean_rate * (g - m);
  v += step.square_rate * (g * g - v);
  w -= step.lr * m / (step.square_correction * sqrtf(v) + step.eps);
}

__global__ void __launch_bounds__(THREADS)
    adam_step_kernel(float* weights, const float* grads, float* mean, float* square, const int64_t* bounds,
                     const float* multipliers, int segments, const float* hyper, float mean_rate, float square_rate,
                     float eps, float weight_decay) {
  const int64_t begin = vec4_begin();
  const Segment segment = find_segment(bounds, multipliers, segments, begin);
  if (begin >= segment.stop || segment.lr_multiplier == 0.0f) return;
  const AdamStep step = {hyper[0] * segment.lr_multiplier,       hyper[1], hyper[2], mean_rate, square_rate, eps,
                         weight_decay * segment.decay_multiplier};
  Vec4 w = load_vec4(weights, begin, segment.stop);
  Vec4 m = load_vec4(mean, begin, segment.stop);
  Vec4 v = load_vec4(square, begin, segment.stop);
  const Vec4 g = load_vec4(grads, begin, segment.stop);
  for (int i = 0; i < 4; ++i) adam_update(w.values[i], m.values[i], v.values[i], g.values[i], step);
  store_vec4(mean, begin, segment.stop, m);
  store_vec4(square, begin, segment.stop, v);
  store_vec4(weights, begin, segment.stop, w);
}

}  // namespace

void adam_step(float* weights, const float* grads, float* mean, float* square, const int64_t* bounds,
               const float* multipliers, int segments, const float* hyper, float mean_rate, float square_rate,
               float eps, float weight_decay, int64_t count, Stream stream) {
  if (count == 0) return;
  launch(adam_step_kernel, {.op = "adam_step", .grid = vec4_blocks(count, THREADS), .block = THREADS, .stream = stream},
         weights, grads, mean, square, bounds, multipliers, segments, hyper, mean_rate, square_rate, eps, weight_decay);
}

}  // namespace minicnn
