// Four consecutive numbers of 16 bits a thread, as vec4.h has four floats: 8 bytes in one access where they lie on 8.
#pragma once
#include "device/float16.h"
#include "device/vec4.h"

namespace minicnn {

template <class T>
struct alignas(4 * sizeof(T)) Quad {
  T values[4];
};

template <class T>
__device__ inline bool is_whole_quad(const T* quad, int64_t count) {
  return count >= 4 && reinterpret_cast<uintptr_t>(quad) % alignof(Quad<T>) == 0;
}

template <class T>
__device__ inline Vec4 load_vec4(const T* array, int64_t begin, int64_t count) {
  Quad<T> quad{};
  if (is_whole_quad(array + begin, count - begin)) {
    quad = *reinterpret_cast<const Quad<T>*>(array + begin);
  } else {
    for (int i = 0; i < 4; ++i)
      if (begin + i < count) quad.values[i] = array[begin + i];
  }
  return {to_float(quad.values[0]), to_float(quad.values[1]), to_float(quad.values[2]), to_float(quad.values[3])};
}

template <class T>
__device__ inline void store_vec4(T* array, int64_t begin, int64_t count, const Vec4& value) {
  const Quad<T> quad{from_float<T>(value.values[0]), from_float<T>(value.values[1]), from_float<T>(value.values[2]),
                     from_float<T>(value.values[3])};
  if (is_whole_quad(array + begin, count - begin)) {
    *reinterpret_cast<Quad<T>*>(array + begin) = quad;
    return;
  }
  for (int i = 0; i < 4; ++i)
    if (begin + i < count) array[begin + i] = quad.values[i];
}

}  // namespace minicnn
