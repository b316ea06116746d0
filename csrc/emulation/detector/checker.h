// Looks at every access: may it be made, was the memory written, and is it ordered after those that exclude it?
//
// The rules are those of FastTrack (Flanagan, Freund 2009), with all concurrent reads kept, atomics among them, and
// with asynchronous copies as agents of their own.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "emulation/detector/clocks.h"
#include "emulation/detector/report.h"
#include "emulation/detector/shadow.h"
#include "emulation/runtime.h"

namespace minicnn::emulation::detector {

// One access, and what it may do to the cells that it reaches.
struct Visit {
  uintptr_t address;
  unsigned bytes;
  Access access;
  unsigned thread;
  Trace trace;

  bool reads() const { return access == Access::read || access == Access::update; }
  bool writes() const { return access != Access::read; }
  bool is_atomic() const { return trace.epoch.is_atomic(); }
};

// Knows the block that runs, and what the launch's earlier blocks did.
class Checker {
 public:
  void begin_launch();
  void begin_block(uint64_t number, const Block& block);
  void end_block();

  void visit(const Visit& visit);

  // The atomic that the thread has just visited the memory by has written it; the thread is at a fence.
  void mark_write(uintptr_t address, unsigned bytes);
  void mark_fence(unsigned thread, Scope scope);

  // Ends the block for what the thread is about to do at `code`.
  [[noreturn, gnu::cold]] void refuse(Finding finding, unsigned thread, const void* code) {
    finding.mine = party({clocks.epoch(thread), code_number(code)}, Access::read);
    abandon_block(finding);
  }

  // Whether the thread has accessed these words in this way before, since it last met others and since others wrote.
  template <Access ACCESS>
  bool repeats(uintptr_t begin, size_t bytes, Epoch now) {
    if ((begin | bytes) % WORD != 0) return false;
    for (uintptr_t word = begin / WORD; word < (begin + bytes) / WORD; ++word) {
      const Cell& cell = shadow.word(word);
      if (ACCESS == Access::read ? cell.read != now : cell.written != now || cell.read) return false;
    }
    return true;
  }

  // What ended the block, and what it read before it was written.
  std::string take_found() { return describe(std::exchange(found_, {})); }
  std::string take_unwritten(bool of_shared) {
    if (unwritten_ && is_shared(unwritten_.address) == of_shared) return describe(std::exchange(unwritten_, {}));
    return "";
  }

  Clocks clocks;
  Shadow shadow;

 private:
  bool is_shared(uintptr_t address) const { return address - shared_begin_ < shared_bytes_; }
  std::string describe(const Finding& finding) const { return finding ? finding.describe(*block_) : ""; }

  void visit_word(const Visit& visit, uintptr_t word, unsigned mask, Era& era);
  void visit_bytes(const Visit& visit, uintptr_t word, unsigned mask, Era& era);
  void visit_cell(const Visit& visit, Cell& cell, Era& era);
  void read_cell(const Visit& visit, Cell& cell, Era& era);
  void write_cell(const Visit& visit, Cell& cell, Era& era);
  template <class Mark>
  void for_each_cell(uintptr_t address, unsigned bytes, const Mark& mark);
  void add_reader(const Visit& visit, Cell& cell, Era& era);
  void remember(const Visit& visit, Readers& readers);
  bool supersedes(const Visit& visit, Epoch earlier);

  void require_order(const Visit& visit, Epoch& earlier, uint32_t code, Access access, const Era& era) {
    if (earlier.time() >= era.begin && !clocks.is_ordered(earlier, visit.thread)) race(visit, {earlier, code}, access);
  }
  void require_order_of_readers(const Visit& visit, Cell& cell, Era& era);
  bool are_strong(Epoch atomic, Epoch other) const;
  bool excludes(const Visit& visit, Epoch earlier) const;
  bool has_been_seen(const Visit& visit, const std::vector<Trace>& traces, Epoch write, size_t next) const;
  void check_written(const Visit& visit, uintptr_t word, unsigned mask);
  Finding::Party party(Trace trace, Access access) const { return {access, trace, clocks.block_number(trace.epoch)}; }
  [[noreturn, gnu::cold]] void race(const Visit& visit, Trace earlier, Access access);
  [[noreturn, gnu::cold]] void out_of_bounds(const Visit& visit);
  [[noreturn, gnu::cold]] void abandon_block(const Finding& finding);

  const Block* block_ = nullptr;
  uintptr_t shared_begin_ = 0, shared_bytes_ = 0;
  uintptr_t at_ = 0;  // the byte that is being looked at
  Era of_launch_, of_block_;
  Finding found_, unwritten_;
  std::vector<std::vector<std::pair<uintptr_t, unsigned>>> unfenced_{MAX_THREADS};  // each thread's atomics
  bool has_unfenced_ = false;
};

}  // namespace minicnn::emulation::detector
