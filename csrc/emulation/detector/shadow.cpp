#include "emulation/detector/shadow.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace minicnn::emulation::detector {
namespace {

template <class T>
T* reserve_shadow(size_t count) {
  void* begin = reserve(count * sizeof(T));
  if (mprotect(begin, count * sizeof(T), PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  return static_cast<T*>(begin);
}

}  // namespace

uint32_t Era::take_readers() {
  uint32_t index = used;
  if (!free.empty()) {
    index = free.back();
    free.pop_back();
  } else if (++used > readers.size()) {
    readers.emplace_back();
  }
  readers[index].traces.clear();
  readers[index].has_atomics = false;
  readers[index].block = 0;
  return index;
}

void Era::start(uint64_t time) {
  static uint32_t eras = 0;
  begin = time;
  number = ++eras;
  used = 1;
  free.clear();
}

Shadow::Shadow()
    : states_(reserve_shadow<uint8_t>(ARENA_BYTES / WORD)),
      words_(reserve_shadow<Cell>(ARENA_BYTES / WORD)),
      bytes_(reserve_shadow<Cell>(ARENA_BYTES)) {}

void Shadow::set_accessible(uintptr_t begin, uintptr_t end, bool accessible) {
  const uintptr_t whole_end = end / WORD;  // begin is aligned
  std::memset(states_ + begin / WORD, accessible ? WHOLE_WORD : 0, whole_end - begin / WORD);
  if (end % WORD) states_[whole_end] = accessible ? uint8_t((1 << end % WORD) - 1) : 0;
}

void Shadow::set_written(uintptr_t begin, uintptr_t end) {
  while (begin < end && begin % WORD) states_[begin / WORD] |= uint8_t(16 << begin % WORD), ++begin;
  while (begin < end && end % WORD) --end, states_[end / WORD] |= uint8_t(16 << end % WORD);
  if (begin < end) std::memset(states_ + begin / WORD, WHOLE_WORD << 4 | WHOLE_WORD, (end - begin) / WORD);
}

void Shadow::split(uintptr_t word, Era& era) {
  Cell& whole = words_[word];
  Cell* parts = bytes(word);
  const bool has_readers = whole.readers != 0 && whole.read.time() >= era.begin;
  for (unsigned i = 0; i < WORD; ++i) {
    parts[i] = whole;
    parts[i].readers = 0;
    if (!has_readers) continue;
    parts[i].readers = era.take_readers();
    era.readers[parts[i].readers] = era.readers[whole.readers];
  }
  if (has_readers) era.give_back(whole.readers);
  whole.written = whole.read = Epoch();
  whole.readers = 0;
  whole.split = era.number;
}

}  // namespace minicnn::emulation::detector
