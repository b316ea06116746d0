// The detector of data races, reads of what was never written and accesses out of bounds, in the checked module only.
//
// What it tells the two kinds of callers: the runtime (here), and the built-ins of kernels (order.h). The compiler
// tells it of every load and store of a kernel file (hooks.cpp).
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "emulation/detector/order.h"
#include "emulation/ready_set.h"
#include "emulation/runtime.h"

namespace minicnn::emulation::detector {

// Device memory [address, address + bytes) exists, and nothing has been written there; and exists no longer.
void begin_buffer(const void* address, size_t bytes);
void end_buffer(const void* address, size_t bytes);

// The host has written there.
void mark_written(const void* address, size_t bytes);

void begin_launch(const Launch& launch);
void begin_block(uint64_t number, const Block& block);

// What is wrong with the block, or nothing. `is_abandoned`: the detector or a fault has ended it before its time.
std::string end_block(bool is_abandoned);
std::string end_launch();

void order_block();
void come_to_barrier(int barrier, unsigned thread);
void leave_barrier(int barrier, const uint32_t (&waiting)[MAX_WARPS]);

void start_copy(const Copy& copy, const void* code);
void commit_copies();
void wait_for_copies(unsigned pending);

// The current thread accesses memory, in the code that `code` returns to.
void read(const void* address, size_t bytes, const void* code);
void write(const void* address, size_t bytes, const void* code);

// It would step outside of an array of this type, in quotation marks, or access an address that is not divisible by
// `alignment` (undefined.cpp).
[[noreturn]] void refuse_index(int64_t index, const char* array, const void* code);
[[noreturn]] void refuse_address(uintptr_t address, unsigned alignment, const void* code);

}  // namespace minicnn::emulation::detector
