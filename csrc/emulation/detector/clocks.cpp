#include "emulation/detector/clocks.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace minicnn::emulation::detector {
namespace {

void join(Knowledge& into, const Knowledge& other) {
  for (const auto& [begin, times] : other) {
    BlockTimes& mine = into[begin];
    mine.barrier = std::max(mine.barrier, times.barrier);
    for (const auto& [thread, time] : times.threads) mine.threads[thread] = std::max(mine.threads[thread], time);
  }
}

}  // namespace

void ThreadTimes::raise(unsigned thread, uint64_t time) {
  const unsigned warp = thread / WARP;
  if (!has_row(warp)) {
    std::memset(times_ + warp * WARP, 0, WARP * sizeof *times_);
    rows_ |= 1u << warp;
  }
  times_[thread] = std::max(times_[thread], time);
}

void ThreadTimes::join(const ThreadTimes& other) {
  for (uint32_t rows = other.rows_; rows; rows &= rows - 1) {
    const auto warp = unsigned(std::countr_zero(rows));
    const uint64_t* theirs = other.times_ + warp * WARP;
    uint64_t* mine = times_ + warp * WARP;
    if (has_row(warp))
      for (unsigned lane = 0; lane < WARP; ++lane) mine[lane] = std::max(mine[lane], theirs[lane]);
    else
      std::memcpy(mine, theirs, WARP * sizeof *mine);
  }
  rows_ |= other.rows_;
}

void Clocks::begin_launch() {
  launch_begin_ = ++now_;
  blocks_.clear();
  locations_.clear();
  finished_.clear();
}

void Clocks::begin_block(uint64_t number, unsigned threads) {
  thread_count_ = threads;
  block_begin_ = ++now_;
  blocks_.emplace_back(block_begin_, number);
  order_block();
}

void Clocks::end_block(const void* shared_begin, const void* shared_end) {
  if (is_plain_) return;
  is_plain_ = true;
  for (unsigned thread = 0; thread < thread_count_; ++thread) threads_[thread] = {};
  for (Barrier& barrier : barriers_) {
    barrier.known.clear();
    barrier.others.clear();
  }
  std::erase_if(locations_, [&](const auto& entry) { return shared_begin <= entry.first && entry.first < shared_end; });
}

uint64_t Clocks::block_number(Epoch epoch) const {
  const auto after = std::upper_bound(blocks_.begin(), blocks_.end(), std::pair(epoch.time(), UINT64_MAX));
  return std::prev(after)->second;
}

bool Clocks::knows_other_block(Epoch earlier, unsigned thread) const {
  const Knowledge& others = threads_[thread].others;
  if (others.empty()) return false;
  const auto after = std::upper_bound(blocks_.begin(), blocks_.end(), std::pair(earlier.time(), UINT64_MAX));
  const auto block = others.find(std::prev(after)->first);
  if (block == others.end()) return false;
  const auto known = block->second.threads.find(earlier.thread());
  return earlier.time() <= block->second.barrier ||
         (known != block->second.threads.end() && earlier.time() <= known->second);
}

void Clocks::order_block() {
  barrier_ = now_++;
  for (unsigned thread = 0; thread < thread_count_; ++thread) {
    epochs_[thread] = Epoch(now_, thread);
    known_[thread].clear();
  }
  if (is_plain_) return;
  Knowledge all;
  for (unsigned thread = 0; thread < thread_count_; ++thread) join(all, threads_[thread].others);
  for (unsigned thread = 0; thread < thread_count_; ++thread) threads_[thread].others = all;
}

void Clocks::order_warp(unsigned warp, uint32_t lanes) {
  ThreadTimes all;
  Knowledge others;
  for (uint32_t rest = lanes; rest; rest &= rest - 1) {
    const unsigned thread = warp * WARP + unsigned(std::countr_zero(rest));
    all.join(known_[thread]);
    all.raise(thread, epochs_[thread].time());
    if (!is_plain_) join(others, threads_[thread].others);
  }
  ++now_;
  for (uint32_t rest = lanes; rest; rest &= rest - 1) {
    const unsigned thread = warp * WARP + unsigned(std::countr_zero(rest));
    known_[thread].join(all);
    epochs_[thread] = Epoch(now_, thread);
    if (!is_plain_) threads_[thread].others = others;
  }
}

void Clocks::come_to_barrier(unsigned number, unsigned thread) {
  is_plain_ = false;
  Barrier& barrier = barriers_[number];
  barrier.known.join(known_[thread]);
  barrier.known.raise(thread, epochs_[thread].time());
  join(barrier.others, threads_[thread].others);
  advance(thread);
}

void Clocks::leave_barrier(unsigned number, const uint32_t (&waiting)[MAX_WARPS]) {
  Barrier& barrier = barriers_[number];
  for (unsigned warp = 0; warp < MAX_WARPS; ++warp)
    for (uint32_t rest = waiting[warp]; rest; rest &= rest - 1) {
      const unsigned thread = warp * WARP + unsigned(std::countr_zero(rest));
      known_[thread].join(barrier.known);
      join(threads_[thread].others, barrier.others);
    }
  barrier.known.clear();
  barrier.others.clear();
}

Knowledge Clocks::snapshot(unsigned thread) const {
  Knowledge all = threads_[thread].others;
  BlockTimes& mine = all[block_begin_];
  mine.barrier = barrier_;
  known_[thread].for_each([&](unsigned other, uint64_t time) { mine.threads[other] = time; });
  mine.threads[thread] = epochs_[thread].time();
  return all;
}

void Clocks::learn(unsigned thread, const Knowledge& news) {
  for (const auto& [begin, times] : news) {
    if (begin != block_begin_)
      join(threads_[thread].others, {{begin, times}});
    else
      for (const auto& [other, time] : times.threads) known_[thread].raise(other, time);
  }
}

void Clocks::fence(unsigned thread, Scope scope) {
  is_plain_ = false;
  OfThread& mine = threads_[thread];
  learn(thread, mine.received_in_block);
  mine.received_in_block.clear();
  if (scope == Scope::device) {
    learn(thread, mine.received);
    mine.received.clear();
  }
  mine.fenced_in_block = snapshot(thread);
  if (scope == Scope::device) mine.fenced = mine.fenced_in_block;
  advance(thread);
}

void Clocks::read_atomically(unsigned thread, const void* address, Scope scope) {
  const auto found = locations_.find(address);
  if (found == locations_.end()) return;
  is_plain_ = false;
  const Location& location = found->second;
  if (scope == Scope::device) join(threads_[thread].received, location.released);
  if (location.block == block_begin_) join(threads_[thread].received_in_block, location.released_in_block);
}

void Clocks::write_atomically(unsigned thread, const void* address, Scope scope) {
  const OfThread& mine = threads_[thread];
  if (mine.fenced_in_block.empty()) return;
  Location& location = locations_[address];
  if (scope == Scope::device) join(location.released, mine.fenced);
  if (location.block != block_begin_) location.released_in_block.clear();
  location.block = block_begin_;
  join(location.released_in_block, mine.fenced_in_block);
}

Epoch Clocks::copy_epoch(unsigned thread) {
  is_plain_ = false;
  uint64_t& group = threads_[thread].open_group;
  if (group == 0) group = ++now_;
  return {group, thread, Kind::copy};
}

void Clocks::commit_copies(unsigned thread) {
  is_plain_ = false;
  threads_[thread].groups.push_back(threads_[thread].open_group);
  threads_[thread].open_group = 0;
}

void Clocks::wait_for_copies(unsigned thread, unsigned pending) {
  auto& groups = threads_[thread].groups;
  if (groups.size() <= pending) return;
  const auto end = groups.end() - pending;
  for (auto group = groups.begin(); group != end; ++group) finished_[*group] = epochs_[thread].as(Kind::waited_copy);
  groups.erase(groups.begin(), end);
}

bool Clocks::finish(Epoch& copy) const {
  const auto found = finished_.find(copy.time());
  if (found == finished_.end()) return false;
  copy = found->second;
  return true;
}

}  // namespace minicnn::emulation::detector
