// Between float32 and numbers of 16 bits, round the matrix products of a network in reduced precision.
//
// Narrow: y = nearest(x)               (of two as near, the one whose last bit is 0; too large ones become infinite)
// Widen:  y (+)= mask <= 0 ? 0 : x     (exact; a mask of null is none, a NaN of it lets x pass)
//
// Narrow: x (count) float32, y (count) of 16 bits. Widen: x (count) of 16 bits, mask, y (count) float32. Any shape,
// flattened.
//
// A thread owns four consecutive elements of the output.
// Grid ceil(count / 1024), block 256 threads, no shared memory.
// Bytes an element: 6, widening 4 more with a mask and 4 more with Accumulate::add; an instruction each: bound by
// memory bandwidth. A float32 quad moves by one access of 16 bytes, one of 16 bits by one of 8.
#include "device/vec4.h"
#include "gemm/tensor_core.h"
#include "kernels.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int THREADS = 256;

template <class T>
__global__ void __launch_bounds__(THREADS) narrow_kernel(const float* x, T* y, int64_t count) {
  const int64_t begin = vec4_begin();
  store_vec4(y, begin, count, load_vec4(x, begin, count));
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    widen_kernel(const T* x, const float* mask, float* y, Accumulate accumulate, int64_t count) {
  const int64_t begin = vec4_begin();
  const int owned = int(min(count - begin, int64_t(4)));
  write_quad(load_vec4(x, begin, count), y + begin, mask == nullptr ? nullptr : mask + begin, accumulate, owned);
}

template <class T>
void narrow(const char* op, const float* x, T* y, int64_t count, Stream stream) {
  if (count == 0) return;
  launch(narrow_kernel<T>, {.op = op, .grid = vec4_blocks(count, THREADS), .block = THREADS, .stream = stream}, x, y,
         count);
}

template <class T>
void widen(const char* op, const T* x, const float* mask, float* y, Accumulate accumulate, int64_t count,
           Stream stream) {
  if (count == 0) return;
  launch(widen_kernel<T>, {.op = op, .grid = vec4_blocks(count, THREADS), .block = THREADS, .stream = stream}, x, mask,
         y, accumulate, count);
}

}  // namespace

void narrow_bfloat16(const float* x, Bfloat16* y, int64_t count, Stream stream) {
  narrow("narrow_bfloat16", x, y, count, stream);
}

void narrow_float16(const float* x, Float16* y, int64_t count, Stream stream) {
  narrow("narrow_float16", x, y, count, stream);
}

void widen_bfloat16(const Bfloat16* x, const float* mask, float* y, Accumulate accumulate, int64_t count,
                    Stream stream) {
  widen("widen_bfloat16", x, mask, y, accumulate, count, stream);
}

void widen_float16(const Float16* x, const float* mask, float* y, Accumulate accumulate, int64_t count, Stream stream) {
  widen("widen_float16", x, mask, y, accumulate, count, stream);
}

}  // namespace minicnn
