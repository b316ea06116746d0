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

}  // namespace minicnn
#endif
