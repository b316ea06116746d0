// What is known of every byte of the arena: whether it may be accessed, whether it was written, and the accesses that
// later ones may race with.
//
// A cell stands for an aligned word of four bytes as long as all accesses reach all four; a word that is accessed in
// part has a cell a byte. What cells hold ends with their era: that of shared memory is a block, that of global memory
// a launch. They are never cleared, their times and numbers tell that they are of an earlier one.
#pragma once
#include <cstdint>
#include <deque>
#include <vector>

#include "emulation/detector/arena.h"
#include "emulation/detector/epoch.h"
#include "emulation/ready_set.h"

namespace minicnn::emulation::detector {

constexpr unsigned WORD = 4, WHOLE_WORD = 0b1111;  // bytes; all of them as bits

// An access and the place in the code that made it, as a distance from the module's beginning.
struct Trace {
  Epoch epoch;
  uint32_t code = 0;
};

// The reads and atomics of a byte since its last write, where they are several that are not ordered.
struct Readers {
  std::vector<Trace> traces;
  bool has_atomics = false;
  uint64_t block = 0, barrier = 0;   // the block and the barrier after which the last one came
  uint32_t present[MAX_WARPS] = {};  // the threads of that block among them
};

struct Cell {
  Epoch written, read;             // the last write; the last read or atomic since, if any
  uint32_t write_code, read_code;  // where
  uint32_t readers;                // 0, or which of the era's Readers holds all of them
  uint32_t split;                  // the era in which the bytes of the word got cells of their own
};
static_assert(sizeof(Cell) == 32);

struct Era {
  uint64_t begin = 0;   // its first time
  uint32_t number = 0;  // unique
  std::deque<Readers> readers = std::deque<Readers>(1);
  std::vector<uint32_t> free;
  uint32_t used = 1;

  uint32_t take_readers();
  void give_back(uint32_t index) { free.push_back(index); }
  void start(uint64_t time);
};

// By the distance from the arena's beginning, in words or in bytes.
class Shadow {
 public:
  Shadow();

  // A state has, for each byte of the word, a bit that says that it may be accessed, and one that it was written.
  uint8_t& state(uintptr_t word) { return states_[word]; }
  Cell& word(uintptr_t word) { return words_[word]; }
  Cell* bytes(uintptr_t word) { return bytes_ + WORD * word; }

  void set_accessible(uintptr_t begin, uintptr_t end, bool accessible);  // and not written
  void set_written(uintptr_t begin, uintptr_t end);

  // Gives each byte of the word a cell like the word's.
  void split(uintptr_t word, Era& era);

 private:
  uint8_t* states_;
  Cell *words_, *bytes_;
};

}  // namespace minicnn::emulation::detector
