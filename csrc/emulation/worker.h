// The runtime's heart: runs the threads of a block, one after another, up to where they wait for each other.
#pragma once
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "emulation/copies.h"
#include "emulation/fiber.h"
#include "emulation/options.h"
#include "emulation/ready_set.h"
#include "emulation/runtime.h"

namespace minicnn::emulation {

constexpr size_t MAX_SHARED_BYTES = 227 * 1024;  // the most that any architecture gives a block
constexpr size_t SHARED_ALIGNMENT = 1024;        // of its end, behind which a guard page begins

struct Thread {
  uint3 index;
  unsigned linear;          // its number in the block
  void* context = nullptr;  // where it goes on; null before it starts, while it runs and when it has returned
};

// A built-in in which threads wait for each other, and where the kernel calls it.
struct Call {
  const char* name = nullptr;
  Where where;
};

// Lanes of one warp that meet in one collective.
struct Group {
  uint32_t mask = 0, arrived = 0;
  Call call;
};

struct Warp {
  void* operands[WARP];
  Group groups[WARP];  // by the lowest lane of the mask
};

struct Barrier {
  unsigned arrived = 0;
  int votes = 0, result = 0;
  Call call;
};

// A barrier of a part of the block: opens when `expected` threads have come.
struct NamedBarrier {
  unsigned expected = 0, arrived = 0;
  uint32_t present[MAX_WARPS] = {}, waiting[MAX_WARPS] = {};  // lanes
  Call call;                                                  // of the last that waits, or else of the first to come
};

// One OS thread's share of a grid: runs a block at a time.
class Worker {
 public:
  Worker();
  void begin(const Launch& launch);
  void run_block(uint64_t number);

  [[noreturn]] void run_threads(Current& mine);          // on a fresh fiber
  [[noreturn]] void abandon_block(const void* address);  // after a fault, from the signal handler
  [[noreturn]] void abandon_block();                     // for what the detector has found
  bool is_in_kernel() const { return running_ != nullptr; }

  int synchronize_block(const char* name, bool predicate, Where where);
  void synchronize_warp(const char* name, uint32_t mask, Operation operation, void* operand, Where where);
  void come_to_barrier(const char* name, int barrier, int threads, bool waits, Where where);
  void start_copy(const Copy& copy, Where where, const void* code);  // that started it
  void commit_copies() { copies_.commit(running_->linear); }
  void wait_for_copies(unsigned pending) { copies_.wait(running_->linear, pending); }
  std::string describe(const std::string& message) const;

 private:
  Thread* take_ready() { return ready_.empty() ? nullptr : &threads_[ready_.take(options_.order, random_)]; }
  void* start_fiber();
  void run(Thread* thread, void** save);
  void suspend();
  [[noreturn]] void fail_block();
  void ask_detector();
  void check_shared_slack();
  std::exception_ptr error_of_kernel(std::exception_ptr thrown) const;
  std::string describe_shared() const;
  std::string describe_fault() const;
  std::string describe_deadlock() const;
  std::string describe_state(const Thread& thread) const;
  [[noreturn, gnu::cold, gnu::noinline]] void fail_divergent_block(const Call& mine) const;
  void check_arrival(int number, int threads, const Call& mine) const;
  void forget_arrivals();
  [[noreturn, gnu::cold, gnu::noinline]] void fail_outside_mask(const Call& mine, unsigned lane) const;
  [[noreturn, gnu::cold, gnu::noinline]] void fail_divergent_warp(const Call& mine, uint32_t mask,
                                                                  const Group& group) const;

  const Launch* launch_ = nullptr;
  Options options_;
  Random random_{0};
  Block block_{};
  unsigned char* shared_end_;  // a guard page begins here
  unsigned thread_count_ = 1;  // of block_.size, which starts as (1, 1, 1)
  unsigned unfinished_ = 0;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  Barrier barrier_;
  NamedBarrier named_barriers_[NAMED_BARRIERS];
  bool uses_named_barriers_ = false;
  Copies copies_;
  ReadySet ready_;
  Stacks stacks_;
  Thread* running_ = nullptr;
  void* host_ = nullptr;  // where run_block goes on
  std::exception_ptr error_;
  const void* fault_ = nullptr;
  bool has_faulted_ = false;
};

}  // namespace minicnn::emulation
