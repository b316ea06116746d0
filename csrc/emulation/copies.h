// The asynchronous copies of a block that are under way.
#pragma once
#include <vector>

#include "emulation/options.h"
#include "emulation/ready_set.h"
#include "emulation/runtime.h"

namespace minicnn::emulation {

class Copies {
 public:
  Copies() : threads_(MAX_THREADS) {}

  // Those of the block before, which nobody waited for, are forgotten: nobody would see them.
  void begin_block(const Options& options, uint64_t number);

  void start(unsigned thread, const Copy& copy);
  void commit(unsigned thread) { ++threads_[thread].group; }
  void wait(unsigned thread, unsigned pending);

  // Some of the thread's copies take place, where that is left to chance.
  void stir(unsigned thread);
  bool can_stir() const { return asynchrony_ == Asynchrony::random && any_started_; }

 private:
  struct Pending {
    Copy copy;
    unsigned group;
  };
  struct OfThread {
    std::vector<Pending> pending;  // in the order of their starts
    unsigned group = 0;            // that the next copy belongs to: the number of groups committed
  };

  Asynchrony asynchrony_ = Asynchrony::late;
  Random random_{0};
  bool any_started_ = false;
  std::vector<OfThread> threads_;
};

}  // namespace minicnn::emulation
