// Which accesses of a launch are ordered: vector clocks (Fidge 1988, Mattern 1989) of the threads of one block at a
// time.
//
// Blocks run one after another and are concurrent all the same. What a thread knows of its own block is the block's
// last barrier, and beyond that the times of single threads; of other blocks it knows what atomics and fences have told
// it.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "emulation/detector/epoch.h"
#include "emulation/detector/order.h"
#include "emulation/ready_set.h"

namespace minicnn::emulation::detector {

// The times up to which the threads of a block are known, a row a warp; no row is a row of zeros.
class ThreadTimes {
 public:
  uint64_t operator[](unsigned thread) const { return has_row(thread / WARP) ? times_[thread] : 0; }
  void raise(unsigned thread, uint64_t time);
  void join(const ThreadTimes& other);
  void clear() { rows_ = 0; }
  template <class Visit>
  void for_each(const Visit& visit) const {
    for (unsigned thread = 0; thread < MAX_THREADS; ++thread)
      if (const uint64_t time = (*this)[thread]) visit(thread, time);
  }

 private:
  bool has_row(unsigned warp) const { return rows_ >> warp & 1; }

  uint32_t rows_ = 0;
  uint64_t times_[MAX_THREADS];
};

// What is known of blocks, by their first times: each thread up to the block's last barrier, some of them further.
struct BlockTimes {
  uint64_t barrier = 0;
  std::map<unsigned, uint64_t> threads;
};
using Knowledge = std::map<uint64_t, BlockTimes>;

class Clocks {
 public:
  Clocks() : epochs_(MAX_THREADS), known_(MAX_THREADS), threads_(MAX_THREADS), barriers_(NAMED_BARRIERS) {}

  void begin_launch();
  void begin_block(uint64_t number, unsigned threads);
  void end_block(const void* shared_begin, const void* shared_end);

  uint64_t launch_begin() const { return launch_begin_; }
  uint64_t block_begin() const { return block_begin_; }
  uint64_t last_barrier() const { return barrier_; }
  Epoch epoch(unsigned thread) const { return epochs_[thread]; }

  // Whether what happened at `earlier`, in this launch, happened before what the thread does now. A copy happens when
  // it is waited for; `earlier` becomes that moment.
  bool is_ordered(Epoch& earlier, unsigned thread) const {
    if (earlier.kind() == Kind::copy && !finish(earlier)) return false;
    if (earlier.time() < block_begin_) return knows_other_block(earlier, thread);
    return earlier.time() <= barrier_ || earlier.thread() == thread ||
           earlier.time() <= known_[thread][earlier.thread()];
  }
  bool is_of_this_block(Epoch epoch) const { return epoch.time() >= block_begin_; }
  bool are_of_one_block(Epoch a, Epoch b) const { return block_number(a) == block_number(b); }
  uint64_t block_number(Epoch epoch) const;

  void order_block();
  void order_warp(unsigned warp, uint32_t lanes);
  void come_to_barrier(unsigned barrier, unsigned thread);
  void leave_barrier(unsigned barrier, const uint32_t (&waiting)[MAX_WARPS]);

  // PTX's release and acquire patterns: a fence and then an atomic write; an atomic that reads it and then a fence.
  // Writes that read what they replace carry on what earlier ones released (C++20 6.9.2.1, release sequences).
  void fence(unsigned thread, Scope scope);
  void read_atomically(unsigned thread, const void* address, Scope scope);
  void write_atomically(unsigned thread, const void* address, Scope scope);

  Epoch copy_epoch(unsigned thread);  // of the group that the thread's next copy belongs to
  void commit_copies(unsigned thread);
  void wait_for_copies(unsigned thread, unsigned pending);

 private:
  // What few kernels need.
  struct OfThread {
    Knowledge others;                       // of blocks that ran before
    Knowledge fenced, fenced_in_block;      // known at the last fence of the scope or of a wider one
    Knowledge received, received_in_block;  // by atomics, until a fence of the scope makes it known
    uint64_t open_group = 0;                // of copies; 0 before its first
    std::vector<uint64_t> groups;           // committed and not waited for
  };
  struct Barrier {
    ThreadTimes known;  // by those that have come
    Knowledge others;
  };
  struct Location {
    Knowledge released;           // in device scope
    uint64_t block = 0;           // the block that wrote last
    Knowledge released_in_block;  // by it, in any scope
  };

  bool finish(Epoch& copy) const;
  bool knows_other_block(Epoch earlier, unsigned thread) const;
  void advance(unsigned thread) { epochs_[thread] = Epoch(++now_, thread); }
  Knowledge snapshot(unsigned thread) const;
  void learn(unsigned thread, const Knowledge& news);

  uint64_t now_ = 0, launch_begin_ = 0, block_begin_ = 0;
  uint64_t barrier_ = 0;  // the time of the block's last barrier: all threads know everything up to it
  unsigned thread_count_ = 0;
  bool is_plain_ = true;  // no thread of this block has anything in threads_
  std::vector<Epoch> epochs_;
  std::vector<ThreadTimes> known_;  // beyond the block's last barrier
  std::vector<OfThread> threads_;
  std::vector<Barrier> barriers_;
  std::vector<std::pair<uint64_t, uint64_t>> blocks_;  // first time and number of each block of the launch
  std::unordered_map<const void*, Location> locations_;
  std::unordered_map<uint64_t, Epoch> finished_;  // when a group of copies was waited for
};

}  // namespace minicnn::emulation::detector
