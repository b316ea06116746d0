// Which threads of a block can run, and which of them goes next.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>

#include "emulation/options.h"

namespace minicnn::emulation {

constexpr unsigned WARP = 32, MAX_THREADS = 1024, MAX_WARPS = MAX_THREADS / WARP;
constexpr int NAMED_BARRIERS = 16;

// SplitMix64 (Steele, Lea, Flood 2014): the same numbers on every platform.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t operator()() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
  }
  unsigned below(unsigned bound) { return unsigned(((*this)() >> 32) * bound >> 32); }

 private:
  uint64_t state_;
};

// A set of thread numbers, a word a warp.
class ReadySet {
 public:
  void clear() { *this = {}; }
  void add(unsigned warp, uint32_t lanes) {
    lanes_[warp] |= lanes;
    warps_ |= 1u << warp;
  }
  void add_first(unsigned threads) {
    for (unsigned warp = 0; threads > 0; ++warp) {
      const unsigned lanes = std::min(threads, WARP);
      add(warp, ~0u >> (WARP - lanes));
      threads -= lanes;
    }
  }
  bool empty() const { return warps_ == 0; }
  // The lowest, the highest or any.
  unsigned take(Order order, Random& random) {
    unsigned warp, lane;
    if (order == Order::forward) {
      warp = unsigned(std::countr_zero(warps_)), lane = unsigned(std::countr_zero(lanes_[warp]));
    } else if (order == Order::reverse) {
      warp = unsigned(std::bit_width(warps_)) - 1, lane = unsigned(std::bit_width(lanes_[warp])) - 1;
    } else {
      const uint64_t places = random();
      warp = any_bit(warps_, places % 32), lane = any_bit(lanes_[warp], places / 32 % 32);
    }
    lanes_[warp] &= ~(1u << lane);
    if (lanes_[warp] == 0) warps_ &= ~(1u << warp);
    return warp * WARP + lane;
  }

 private:
  // The first set bit at or, going round, after a random place.
  static unsigned any_bit(uint32_t bits, unsigned place) {
    return (unsigned(std::countr_zero(std::rotr(bits, int(place)))) + place) % 32;
  }

  uint32_t warps_ = 0;  // those with a runnable lane
  uint32_t lanes_[MAX_WARPS] = {};
};

}  // namespace minicnn::emulation
