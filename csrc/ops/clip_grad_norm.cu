// The gradients scaled down to a given norm, all on the device.
//
// Squares: partial[b] = sum of x^2 over block b's share
// Factor:  norm = sqrt(sum of partial), factor = min(1, max_norm / (norm + 1e-6))
// Scale:   x <- x * factor
//
// x (count) float32; partial (clip_workspace) float32; norm, factor () float32. The partial sums of several x may lie
// one behind the other, for one factor.
//
// Squares: a thread sums quads of neighbouring elements, a grid apart. Grid at most 1024, block 256, 128 bytes of
// shared memory.
// Factor: one block of 256 threads, each with every 256th partial sum.
// Scale: a thread owns four consecutive elements. Grid ceil(count / 1024), block 256, no shared memory.
// Bytes an element: squares 4; scale 8, and none where factor is 1, so that a small gradient costs one reading. Bound
// by memory bandwidth.
//
// Sums have a fixed order: by thread, by warp, by block. A NaN or infinity in x reaches norm and, through factor, every
// element, as in PyTorch's clip_grad_norm_.
#include <algorithm>

#include "device/reduce.h"
#include "device/vec4.h"
#include "kernels.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int THREADS = 256;
constexpr unsigned MAX_BLOCKS = 1024;

__global__ void __launch_bounds__(THREADS) clip_squares_kernel(const float* x, float* partial, int64_t count) {
  auto& storage = shared_memory<BlockReduceStorage>();
  float sum = 0.0f;
  for (int64_t begin = vec4_begin(); begin < count; begin += int64_t(4) * gridDim.x * blockDim.x) {
    const Vec4 value = load_vec4(x, begin, count);
    for (int i = 0; i < 4; ++i) sum += value.values[i] * value.values[i];
  }
  sum = block_sum(sum, storage);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS)
    clip_factor_kernel(const float* partial, float max_norm, float* norm, float* factor, int64_t count) {
  auto& storage = shared_memory<BlockReduceStorage>();
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
  sum = block_sum(sum, storage);
  if (threadIdx.x > 0) return;
  *norm = sqrtf(sum);
  const float ratio = max_norm / (*norm + 1e-6f);
  *factor = ratio > 1.0f ? 1.0f : ratio;  // a NaN stays
}

__global__ void __launch_bounds__(THREADS) clip_scale_kernel(float* x, const float* factor, int64_t count) {
  const float scale = *factor;
  if (scale == 1.0f) return;
  const int64_t begin = vec4_begin();
  Vec4 value = load_vec4(x, begin, count);
  for (float& element : value.values) element *= scale;
  store_vec4(x, begin, count, value);
}

unsigned count_blocks(int64_t count) { return std::min(vec4_blocks(count, THREADS), MAX_BLOCKS); }

LaunchConfig config(const char* op, unsigned blocks, Stream stream) {
  return {.op = op, .grid = blocks, .block = THREADS, .shared_bytes = sizeof(BlockReduceStorage), .stream = stream};
}

}  // namespace

int64_t clip_workspace(int64_t count) { return count_blocks(count); }

void clip_squares(const float* x, float* partial, int64_t count, Stream stream) {
  if (count == 0) return;
  launch(clip_squares_kernel, config("clip_squares", count_blocks(count), stream), x, partial, count);
}

void clip_factor(const float* partial, float max_norm, float* norm, float* factor, int64_t count, Stream stream) {
  launch(clip_factor_kernel, config("clip_factor", 1, stream), partial, max_norm, norm, factor, count);
}

void clip_scale(float* x, const float* factor, int64_t count, Stream stream) {
  if (count == 0) return;
  launch(clip_scale_kernel, config("clip_scale", vec4_blocks(count, THREADS), stream), x, factor, count);
}

}  // namespace minicnn
