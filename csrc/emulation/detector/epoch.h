// A moment in the life of a thread of the grid, and what the thread did then, in 64 bits.
#pragma once
#include <bit>
#include <cstdint>

#include "emulation/detector/order.h"

namespace minicnn::emulation::detector {

// What kind of access it was: one of these, or an atomic.
enum class Kind : unsigned {
  plain,
  copy,         // of an asynchronous copy that may be under way; the time then names its group
  waited_copy,  // of one that its thread has waited for, at this time
  // An atomic: ATOMIC, its size, and what else holds of it, in bits.
};
constexpr unsigned SIZE = 0b11, BLOCK_SCOPE = 0b100, ATOMIC = 0b1000;
constexpr unsigned HAS_WRITTEN = 1 << 4, FENCED_IN_BLOCK = 1 << 5, FENCED = 1 << 6;  // what became of it

constexpr Kind atomic_kind(unsigned bytes, Scope scope) {
  return Kind(ATOMIC | unsigned(std::countr_zero(bytes)) | (scope == Scope::block ? BLOCK_SCOPE : 0));
}

// Times are numbers of one process-wide count, which goes up whenever a thread orders what it did before against what
// others do later: the times of a launch, and within it those of a block (blocks run one after another), are a range.
class Epoch {
 public:
  constexpr Epoch() = default;  // before everything
  constexpr Epoch(uint64_t time, unsigned thread, Kind kind = Kind::plain)
      : bits_(time << 18 | uint64_t(kind) << 10 | thread) {}

  constexpr uint64_t time() const { return bits_ >> 18; }
  constexpr unsigned thread() const { return unsigned(bits_ & 1023); }  // in its block
  constexpr Kind kind() const { return Kind(bits_ >> 10 & 255); }
  constexpr Epoch as(Kind kind) const { return {time(), thread(), kind}; }

  // Of an atomic. It may find that it need not write; its thread may come to a fence later.
  constexpr bool is_atomic() const { return has(ATOMIC); }
  constexpr bool is_in_block_scope() const { return has(BLOCK_SCOPE); }
  constexpr unsigned size() const { return unsigned(kind()) & SIZE; }
  constexpr bool has(unsigned flags) const { return unsigned(kind()) & flags; }
  constexpr Epoch with(unsigned flag) const { return as(Kind(unsigned(kind()) | flag)); }
  constexpr Kind instruction() const { return Kind(unsigned(kind()) & (ATOMIC | BLOCK_SCOPE | SIZE)); }

  constexpr bool operator==(const Epoch&) const = default;
  constexpr explicit operator bool() const { return bits_ != 0; }

 private:
  uint64_t bits_ = 0;
};

}  // namespace minicnn::emulation::detector
