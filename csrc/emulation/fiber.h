// Stackful fibers: one emulated CUDA thread at a time runs on each.
#pragma once
#include <cstddef>
#include <cstdint>

// Saves the callee-saved registers on the current stack and its pointer in *save, then resumes the stack whose saved
// pointer is `load`.
extern "C" void minicnn_switch_fiber(void** save, void* load);

// Where a fresh fiber starts; never returns.
extern "C" void minicnn_enter_fiber();

namespace minicnn::emulation {

// The stacks are aligned to their size, so that the code running on one finds what lies at its top by masking its own
// stack pointer: no thread-local variable, which costs a function call in a shared library.
constexpr size_t STACK_BYTES = 64 * 1024;

// The top of stack number `base / STACK_BYTES`. Tops lie at 32 different distances from the end of the stack: equal ones
// would all fall into the same sets of the cache.
inline uintptr_t stack_top(uintptr_t base) {
  constexpr uintptr_t DISTANCE = 128, DISTANCES = 32;
  return base + STACK_BYTES - DISTANCE * (1 + base / STACK_BYTES % DISTANCES);
}

// A stack whose lowest page is inaccessible, so that an overflow faults.
class Stack {
 public:
  Stack();
  ~Stack();
  Stack(Stack&& other) noexcept : mapping_(other.mapping_), base_(other.base_) { other.mapping_ = nullptr; }
  Stack& operator=(Stack&&) = delete;

  uintptr_t top() const { return stack_top(base_); }
  bool overflowed_at(const void* address) const;

  // A context that enters minicnn_enter_fiber when it is switched to.
  void* fresh_context() const;

 private:
  void* mapping_;
  uintptr_t base_;
};

size_t page_bytes();

}  // namespace minicnn::emulation
