#include "emulation/detector/arena.h"

#include <sys/mman.h>

#include <map>
#include <new>
#include <vector>

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

namespace minicnn::emulation::detector {
namespace {

struct Arena {
  uintptr_t begin = reinterpret_cast<uintptr_t>(reserve(ARENA_BYTES));
  uintptr_t end = begin;                      // of what was ever taken
  std::map<size_t, std::vector<void*>> free;  // by their bytes
};

Arena& state() {
  static Arena arena;
  return arena;
}

}  // namespace

uintptr_t arena() { return state().begin; }

void* reserve(size_t bytes) {
  void* begin = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
  if (begin == MAP_FAILED) throw std::bad_alloc();
  return begin;
}

void* take_pages(size_t bytes) {
  auto& candidates = state().free[bytes];
  if (candidates.empty()) {
    if (bytes > state().begin + ARENA_BYTES - state().end) throw std::bad_alloc();
    void* pages = reinterpret_cast<void*>(state().end);
    state().end += bytes;
    return pages;
  }
  void* pages = candidates.back();
  candidates.pop_back();
  return pages;
}

void give_back_pages(void* pages, size_t bytes) {
  mmap(pages, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE | MAP_FIXED, -1, 0);
  state().free[bytes].push_back(pages);
}

}  // namespace minicnn::emulation::detector
