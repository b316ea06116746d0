// The addresses that device buffers and shared memory have in the checked module: one range, so that a shadow of it is
// found by arithmetic. Nothing of it takes memory before it is used.
#pragma once
#include <cstddef>
#include <cstdint>

namespace minicnn::emulation::detector {

constexpr size_t ARENA_BYTES = size_t(1) << 36;

// Its first byte, from the first call on.
uintptr_t arena();

// Address space, inaccessible; zeros where it is made accessible for the first time.
void* reserve(size_t bytes);

// Whole pages of the arena, inaccessible.
void* take_pages(size_t bytes);
void give_back_pages(void* pages, size_t bytes);

}  // namespace minicnn::emulation::detector
