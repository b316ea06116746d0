#include "emulation/recording.h"

#include <dlfcn.h>

#include <memory>
#include <utility>

namespace minicnn::emulation {
namespace {

std::unique_ptr<Recording> kept;

// What addr2line calls the place.
uint64_t offset_in_module(const void* code) {
  static const auto begin = [] {
    Dl_info module{};
    dladdr(reinterpret_cast<const void*>(&offset_in_module), &module);
    return reinterpret_cast<uintptr_t>(module.dli_fbase);
  }();
  return reinterpret_cast<uintptr_t>(code) - begin;
}

}  // namespace

void start_recording() {
  kept = std::make_unique<Recording>();
  recording = kept.get();
}

Recording stop_recording() {
  recording = nullptr;
  return kept ? std::move(*std::exchange(kept, nullptr)) : Recording{};
}

void record(const Launch& launch) {
  recording->launches.push_back(
      {launch.op, offset_in_module(launch.kernel), launch.grid, launch.block, launch.shared_bytes});
}

void record(const void* address, size_t bytes, bool is_write, const void* return_address) {
  const Current& thread = current();
  const uint3& block = thread.block->index;
  const uintptr_t offset = reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(thread.block->shared);
  if (offset >= thread.block->shared_bytes || block.x + block.y + block.z != 0) return;
  recording->accesses.push_back({uint32_t(recording->launches.size() - 1), thread.linear,
                                 uint32_t(offset_in_module(return_address) - 1), uint32_t(offset), uint32_t(bytes),
                                 is_write});
}

void record_row(const void* row) {
  if (recording) record(row, 16, false, __builtin_return_address(0));
}

}  // namespace minicnn::emulation
