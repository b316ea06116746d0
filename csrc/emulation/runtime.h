// What kernels and launch() need of the emulation's runtime.
//
// A block runs on one OS thread. Its CUDA threads start one after another on a single stack; one that blocks keeps that
// stack, and those that follow start on another. A kernel without barriers so costs an indirect call a thread.
#pragma once
#include <cstdint>
#include <source_location>
#include <stdexcept>
#include <string>

#include "emulation/fiber.h"
#include "emulation/types.h"

namespace minicnn::emulation {

// The place in a kernel from which a built-in is called: a hidden default argument of each.
using Where = std::source_location;

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline uint64_t volume(const dim3& size) { return uint64_t(size.x) * size.y * size.z; }

// One kernel launch.
struct Launch {
  const char* op;
  const void* kernel;  // its code
  dim3 grid, block;
  size_t shared_bytes;
  void (*run_thread)(const void* call);  // calls the kernel once, for the CUDA thread that is current
  const void* call;
};

// Runs every block, then returns. Throws Error, naming the op, where the configuration is impossible or the kernel goes
// wrong or throws.
void run_grid(const Launch& launch);

class Worker;

struct Block {
  uint3 index;
  dim3 size, grid;
  unsigned char* shared;
  size_t shared_bytes;
};

// What the code of a CUDA thread may ask for at any time; lies at the top of the stack that it runs on.
struct Current {
  uint3 thread;
  unsigned linear;  // the thread's number in the block
  const Block* block;
  Worker* worker;
};
static_assert(sizeof(Current) <= STACK_TOP_BYTES);

inline Current& current() { return *reinterpret_cast<Current*>(stack_top(stack_base(__builtin_frame_address(0)))); }

// Throws Error, naming the place, the op, the block and the thread.
[[noreturn]] void fail(const std::string& message, Where where);

// Waits for the whole block; returns the number of its threads whose predicate holds.
int synchronize_block(const char* name, bool predicate, Where where);

// A warp collective: the lanes of `mask` hand in their operands, and the last to arrive performs the operation for all.
using Operation = void (*)(uint32_t mask, void* const operands[32]);
void synchronize_warp(const char* name, uint32_t mask, Operation operation, void* operand, Where where);

// Comes to one of the block's named barriers, of which 0 is no one's, and waits there for the others or goes on.
void come_to_barrier(const char* name, int barrier, int threads, bool waits, Where where);

// An asynchronous copy into shared memory; of zeros where the source is not inside.
struct Copy {
  void* shared;
  const void* global;
  unsigned bytes;
  bool inside;
};
void start_copy(const Copy& copy, Where where);
void commit_copies();
void wait_for_copies(unsigned pending);

}  // namespace minicnn::emulation
