// Runs of consecutive channels: four float32 ones, or eight of 16 bits, in one access of 16 bytes where the layout
// allows it, else one at a time.
#pragma once
#include <cstdint>
#include <initializer_list>

#include "device/cuda.h"
#include "device/float16.h"
#include "device/relu.h"
#include "kernels.h"

namespace minicnn {

// In memory 16 bytes move at most; a longer run is one in registers.
template <class T, int WIDTH>
struct alignas(WIDTH * sizeof(T) < 16 ? WIDTH * sizeof(T) : 16) Run {
  static_assert(WIDTH == 1 || WIDTH == 4 || WIDTH == 8, "a run is one element, or four or eight that move together");
  T values[WIDTH];
};

template <int WIDTH, class T>
__device__ Run<T, WIDTH> load_run(const T* first) {
  return *reinterpret_cast<const Run<T, WIDTH>*>(first);
}

template <int WIDTH, class T>
__device__ void store_run(T* first, const Run<T, WIDTH>& run) {
  *reinterpret_cast<Run<T, WIDTH>*>(first) = run;
}

// The numbers of a run as another type, to the nearest where that holds fewer.
template <class To, class From, int WIDTH>
__device__ Run<To, WIDTH> run_of(const Run<From, WIDTH>& run) {
  Run<To, WIDTH> result;
  for (int i = 0; i < WIDTH; ++i) result.values[i] = from_float<To>(to_float(run.values[i]));
  return result;
}

// first[0 .. WIDTH) = run, or += run; rounded once.
template <int WIDTH, class T>
__device__ void store_run(T* first, Run<float, WIDTH> run, Accumulate accumulate) {
  if (accumulate == Accumulate::add) {
    const auto earlier = load_run<WIDTH>(first);
    for (int i = 0; i < WIDTH; ++i) run.values[i] += to_float(earlier.values[i]);
  }
  store_run(first, run_of<T>(run));
}

// The same, with 0 where the mask at the same place is not above 0; a mask of null is none.
template <int WIDTH>
__device__ void store_run(float* first, Run<float, WIDTH> run, const float* mask, Accumulate accumulate) {
  if (mask != nullptr) {
    const auto y = load_run<WIDTH>(mask);
    for (int i = 0; i < WIDTH; ++i) run.values[i] = relu_gradient(run.values[i], y.values[i]);
  }
  store_run(first, run, accumulate);
}

// How many numbers of a type are 16 bytes.
template <class T>
constexpr int FULL_RUN = 16 / sizeof(T);

// True where arrays (..., channels) divide into aligned runs of so many: `channels` is a multiple of it and the arrays
// start on 16-byte boundaries, which a view into an arena may not.
inline bool has_runs_of(int width, int channels, std::initializer_list<const void*> arrays) {
  for (const void* array : arrays)
    if (reinterpret_cast<uintptr_t>(array) % 16 != 0) return false;
  return channels % width == 0;
}

}  // namespace minicnn
