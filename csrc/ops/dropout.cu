// Dropout, inverted: a linear map with a random diagonal, so forward and backward are one kernel.
//
// Draw:  drawn = (layer, counter), counter <- counter + 1
// Apply: y[i] (+)= x[i] * (keeps(i) ? scale : 0), scale = 1 / (1 - p), keeps(i) by Philox (device/philox.h):
//        word i % 4 of quad i / 4 of the stream (seed, step = drawn[1], layer = drawn[0])
//
// x, y (count) float32, any shape, flattened; layer, counter (1) int64; drawn (2) int64.
//
// Draw: one thread.
// Apply: a thread owns four consecutive elements, which is what one call of Philox decides.
// Grid ceil(count / 1024), block 256 threads, no shared memory.
// Bytes an element: 8, or 12 with Accumulate::add; about 25 integer operations. Bound by memory bandwidth.
//
// Backward draws the mask again instead of reading a saved one. The counter is read and advanced on the device, in a
// kernel of its own because the blocks of one grid have no order: a captured graph draws a new mask whenever it runs. A
// dropped NaN or infinity becomes NaN, as in PyTorch.
#include "device/philox.h"
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
    dropout_apply_kernel(const float* x, float* y, Accumulate accumulate, uint64_t seed, const int64_t* drawn, float p,
                         float scale, int64_t count) {
  const int64_t begin = vec4_begin();
  const PhiloxStream stream = {.seed = seed, .step = uint32_t(drawn[1]), .layer = uint32_t(drawn[0])};
  const PhiloxWords random = philox_words(stream, uint64_t(begin) / 4);
  Vec4 value = load_vec4(x, begin, count);
  for (int i = 0; i < 4; ++i) value.values[i] *= philox_keeps(random.words[i], p) ? scale : 0.0f;
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

void dropout_apply(const float* x, float* y, Accumulate accumulate, uint64_t seed, const int64_t* drawn, float p,
                   float scale, int64_t count, Stream stream) {
  if (count == 0) return;
  launch(dropout_apply_kernel,
         {.op = "dropout_apply", .grid = vec4_blocks(count, THREADS), .block = THREADS, .stream = stream}, x, y,
         accumulate, seed, drawn, p, scale, count);
}

}  // namespace minicnn
