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
// copy (count) Bfloat16 or Float16: nearest(w), for the products of the next step; with T float there is none.
// Elements outside of all segments, and those whose lr_multiplier is 0, stay as they are, velocity and copy too.
//
// A thread owns four consecutive elements; 16 neighbours share a piece of 64, hence a segment, which each finds by
// bisection in a table that stays in the first-level cache.
// Grid ceil(count / 1024), block 256 threads, no shared memory.
// Bytes an element: 20 (read w, g, v; write w, v), with a copy 22, where a pass that narrows w would move 6 more; 6
// FLOPs: bound by memory bandwidth.
//
// Sources: Krizhevsky et al. 2012, section 5; Sutskever et al. 2013, "On the importance of initialization and momentum
// in deep learning" (Nesterov); PyTorch's SGD for where the learning rate stands.
#include "device/quad.h"
#include "kernels.h"
#include "launch.h"
#include "ops/segment.h"
#include "ops/sgd.h"

namespace minicnn {
namespace {

constexpr int THREADS = 256;

template <class T>
__global__ void __launch_bounds__(THREADS)
    sgd_step_kernel(float* weights, T* copy, const float* grads, float* velocity, const int64_t* bounds,
                    const float* multipliers, int segments, const float* hyper, float momentum, float weight_decay,
                    SgdRule rule) {
  const int64_t begin = vec4_begin();
  const Segment segment = find_segment(bounds, multipliers, segments, begin);
  if (begin >= segment.stop || segment.lr_multiplier == 0.0f) return;
  const SgdStep step = {hyper[0] * segment.lr_multiplier, hyper[1], momentum, weight_decay * segment.decay_multiplier};
  Vec4 w = load_vec4(weights, begin, segment.stop);
  Vec4 v = load_vec4(velocity, begin, segment.stop);
  const Vec4 g = load_vec4(grads, begin, segment.stop);
  for (int i = 0; i < 4; ++i) sgd_update(w.values[i], v.values[i], g.values[i], step, rule);
  store_vec4(velocity, begin, segment.stop, v);
  store_vec4(weights, begin, segment.stop, w);
  if constexpr (!std::is_same_v<T, float>) store_vec4(copy, begin, segment.stop, w);
}

template <class T>
void step(const char* op, float* weights, T* copy, const float* grads, float* velocity, const int64_t* bounds,
          const float* multipliers, int segments, const float* hyper, float momentum, float weight_decay, SgdRule rule,
          int64_t count, Stream stream) {
  if (count == 0) return;
  launch(sgd_step_kernel<T>, {.op = op, .grid = vec4_blocks(count, THREADS), .block = THREADS, .stream = stream},
         weights, copy, grads, velocity, bounds, multipliers, segments, hyper, momentum, weight_decay, rule);
}

}  // namespace

void sgd_step(float* weights, const float* grads, float* velocity, const int64_t* bounds, const float* multipliers,
              int segments, const float* hyper, float momentum, float weight_decay, SgdRule rule, int64_t count,
              Stream stream) {
  step<float>("sgd_step", weights, nullptr, grads, velocity, bounds, multipliers, segments, hyper, momentum,
              weight_decay, rule, count, stream);
}

void sgd_step_bfloat16(float* weights, Bfloat16* copy, const float* grads, float* velocity, const int64_t* bounds,
                       const float* multipliers, int segments, const float* hyper, float momentum, float weight_decay,
                       SgdRule rule, int64_t count, Stream stream) {
  step("sgd_step_bfloat16", weights, copy, grads, velocity, bounds, multipliers, segments, hyper, momentum,
       weight_decay, rule, count, stream);
}

void sgd_step_float16(float* weights, Float16* copy, const float* grads, float* velocity, const int64_t* bounds,
                      const float* multipliers, int segments, const float* hyper, float momentum, float weight_decay,
                      SgdRule rule, int64_t count, Stream stream) {
  step("sgd_step_float16", weights, copy, grads, velocity, bounds, multipliers, segments, hyper, momentum, weight_decay,
       rule, count, stream);
}

}  // namespace minicnn
