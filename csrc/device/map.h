// Element-wise functions of one array: y = f(x) and dx (+)= f'(...), for any `Function` with
//
//   float value(float x) const                        y
//   float gradient(float dy, float saved) const       dx, where `saved` is x or y, as the op keeps it
//
// x, y, dy, saved, dx (count) float32; any shape, flattened. A thread owns four consecutive elements of the output.
// Grid ceil(count / 1024), block 256 threads, no shared memory.
// Bytes an element: 8 forward, 12 backward, 16 with Accumulate::add: bound by memory bandwidth.
// Assumes nothing of alignment. The output may be the very array that an input is.
// csrc/ops/relu.cu is the same written out, for reading.
#pragma once
#include "device/vec4.h"
#include "kernels.h"
#include "launch.h"

namespace minicnn {

constexpr int MAP_THREADS = 256;

template <class Function>
__global__ void __launch_bounds__(MAP_THREADS)
    map_forward_kernel(const float* x, float* y, int64_t count, Function function) {
  const int64_t begin = vec4_begin();
  Vec4 value = load_vec4(x, begin, count);
  for (float& element : value.values) element = function.value(element);
  store_vec4(y, begin, count, value);
}

template <class Function>
__global__ void __launch_bounds__(MAP_THREADS)
    map_backward_kernel(const float* dy, const float* saved, float* dx, Accumulate accumulate, int64_t count,
                        Function function) {
  const int64_t begin = vec4_begin();
  const Vec4 at = load_vec4(saved, begin, count);
  Vec4 gradient = load_vec4(dy, begin, count);
  for (int i = 0; i < 4; ++i) gradient.values[i] = function.gradient(gradient.values[i], at.values[i]);
  if (accumulate == Accumulate::add) {
    const Vec4 earlier = load_vec4(dx, begin, count);
    for (int i = 0; i < 4; ++i) gradient.values[i] += earlier.values[i];
  }
  store_vec4(dx, begin, count, gradient);
}

template <class Function>
void map_forward(const char* op, Function function, const float* x, float* y, int64_t count, Stream stream) {
  if (count == 0) return;
  launch(map_forward_kernel<Function>,
         {.op = op, .grid = vec4_blocks(count, MAP_THREADS), .block = MAP_THREADS, .stream = stream}, x, y, count,
         function);
}

template <class Function>
void map_backward(const char* op, Function function, const float* dy, const float* saved, float* dx,
                  Accumulate accumulate, int64_t count, Stream stream) {
  if (count == 0) return;
  launch(map_backward_kernel<Function>,
         {.op = op, .grid = vec4_blocks(count, MAP_THREADS), .block = MAP_THREADS, .stream = stream}, dy, saved, dx,
         accumulate, count, function);
}

}  // namespace minicnn
