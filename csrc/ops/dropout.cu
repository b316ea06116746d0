// Dropout, inverted: a linear map with a random diagonal, so forward and backward are one kernel.
//
// Draw:  drawn = (layer, counter), counter <- counter + 1
// Apply: y[i] (+)= x[i] * factor(i), factor(i) = 1 / (1 - p) or 0 as device/dropout.h says; 0 where mask[i] <= 0
//
// x, y (count) float32, mask (count) float32 or null, any shape, flattened; layer, counter (1) int64; drawn (2) int64.
//
// Draw: one thread.
// Apply: a thread owns four consecutive elements, which is what one call of Philox decides.
// Grid ceil(count / 1024), block 256 threads, no shared memory.
// Bytes an element: 8, 4 more with Accumulate::add and with a mask; about 25 integer operations. Bound by memory
// bandwidth.
//
// Backward draws the mask again instead of reading a saved one. The counter is read and advanced on the device, in a
// kernel of its own because the blocks of one grid have no order: a captured graph draws a new mask whenever it runs. A
// dropped NaN or infinity becomes NaN, as in PyTorch.
#include "device/dropout.h"
#include "device/relu.h"
#include "device/vec4.h"
#include "kernels.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int THREADS = 256;

__global__ void dropout_draw_kernel(const int64_t* layer, int64_t* counter, int64_t* drawn) {
  drawn[0] = *layer;
  drawn[1] = *counter;
  *counter += 1;
}

__global__ void __launch_bounds__(THREADS)
    dropout_apply_kernel(const float* x, const float* mask, float* y, Accumulate accumulate, DropoutMask dropout,
                         int64_t count) {
  const int64_t begin = vec4_begin();
  Vec4 value = load_vec4(x, begin, count);
  drop(value, dropout, begin);
  if (mask != nullptr) {
    const Vec4 at = load_vec4(mask, begin, count);
    for (int i = 0; i < 4; ++i) value.values[i] = relu_gradient(value.values[i], at.values[i]);
  }
  if (accumulate == Accumulate::add) {
    const Vec4 earlier = load_vec4(y, begin, count);
    for (int i = 0; i < 4; ++i) value.values[i] += earlier.values[i];
  }
  store_vec4(y, begin, count, value);
}

}  // namespace

void dropout_draw(const int64_t* layer, int64_t* counter, int64_t* drawn, Stream stream) {
  launch(dropout_draw_kernel, {.op = "dropout_draw", .grid = 1, .block = 1, .stream = stream}, layer, counter, drawn);
}

void dropout_apply(const float* x, const float* mask, float* y, Accumulate accumulate, uint64_t seed,
                   const int64_t* drawn, float p, float scale, int64_t count, Stream stream) {
  if (count == 0) return;
  launch(dropout_apply_kernel,
         {.op = "dropout_apply", .grid = vec4_blocks(count, THREADS), .block = THREADS, .stream = stream}, x, mask, y,
         accumulate, DropoutMask{seed, drawn, p, scale}, count);
}

}  // namespace minicnn
