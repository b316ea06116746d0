// Stackful fibers: one emulated CUDA thread at a time runs on each.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

// Saves the callee-saved registers on the current stack and its pointer in *save, then resumes the stack whose saved
// pointer is `load`.
extern "C" void minicnn_switch_fiber(void** save, void* load);

// Where a fresh fiber starts; never returns.
extern "C" void minicnn_enter_fiber();

namespace minicnn::emulation {

// The stacks are aligned to their size, so that the code running on one finds what lies at its top by masking its own
// stack pointer: no thread-local variable, which costs a function call in a shared library.
constexpr size_t STACK_BYTES = 128 * 1024;

// The inaccessible lowest part of each: a multiple of every page size, and more than one frame is likely to skip.
constexpr size_t STACK_GUARD_BYTES = 32 * 1024;

inline uintptr_t stack_base(const void* inside) {
  return reinterpret_cast<uintptr_t>(inside) & ~uintptr_t(STACK_BYTES - 1);
}

// Where frames begin to grow downwards; the STACK_TOP_BYTES above it are the runtime's. Neighbouring stacks have their
// tops at 32 different places of a page: equal ones would all fall into the same sets of the cache.
constexpr size_t STACK_TOP_BYTES = 128, STACK_TOPS = 32;
inline uintptr_t stack_top(uintptr_t base) {
  return base + STACK_BYTES - STACK_TOPS * STACK_TOP_BYTES + base / STACK_BYTES % STACK_TOPS * STACK_TOP_BYTES;
}

// Up to `capacity` stacks in one mapping.
class Stacks {
 public:
  explicit Stacks(size_t capacity);
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  // The base of a stack that nobody uses. The one given back last comes first: it is in the cache.
  uintptr_t take();
  void give_back(uintptr_t base) { free_.push_back(base); }
  void give_back_all();

  bool overflowed_at(const void* address) const;

 private:
  size_t capacity_;
  void* mapping_;
  uintptr_t first_;     // the mapping's first aligned address
  size_t guarded_ = 0;  // stacks ever handed out
  std::vector<uintptr_t> free_;
};

// A context on the empty stack at `base` that enters minicnn_enter_fiber when it is switched to.
void* fresh_context(uintptr_t base);

}  // namespace minicnn::emulation
