// Copies from global to shared memory that go on while the thread computes (cp.async; PTX ISA, "Data Movement and
// Conversion Instructions: Asynchronous copy").
//
//   async_copy<16>(&tile[i], &x[j]);   starts a copy
//   async_copy_commit();               makes a group of the copies that this thread has started since the last one
//   async_copy_wait<1>();              waits until at most the 1 latest group of this thread is still under way
//   __syncthreads();                   shows what this thread has waited for to the others
//
// Both sides are aligned to the bytes of the copy: 4, 8 or 16. Of two copies under way neither comes first. Below
// sm_80, which has no such instruction, a copy is an ordinary load and store.
#pragma once
#include "device/cuda.h"

namespace minicnn {

#ifdef MINICNN_EMULATED

template <int BYTES>
void async_copy_or_zero(void* shared, const void* global, bool inside,
                        emulation::Where where = emulation::Where::current()) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async moves 4, 8 or 16 bytes");
  emulation::start_copy({shared, global, BYTES, inside}, where);
}

template <int BYTES>
void async_copy(void* shared, const void* global, emulation::Where where = emulation::Where::current()) {
  async_copy_or_zero<BYTES>(shared, global, true, where);
}

inline void async_copy_commit() { emulation::commit_copies(); }

template <int PENDING>
void async_copy_wait() {
  static_assert(PENDING >= 0);
  emulation::wait_for_copies(PENDING);
}

#else

// Zeros where the source is not `inside`: nothing is read from there then, and any address will do.
template <int BYTES>
__device__ __forceinline__ void async_copy_or_zero(void* shared, const void* global, bool inside) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async moves 4, 8 or 16 bytes");
#if __CUDA_ARCH__ >= 800
  const auto target = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int source_bytes = inside ? BYTES : 0;
  if constexpr (BYTES == 16)  // by way of the L2 cache alone, which knows this size only
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(global), "r"(source_bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(target), "l"(global), "n"(BYTES),
                 "r"(source_bytes)
                 : "memory");
#else
  struct alignas(BYTES) Bytes {
    unsigned words[BYTES / 4];
  };
  *static_cast<Bytes*>(shared) = inside ? *static_cast<const Bytes*>(global) : Bytes{};
#endif
}

template <int BYTES>
__device__ __forceinline__ void async_copy(void* shared, const void* global) {
  async_copy_or_zero<BYTES>(shared, global, true);
}

__device__ __forceinline__ void async_copy_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int PENDING>
__device__ __forceinline__ void async_copy_wait() {
  static_assert(PENDING >= 0);
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

#endif

}  // namespace minicnn
