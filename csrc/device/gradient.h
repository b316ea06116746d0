// What a backward kernel reads and writes, four elements a thread: dy behind a ReLU, and a gradient that may already
// hold a contribution.
#pragma once
#include "device/relu.h"
#include "device/vec4.h"
#include "kernels.h"

namespace minicnn {

// dy[begin .. begin + 4), 0 where the ReLU with the output y cut it; as it is where y is null. At and past `count` 0.
__device__ inline Vec4 load_gradient(const float* dy, const float* y, int64_t begin, int64_t count) {
  Vec4 gradient = load_vec4(dy, begin, count);
  if (y == nullptr) return gradient;
  const Vec4 output = load_vec4(y, begin, count);
  for (int i = 0; i < 4; ++i) gradient.values[i] = relu_gradient(gradient.values[i], output.values[i]);
  return gradient;
}

// gradient[begin .. begin + 4) (+)= value, where it is wanted; elements at and past `count` are not written.
__device__ inline void write_gradient(float* gradient, Accumulate accumulate, Vec4 value, int64_t begin,
                                      int64_t count) {
  if (gradient == nullptr) return;
  if (accumulate == Accumulate::add) {
    const Vec4 earlier = load_vec4(gradient, begin, count);
    for (int i = 0; i < 4; ++i) value.values[i] += earlier.values[i];
  }
  store_vec4(gradient, begin, count, value);
}

}  // namespace minicnn
