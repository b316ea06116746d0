// Barriers of a part of a block (bar.sync and bar.arrive; PTX ISA, "Parallel Synchronization and Communication
// Instructions: barrier").
//
// Barrier 1 to 15 (0 is that of __syncthreads) opens when `threads` threads have come, a multiple of 32, and is then
// ready for the next ones; all of them name the same number. Whole warps come together. One that arrives goes on at
// once; what it did before is ordered before what those do that waited in named_barrier_sync.
#pragma once
#include "device/cuda.h"

namespace minicnn {

#ifdef MINICNN_EMULATED

inline void named_barrier_sync(int barrier, int threads, emulation::Where where = emulation::Where::current()) {
  emulation::come_to_barrier("named_barrier_sync", barrier, threads, true, where);
}
inline void named_barrier_arrive(int barrier, int threads, emulation::Where where = emulation::Where::current()) {
  emulation::come_to_barrier("named_barrier_arrive", barrier, threads, false, where);
}

#else

__device__ __forceinline__ void named_barrier_sync(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_barrier_arrive(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

#endif

}  // namespace minicnn
