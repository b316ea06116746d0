// What the GPU can do that launches go to.
#pragma once
#include "launch.h"
#ifdef MINICNN_EMULATED
#include "emulation/options.h"
#endif

namespace minicnn {

// 10 * major + minor of its compute capability. The emulated device has every instruction that csrc/device knows,
// unless a test has made it an older one.
#ifdef MINICNN_EMULATED

inline int compute_capability(const char*) { return emulation::options().capability; }

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
