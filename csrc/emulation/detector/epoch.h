// A moment in the life of a thread of the grid, in 64 bits.
#pragma once
#include <cstdint>

namespace minicnn::emulation::detector {

enum class Kind : unsigned {
  plain,
  atomic,           // in device scope
  atomic_of_block,  // in block scope
  copy,             // of an asynchronous copy that may be under way; the time then names its group
  waited_copy,      // of one that its thread has waited for, at this time
};

// Times are numbers of one process-wide count, which goes up whenever a thread orders what it did before against what
// others do later: the times of a launch, and within it those of a block (blocks run one after another), are a range.
class Epoch {
 public:
  constexpr Epoch() = default;  // before everything
  constexpr Epoch(uint64_t time, unsigned thread, Kind kind = Kind::plain)
      : bits_(time << 16 | uint64_t(kind) << 10 | thread) {}

  constexpr uint64_t time() const { return bits_ >> 16; }
  constexpr unsigned thread() const { return unsigned(bits_ & 1023); }  // in its block
  constexpr Kind kind() const { return Kind(bits_ >> 10 & 63); }
  constexpr bool is_atomic() const { return kind() == Kind::atomic || kind() == Kind::atomic_of_block; }
  constexpr Epoch as(Kind kind) const { return {time(), thread(), kind}; }
  constexpr bool operator==(const Epoch&) const = default;
  constexpr explicit operator bool() const { return bits_ != 0; }

 private:
  uint64_t bits_ = 0;
};

}  // namespace minicnn::emulation::detector
