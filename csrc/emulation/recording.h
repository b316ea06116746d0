// What launches did, kept for tests that ask: their configurations and, in the checked module, which bytes of shared
// memory the threads of each grid's first block accessed.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "emulation/runtime.h"

namespace minicnn::emulation {

struct RecordedLaunch {
  std::string op;
  uint64_t kernel;  // where its code begins: a place as addr2line takes it, in bytes from the module's beginning
  dim3 grid, block;
  uint64_t shared_bytes;
};

// One access. Those of a thread lie in their order. An asynchronous copy into shared memory and, of ldmatrix, each
// row that a lane names are accesses, too.
struct SharedAccess {
  uint32_t launch;  // its number in the recording
  uint32_t thread;  // its number in the block
  uint32_t code;    // the call of the access, as a place
  uint32_t offset;  // of the first byte in the block's shared memory
  uint32_t bytes;
  uint32_t is_write;
};

struct Recording {
  std::vector<RecordedLaunch> launches;
  std::vector<SharedAccess> accesses;
};

// Null where nobody asks.
inline Recording* recording = nullptr;

// Forgets what was recorded, and starts.
void start_recording();
// Stops; nothing where it was not started.
Recording stop_recording();

void record(const Launch& launch);
// What is no access to the shared memory of the first block, it leaves out.
void record(const void* address, size_t bytes, bool is_write, const void* return_address);
// A row of 16 bytes that the calling lane names to ldmatrix.
void record_row(const void* row);

}  // namespace minicnn::emulation
