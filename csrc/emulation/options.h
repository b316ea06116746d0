// How the emulation schedules and which GPU it is, process-wide.
#pragma once
#include <cstdint>

namespace minicnn::emulation {

// Which of the runnable threads of a block goes next, and in which order the blocks of a grid start.
enum class Order { forward, reverse, random };

// When an asynchronous copy takes place: as soon as it is started, not before the thread waits for it, or at any of
// these and of the thread's barriers in between.
enum class Asynchrony { early, late, random };

struct Options {
  Order order = Order::forward;
  uint64_t seed = 0;  // of what is random
  int workers = 1;    // OS threads over which blocks are spread; at first MINICNN_EMULATED_WORKERS, where it is set
  Asynchrony asynchrony = Asynchrony::late;
  int capability = 90;  // 10 * major + minor: below 80, tensor cores know Float16 only, and that in halves
};

Options& options();

}  // namespace minicnn::emulation
