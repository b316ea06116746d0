// The CUDA C++ dialect for a plain C++ compiler: keywords, built-in variables, intrinsics.
//
// A name that a kernel needs and that is missing here is added with a test. Each built-in that can block or fail takes
// its place in the source as a hidden last argument.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>

#include "emulation/detector/order.h"
#include "emulation/runtime.h"

#ifdef MINICNN_CHECKED
#define __global__ __attribute__((flatten))  // one function a kernel: its code tells the kernel's line of an access
#else
#define __global__
#endif
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
  const emulation::Operation order = []([[maybe_unused]] uint32_t lanes, void* const*) {
    if constexpr (emulation::CHECKED) emulation::detector::order_warp(lanes);
  };
  emulation::synchronize_warp("__syncwarp", mask, order, nullptr, where);
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

// Atomics, each in device scope and, with the suffix _block, in that of the block; and fences.
namespace emulation {

// Replaces the number at `address` by what `update` makes of it, with no other atomic in between, and returns what was
// there before; leaves it alone where `update` gives nothing. Blocks may run on several OS threads.
template <detector::Atomic KIND = detector::Atomic::update, class Integer, class Update>
Integer atomic(Scope scope, Integer* address, Update update) {
  static_assert(std::is_integral_v<Integer>, "float atomics have no fixed order: the house's kernels do without");
  if constexpr (CHECKED) detector::begin_atomic(address, sizeof(Integer), scope, KIND);
  Integer old = __atomic_load_n(address, __ATOMIC_RELAXED);
  std::optional<Integer> desired;
  do {
    desired = update(old);
  } while (desired && !__atomic_compare_exchange_n(address, &old, *desired, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  if constexpr (CHECKED)
    if (desired) detector::end_atomic_write(address, sizeof(Integer), scope);
  return old;
}

template <class Integer>
Integer atomic_add(Scope scope, Integer* address, Integer value) {
  return atomic(scope, address, [=](Integer old) { return std::optional(Integer(old + value)); });
}
template <class Integer>
Integer atomic_max(Scope scope, Integer* address, Integer value) {
  return atomic(scope, address, [=](Integer old) { return std::optional(std::max(old, value)); });
}
template <class Integer>
Integer atomic_exchange(Scope scope, Integer* address, Integer value) {
  return atomic<detector::Atomic::exchange>(scope, address, [=](Integer) { return std::optional(value); });
}
template <class Integer>
Integer atomic_compare_and_swap(Scope scope, Integer* address, Integer expected, Integer desired) {
  return atomic(scope, address, [=](Integer old) { return old == expected ? std::optional(desired) : std::nullopt; });
}

inline void fence([[maybe_unused]] Scope scope) {
  if constexpr (CHECKED)
    detector::fence(scope);  // all on one OS thread
  else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

}  // namespace emulation

template <class Integer>
Integer atomicAdd(Integer* address, std::type_identity_t<Integer> value) {
  return emulation::atomic_add(emulation::Scope::device, address, value);
}
template <class Integer>
Integer atomicAdd_block(Integer* address, std::type_identity_t<Integer> value) {
  return emulation::atomic_add(emulation::Scope::block, address, value);
}
template <class Integer>
Integer atomicMax(Integer* address, std::type_identity_t<Integer> value) {
  return emulation::atomic_max(emulation::Scope::device, address, value);
}
template <class Integer>
Integer atomicMax_block(Integer* address, std::type_identity_t<Integer> value) {
  return emulation::atomic_max(emulation::Scope::block, address, value);
}
template <class Integer>
Integer atomicExch(Integer* address, std::type_identity_t<Integer> value) {
  return emulation::atomic_exchange(emulation::Scope::device, address, value);
}
template <class Integer>
Integer atomicExch_block(Integer* address, std::type_identity_t<Integer> value) {
  return emulation::atomic_exchange(emulation::Scope::block, address, value);
}
template <class Integer>
Integer atomicCAS(Integer* address, std::type_identity_t<Integer> expected, std::type_identity_t<Integer> desired) {
  return emulation::atomic_compare_and_swap(emulation::Scope::device, address, expected, desired);
}
template <class Integer>
Integer atomicCAS_block(Integer* address, std::type_identity_t<Integer> expected,
                        std::type_identity_t<Integer> desired) {
  return emulation::atomic_compare_and_swap(emulation::Scope::block, address, expected, desired);
}

inline void __threadfence() { emulation::fence(emulation::Scope::device); }
inline void __threadfence_block() { emulation::fence(emulation::Scope::block); }

inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

}  // namespace minicnn
