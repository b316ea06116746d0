// Four consecutive floats a thread: the 16-byte accesses of every element-wise kernel, and their tails.
#pragma once
#include <cstdint>

#include "device/cuda.h"
#include "device/host_device.h"

namespace minicnn {

struct alignas(16) Vec4 {
  float values[4];
};

// What one access moves. On a CPU it does not say that it is aligned unless checked: g++ 12 at -O3 makes a vector of
// the four single accesses in the other branch, takes the two for the same, and uses the one that needs alignment.
#if defined(MINICNN_EMULATED) && !defined(MINICNN_CHECKED)
typedef float FourFloats __attribute__((vector_size(16), aligned(alignof(float)), may_alias));
#else
using FourFloats = Vec4;
#endif

// Four floats by one access on each side.
__device__ inline void move_whole(const float* source, float* target) {
  *reinterpret_cast<FourFloats*>(target) = *reinterpret_cast<const FourFloats*>(source);
}

// Blocks of `threads` threads that cover `count` elements.
inline unsigned vec4_blocks(int64_t count, int threads) { return unsigned(ceil_div<int64_t>(count, 4 * threads)); }

// The thread of a one-dimensional grid owns elements [4 * thread, 4 * thread + 4).
__device__ inline int64_t vec4_begin() { return 4 * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x); }

// True where the four elements exist and may be moved by one 16-byte access; false at the tail of an array and
// everywhere in one that starts off a 16-byte boundary (a view into an arena may), for all threads alike.
__device__ inline bool is_whole(const float* array, int64_t begin, int64_t count) {
  return begin + 4 <= count && reinterpret_cast<uintptr_t>(array) % alignof(Vec4) == 0;
}

// array[begin .. begin + 4); elements at and past `count` are not read and come back as 0.
__device__ inline Vec4 load_vec4(const float* array, int64_t begin, int64_t count) {
  Vec4 result;
  if (is_whole(array, begin, count)) {
    move_whole(array + begin, result.values);
    return result;
  }
  for (int i = 0; i < 4; ++i) result.values[i] = begin + i < count ? array[begin + i] : 0.0f;
  return result;
}

// array[begin .. begin + 4) = value; elements at and past `count` are not written.
__device__ inline void store_vec4(float* array, int64_t begin, int64_t count, const Vec4& value) {
  if (is_whole(array, begin, count)) {
    move_whole(value.values, array + begin);
    return;
  }
  for (int i = 0; i < 4; ++i)
    if (begin + i < count) array[begin + i] = value.values[i];
}

}  // namespace minicnn
