// How the emulation schedules, process-wide.
#pragma once
#include <cstdint>

namespace minicnn::emulation {

// Which of the runnable threads of a block goes next, and in which order the blocks of a grid start.
enum class Order { forward, reverse, random };

struct Options {
  Order order = Order::forward;
  uint64_t seed = 0;  // of the random order
  int workers = 1;    // OS threads over which blocks are spread; at first MINICNN_EMULATED_WORKERS, where it is set
};

Options& options();

}  // namespace minicnn::emulation
