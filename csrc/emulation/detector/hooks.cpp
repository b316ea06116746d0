// What the compiler calls for every load and store of a file that it compiles with -fsanitize=thread. The library that
// usually answers is not linked: these functions tell the detector. No exception may leave them.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "emulation/detector/detector.h"

namespace detector = minicnn::emulation::detector;

#define ACCESS(bytes)                                                                                               \
  void __tsan_read##bytes(void* address) { detector::read(address, bytes, __builtin_return_address(0)); }           \
  void __tsan_write##bytes(void* address) { detector::write(address, bytes, __builtin_return_address(0)); }         \
  void __tsan_unaligned_read##bytes(void* address) { detector::read(address, bytes, __builtin_return_address(0)); } \
  void __tsan_unaligned_write##bytes(void* address) { detector::write(address, bytes, __builtin_return_address(0)); }

// Atomics of host code and of the built-ins; what they mean to the detector, the built-ins tell it themselves.
#define ATOMIC(bits)                                                                                           \
  uint##bits##_t __tsan_atomic##bits##_load(const uint##bits##_t* address, int) {                              \
    return __atomic_load_n(address, __ATOMIC_SEQ_CST);                                                         \
  }                                                                                                            \
  void __tsan_atomic##bits##_store(uint##bits##_t* address, uint##bits##_t value, int) {                       \
    __atomic_store_n(address, value, __ATOMIC_SEQ_CST);                                                        \
  }                                                                                                            \
  uint##bits##_t __tsan_atomic##bits##_exchange(uint##bits##_t* address, uint##bits##_t value, int) {          \
    return __atomic_exchange_n(address, value, __ATOMIC_SEQ_CST);                                              \
  }                                                                                                            \
  uint##bits##_t __tsan_atomic##bits##_fetch_add(uint##bits##_t* address, uint##bits##_t value, int) {         \
    return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);                                               \
  }                                                                                                            \
  uint##bits##_t __tsan_atomic##bits##_fetch_sub(uint##bits##_t* address, uint##bits##_t value, int) {         \
    return __atomic_fetch_sub(address, value, __ATOMIC_SEQ_CST);                                               \
  }                                                                                                            \
  int __tsan_atomic##bits##_compare_exchange_strong(uint##bits##_t* address, uint##bits##_t* expected,         \
                                                    uint##bits##_t desired, int, int) {                        \
    return __atomic_compare_exchange_n(address, expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                                            \
  int __tsan_atomic##bits##_compare_exchange_weak(uint##bits##_t* address, uint##bits##_t* expected,           \
                                                  uint##bits##_t desired, int, int) {                          \
    return __atomic_compare_exchange_n(address, expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }

extern "C" {

ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
void __tsan_read_range(void* address, size_t bytes) { detector::read(address, bytes, __builtin_return_address(0)); }
void __tsan_write_range(void* address, size_t bytes) { detector::write(address, bytes, __builtin_return_address(0)); }

// Clang's for the built-ins that it makes of loops and of large copies.
void* __tsan_memcpy(void* target, const void* source, size_t bytes) {
  detector::read(source, bytes, __builtin_return_address(0));
  detector::write(target, bytes, __builtin_return_address(0));
  return std::memcpy(target, source, bytes);
}
void* __tsan_memmove(void* target, const void* source, size_t bytes) {
  detector::read(source, bytes, __builtin_return_address(0));
  detector::write(target, bytes, __builtin_return_address(0));
  return std::memmove(target, source, bytes);
}
void* __tsan_memset(void* target, int value, size_t bytes) {
  detector::write(target, bytes, __builtin_return_address(0));
  return std::memset(target, value, bytes);
}

ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}

}  // extern "C"
