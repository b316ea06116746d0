// The CUDA C++ dialect for a plain C++ compiler: keywords, built-in variables, intrinsics.
//
// A name that a kernel needs and that is missing here is added with a test. Each built-in that can block or fail takes
// its place in the source as a hidden last argument.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>

#include "emulation/runtime.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__

#define threadIdx (::minicnn::emulation::current().thread)
#define blockIdx (::minicnn::emulation::current().block->index)
#define blockDim (::minicnn::emulation::current().block->size)
#define gridDim (::minicnn::emulation::current().block->grid)

namespace minicnn {

using std::max;
using std::min;
constexpr int warpSize = 32;

// The block's dynamic shared memory as one struct; every byte of it is 0xFF (NaN) when the block starts, and a guard
// page follows it. There is no `__shared__`: a static variable could be neither poisoned nor guarded.
template <class Storage>
Storage& shared_memory(emulation::Where where = emulation::Where::current()) {
  const emulation::Block& block = *emulation::current().block;
  if (sizeof(Storage) > block.shared_bytes)
    emulation::fail("the kernel uses " + std::to_string(sizeof(Storage)) + " bytes of shared memory, the launch gave " +
                        std::to_string(block.shared_bytes),
                    where);
  return *reinterpret_cast<Storage*>(block.shared);
}

namespace emulation {

template <class T>
struct Shuffle {
  T value;
  int source;  // the lane to read
  T result;
};

template <class T>
T shuffle(const char* name, uint32_t mask, T value, int source, Where where) {
  if (source < 0 || source > 31 || !(mask >> source & 1))
    fail(std::string(name) + ": reads lane " + std::to_string(source) + ", which is not in the mask", where);
  Shuffle<T> mine{value, source, {}};
  const Operation exchange = [](uint32_t lanes, void* const operands[32]) {
    for (; lanes; lanes &= lanes - 1) {
      auto& to = *static_cast<Shuffle<T>*>(operands[std::countr_zero(lanes)]);
      to.result = static_cast<Shuffle<T>*>(operands[to.source])->value;
    }
  };
  synchronize_warp(name, mask, exchange, &mine, where);
  return mine.result;
}

inline int lane() { return int(current().linear % 32); }

struct Ballot {
  bool predicate;
  uint32_t result;
};

inline uint32_t ballot(const char* name, uint32_t mask, bool predicate, Where where) {
  Ballot mine{predicate, 0};
  const Operation count = [](uint32_t mask, void* const operands[32]) {
    uint32_t result = 0;
    for (uint32_t lanes = mask; lanes; lanes &= lanes - 1) {
      const int lane = std::countr_zero(lanes);
      result |= uint32_t(static_cast<Ballot*>(operands[lane])->predicate) << lane;
    }
    for (uint32_t lanes = mask; lanes; lanes &= lanes - 1)
      static_cast<Ballot*>(operands[std::countr_zero(lanes)])->result = result;
  };
  synchronize_warp(name, mask, count, &mine, where);
  return mine.result;
}

}  // namespace emulation

// Barriers.
inline void __syncthreads(emulation::Where where = emulation::Where::current()) {
  emulation::synchronize_block("__syncthreads", false, where);
}
inline int __syncthreads_count(int predicate, emulation::Where where = emulation::Where::current()) {
  return emulation::synchronize_block("__syncthreads_count", predicate, where);
}
inline int __syncthreads_and(int predicate, emulation::Where where = emulation::Where::current()) {
  return emulation::synchronize_block("__syncthreads_and", !predicate, where) == 0;
}
inline int __syncthreads_or(int predicate, emulation::Where where = emulation::Where::current()) {
  return emulation::synchronize_block("__syncthreads_or", predicate, where) != 0;
}
inline void __syncwarp(unsigned mask = ~0u, emulation::Where where = emulation::Where::current()) {
  emulation::synchronize_warp("__syncwarp", mask, [](uint32_t, void* const*) {}, nullptr, where);
}

// Shuffles: the warp as segments of `width` lanes; a lane whose source lies outside of its segment keeps its own value.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
              emulation::Where where = emulation::Where::current()) {
  const int segment = emulation::lane() & ~(width - 1);
  return emulation::shuffle("__shfl_sync", mask, value, segment + (source & (width - 1)), where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = warpSize,
                  emulation::Where where = emulation::Where::current()) {
  const int lane = emulation::lane(), source = lane ^ bits;
  return emulation::shuffle("__shfl_xor_sync", mask, value, source > (lane | (width - 1)) ? lane : source, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   emulation::Where where = emulation::Where::current()) {
  const int lane = emulation::lane(), source = lane + int(delta);
  return emulation::shuffle("__shfl_down_sync", mask, value, source > (lane | (width - 1)) ? lane : source, where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                 emulation::Where where = emulation::Where::current()) {
  const int lane = emulation::lane(), source = lane - int(delta);
  return emulation::shuffle("__shfl_up_sync", mask, value, source < (lane & ~(width - 1)) ? lane : source, where);
}

// Votes.
inline unsigned __ballot_sync(unsigned mask, int predicate, emulation::Where where = emulation::Where::current()) {
  return emulation::ballot("__ballot_sync", mask, predicate, where);
}
inline int __any_sync(unsigned mask, int predicate, emulation::Where where = emulation::Where::current()) {
  return emulation::ballot("__any_sync", mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, emulation::Where where = emulation::Where::current()) {
  return emulation::ballot("__all_sync", mask, predicate, where) == mask;
}

// Atomics: blocks may run on several OS threads.
template <class Integer>
Integer atomicAdd(Integer* address, Integer value) {
  static_assert(std::is_integral_v<Integer>, "float atomics have no fixed order: the house's kernels do without");
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}
template <class Integer>
Integer atomicMax(Integer* address, Integer value) {
  static_assert(std::is_integral_v<Integer>);
  Integer old = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (old < value && !__atomic_compare_exchange_n(address, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}
template <class Integer>
Integer atomicCAS(Integer* address, Integer expected, Integer desired) {
  static_assert(std::is_integral_v<Integer>);
  __atomic_compare_exchange_n(address, &expected, desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

}  // namespace minicnn
