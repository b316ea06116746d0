// The one include of a kernel file that means "CUDA": the real one under nvcc, the emulated one under a C++ compiler.
#pragma once

#ifdef MINICNN_EMULATED
#include "emulation/cuda.h"
#else
#include <cuda_runtime.h>

namespace minicnn {

// The block's dynamic shared memory as one struct; LaunchConfig::shared_bytes must be at least its size.
// Both devices have this function and only this one: the emulation gives a kernel no `__shared__` variables, because it
// could neither poison nor guard them.
template <class Storage>
__device__ __forceinline__ Storage& shared_memory() {
  extern __shared__ __align__(1024) unsigned char minicnn_shared_memory[];
  return *reinterpret_cast<Storage*>(minicnn_shared_memory);
}

// For __launch_bounds__: of the blocks that are wanted, as many as each processor that runs this code has threads for.
// The code of 8.0 is that of 8.6 to 12.0, too (minicnn/toolchain.py).
constexpr int blocks_with_room(int threads, int wanted) {
#if __CUDA_ARCH__ >= 900
  constexpr int room = 2048;
#elif __CUDA_ARCH__ >= 800
  constexpr int room = 1536;
#else
  constexpr int room = 1024;
#endif
  return wanted * threads <= room ? wanted : room / threads;
}

}  // namespace minicnn
#endif
