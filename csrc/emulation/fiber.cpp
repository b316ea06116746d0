#include "emulation/fiber.h"

#include <sys/mman.h>

#include <new>

// Mach-O puts an underscore before C names and knows neither .type nor .size.
#ifdef __APPLE__
#define SWITCH_FIBER "_minicnn_switch_fiber"
#define SWITCH_FIBER_HEADER ".text\n.p2align 4\n.private_extern " SWITCH_FIBER "\n" SWITCH_FIBER ":\n"
#define SWITCH_FIBER_FOOTER ""
#else
#define SWITCH_FIBER "minicnn_switch_fiber"
#define SWITCH_FIBER_HEADER                                                                   \
  ".text\n.p2align 4\n.globl " SWITCH_FIBER "\n.hidden " SWITCH_FIBER "\n.type " SWITCH_FIBER \
  ", %function\n" SWITCH_FIBER ":\n"
#define SWITCH_FIBER_FOOTER ".size " SWITCH_FIBER ", .-" SWITCH_FIBER "\n"
#endif

// Both end in a return instruction, not in a jump: calls and returns stay balanced for the processor's predictor.
#if defined(__x86_64__)
asm(SWITCH_FIBER_HEADER R"(
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)" SWITCH_FIBER_FOOTER);
#elif defined(__aarch64__)
asm(SWITCH_FIBER_HEADER R"(
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)" SWITCH_FIBER_FOOTER);
#else
#error "minicnn's emulation knows how to switch fibers on x86-64 and aarch64 only: add this processor to fiber.cpp"
#endif

namespace minicnn::emulation {

Stacks::Stacks(size_t capacity) : capacity_(capacity) {
  mapping_ = mmap(nullptr, (capacity_ + 1) * STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
  if (mapping_ == MAP_FAILED) throw std::bad_alloc();
  first_ = (reinterpret_cast<uintptr_t>(mapping_) + STACK_BYTES - 1) / STACK_BYTES * STACK_BYTES;
  free_.reserve(capacity_);
}

Stacks::~Stacks() { munmap(mapping_, (capacity_ + 1) * STACK_BYTES); }

uintptr_t Stacks::take() {
  if (free_.empty()) {
    const uintptr_t base = first_ + guarded_++ * STACK_BYTES;
    mprotect(reinterpret_cast<void*>(base), STACK_GUARD_BYTES, PROT_NONE);
    return base;
  }
  const uintptr_t base = free_.back();
  free_.pop_back();
  return base;
}

void Stacks::give_back_all() {
  free_.clear();
  for (size_t i = guarded_; i-- > 0;) free_.push_back(first_ + i * STACK_BYTES);
}

bool Stacks::overflowed_at(const void* address) const {
  const uintptr_t offset = reinterpret_cast<uintptr_t>(address) - first_;
  return offset < guarded_ * STACK_BYTES && offset % STACK_BYTES < STACK_GUARD_BYTES;
}

void* fresh_context(uintptr_t base) {
  auto* context = reinterpret_cast<uintptr_t*>(stack_top(base));
#if defined(__x86_64__)
  constexpr int REGISTERS = 6;
  *--context = 0;  // the return address of the entry: ends backtraces, and aligns the stack as a call would
  *--context = reinterpret_cast<uintptr_t>(&minicnn_enter_fiber);
#else
  constexpr int REGISTERS = 20, LINK_REGISTER = 11;
#endif
  context -= REGISTERS;
  for (int i = 0; i < REGISTERS; ++i) context[i] = 0;
#if defined(__aarch64__)
  context[LINK_REGISTER] = reinterpret_cast<uintptr_t>(&minicnn_enter_fiber);
#endif
  return context;
}

}  // namespace minicnn::emulation
