// The sum of two arrays of one shape through ReLU: where a residual block joins its shortcut.
//
// Forward:  y = s < 0 ? 0 : s, s = a + b     (NaN stays NaN)
// Backward: da (+)= g, db (+)= g, g = y <= 0 ? 0 : dy
//           g = dy where y is null: where those who wrote dy have seen to it
//
// a, b, y, dy, da, db (count) float32; any shape, flattened. da or db may be null, and the two may be one array if the
// second one adds.
//
// A thread owns four consecutive elements.
// Grid ceil(count / 1024), block 256 threads, no shared memory.
// Bytes an element: 12 forward, 16 backward (12 without y), 4 more for each of da and db with Accumulate::add; one
// addition: bound by memory bandwidth. As two ops, a + b and ReLU, it is 20 forward and 28 backward.
//
// Assumes nothing of alignment: off a 16-byte boundary the accesses are 4 bytes wide. An output may be the very array
// that an input is: a thread reads its elements before it writes them.
#include "device/gradient.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int THREADS = 256;

__global__ void __launch_bounds__(THREADS)
    add_relu_forward_kernel(const float* a, const float* b, float* y, int64_t count) {
  const int64_t begin = vec4_begin();
  const Vec4 other = load_vec4(b, begin, count);
  Vec4 value = load_vec4(a, begin, count);
  for (int i = 0; i < 4; ++i) value.values[i] = relu(value.values[i] + other.values[i]);
  store_vec4(y, begin, count, value);
}

__global__ void __launch_bounds__(THREADS)
    add_relu_backward_kernel(const float* dy, const float* y, float* da, Accumulate accumulate_da, float* db,
                             Accumulate accumulate_db, int64_t count) {
  const int64_t begin = vec4_begin();
  const Vec4 gradient = load_gradient(dy, y, begin, count);
  write_gradient(da, accumulate_da, gradient, begin, count);
  write_gradient(db, accumulate_db, gradient, begin, count);
}

}  // namespace

void add_relu_forward(const float* a, const float* b, float* y, int64_t count, Stream stream) {
  if (count == 0) return;
  launch(add_relu_forward_kernel,
         {.op = "add_relu_forward", .grid = vec4_blocks(count, THREADS), .block = THREADS, .stream = stream}, a, b, y,
         count);
}

void add_relu_backward(const float* dy, const float* y, float* da, Accumulate accumulate_da, float* db,
                       Accumulate accumulate_db, int64_t count, Stream stream) {
  if (count == 0) return;
  launch(add_relu_backward_kernel,
         {.op = "add_relu_backward", .grid = vec4_blocks(count, THREADS), .block = THREADS, .stream = stream}, dy, y,
         da, accumulate_da, db, accumulate_db, count);
}

}  // namespace minicnn
