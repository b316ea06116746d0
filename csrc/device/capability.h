// What the GPU can do that launches go to.
#pragma once
#include "launch.h"

namespace minicnn {

// 10 * major + minor of its compute capability. The emulated device has every instruction that csrc/device knows.
#ifdef MINICNN_EMULATED

inline int compute_capability(const char*) { return 90; }

#else

inline int compute_capability(const char* op) {
  int device = 0, major = 0, minor = 0;
  check_cuda(cudaGetDevice(&device), op);
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), op);
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), op);
  return 10 * major + minor;
}

#endif

}  // namespace minicnn
