// What the built-ins of a kernel tell the detector of races. In the plain module CHECKED is false and nothing is told.
#pragma once
#include <cstdint>

namespace minicnn::emulation {

#ifdef MINICNN_CHECKED
constexpr bool CHECKED = true;
#else
constexpr bool CHECKED = false;
#endif

// Whose accesses an atomic or a fence reckons with: those of the thread's own block, or of all.
enum class Scope { block, device };

namespace detector {

// The calling thread is about to read and write `bytes` at `address` as one, or to write them whatever is there; and
// has written them.
enum class Atomic { update, exchange };
void begin_atomic(const void* address, unsigned bytes, Scope scope, Atomic kind);
void end_atomic_write(const void* address, unsigned bytes, Scope scope);

void fence(Scope scope);

// All lanes of the calling thread's warp that `lanes` names have met.
void order_warp(uint32_t lanes);

}  // namespace detector
}  // namespace minicnn::emulation
