#include "emulation/copies.h"

#include <cstring>

namespace minicnn::emulation {
namespace {

void perform(const Copy& copy) {
  if (copy.inside)
    std::memcpy(copy.shared, copy.global, copy.bytes);
  else
    std::memset(copy.shared, 0, copy.bytes);
}

}  // namespace

void Copies::begin_block(const Options& options, uint64_t number) {
  asynchrony_ = options.asynchrony;
  random_ = Random(options.seed ^ (number + 1) * 0xA0761D6478BD642F);
  if (!any_started_) return;
  for (OfThread& thread : threads_) {
    thread.pending.clear();
    thread.group = 0;
  }
  any_started_ = false;
}

void Copies::start(unsigned thread, const Copy& copy) {
  any_started_ = true;
  if (asynchrony_ == Asynchrony::early || (asynchrony_ == Asynchrony::random && random_.below(2) == 0))
    perform(copy);
  else
    threads_[thread].pending.push_back({copy, threads_[thread].group});
}

void Copies::wait(unsigned thread, unsigned pending) {
  OfThread& mine = threads_[thread];
  std::erase_if(mine.pending, [&](const Pending& waiting) {
    if (waiting.group + pending >= mine.group) return false;
    perform(waiting.copy);
    return true;
  });
}

void Copies::stir(unsigned thread) {
  std::erase_if(threads_[thread].pending, [&](const Pending& waiting) {
    if (random_.below(2) == 0) return false;
    perform(waiting.copy);
    return true;
  });
}

}  // namespace minicnn::emulation
