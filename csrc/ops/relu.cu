// ReLU.
//
// Forward:  y = x < 0 ? 0 : x              (NaN stays NaN)
// Backward: dx (+)= y <= 0 ? 0 : dy        (a NaN of y lets the gradient pass, as PyTorch does)
//
// x, y, dy, dx (count) float32; any shape, flattened.
//
// A thread owns four consecutive elements of the output.
// Grid ceil(count / 1024), block 256 threads, no shared memory.
// Bytes an element: 8 forward, 12 backward, 16 with Accumulate::add; one comparison: bound by memory bandwidth.
//
// Assumes nothing of alignment: off a 16-byte boundary the accesses are 4 bytes wide. The output may be the very array
// that an input is (in place): a thread reads its elements before it writes them.
// Backward needs y, not x, so that the engine keeps one array alive instead of two (Chainer, PyTorch).
#include "device/relu.h"
#include "device/vec4.h"
#include "kernels.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int THREADS = 256;

__global__ void __launch_bounds__(THREADS) relu_forward_kernel(const float* x, float* y, int64_t count) {
  const int64_t begin = vec4_begin();
  Vec4 value = load_vec4(x, begin, count);
  for (float& element : value.values) element = relu(element);
  store_vec4(y, begin, count, value);
}

__global__ void __launch_bounds__(THREADS)
    relu_backward_kernel(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count) {
  const int64_t begin = vec4_begin();
  const Vec4 output = load_vec4(y, begin, count);
  Vec4 gradient = load_vec4(dy, begin, count);
  for (int i = 0; i < 4; ++i) gradient.values[i] = relu_gradient(gradient.values[i], output.values[i]);
  if (accumulate == Accumulate::add) {
    const Vec4 earlier = load_vec4(dx, begin, count);
    for (int i = 0; i < 4; ++i) gradient.values[i] += earlier.values[i];
  }
  store_vec4(dx, begin, count, gradient);
}

}  // namespace

void relu_forward(const float* x, float* y, int64_t count, Stream stream) {
  if (count == 0) return;
  launch(relu_forward_kernel,
         {.op = "relu_forward", .grid = vec4_blocks(count, THREADS), .block = THREADS, .stream = stream}, x, y, count);
}

void relu_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream stream) {
  if (count == 0) return;
  launch(relu_backward_kernel,
         {.op = "relu_backward", .grid = vec4_blocks(count, THREADS), .block = THREADS, .stream = stream}, dy, y, dx,
         accumulate, count);
}

}  // namespace minicnn
