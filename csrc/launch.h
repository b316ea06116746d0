// launch(kernel, config, arguments...): how every kernel starts, on a GPU and in the emulation.
#pragma once
#ifdef MINICNN_EMULATED
#include <tuple>
#endif
#include <type_traits>

#include "check.h"
#include "device/cuda.h"
#include "device/host_device.h"
#include "kernels.h"

namespace minicnn {

struct LaunchConfig {
  const char* op;  // who launches, for error messages
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  Stream stream = nullptr;
};

#ifdef MINICNN_EMULATED

// Runs the whole grid before it returns; what goes wrong in the kernel is thrown from here.
template <class... Parameters>
void launch(void (*kernel)(Parameters...), const LaunchConfig& config, std::type_identity_t<Parameters>... arguments) {
  using Call = std::pair<void (*)(Parameters...), std::tuple<Parameters...>>;
  const Call call(kernel, {arguments...});
  const auto run_thread = [](const void* opaque) {
    const auto& [kernel, arguments] = *static_cast<const Call*>(opaque);
    std::apply(kernel, arguments);
  };
  const auto* code = reinterpret_cast<const void*>(kernel);
  emulation::run_grid({config.op, code, config.grid, config.block, config.shared_bytes, run_thread, &call});
}

#else

inline void check_cuda(cudaError_t status, const char* op) {
  if (status != cudaSuccess) fail(op, cudaGetErrorString(status));
}

// Queues the kernel on the stream. Errors of the launch itself are thrown from here; what the kernel does wrong appears
// at a later synchronisation.
template <class... Parameters>
void launch(void (*kernel)(Parameters...), const LaunchConfig& config, std::type_identity_t<Parameters>... arguments) {
  constexpr size_t SHARED_BYTES_WITHOUT_OPT_IN = 48 * 1024;
  if (config.shared_bytes > SHARED_BYTES_WITHOUT_OPT_IN)
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(config.shared_bytes)),
               config.op);
  cudaLaunchConfig_t native{};
  native.gridDim = config.grid;
  native.blockDim = config.block;
  native.dynamicSmemBytes = config.shared_bytes;
  native.stream = config.stream;
  check_cuda(cudaLaunchKernelEx(&native, kernel, static_cast<Parameters>(arguments)...), config.op);
}

#endif

}  // namespace minicnn
