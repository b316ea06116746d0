#include "emulation/detector/detector.h"

#include "emulation/detector/checker.h"
#include "emulation/recording.h"

namespace minicnn::emulation::detector {
namespace {

// Made by the first buffer.
Checker* checker = nullptr;
uintptr_t arena_begin = UINTPTR_MAX - ARENA_BYTES;  // until then: where no program has memory

Checker& instance() {
  if (!checker) {
    arena_begin = arena();
    checker = new Checker;
  }
  return *checker;
}

bool is_in_arena(const void* address) { return reinterpret_cast<uintptr_t>(address) - arena_begin < ARENA_BYTES; }

// The access of the current thread, if it is one to device memory.
void visit(const void* address, size_t bytes, Access access, Kind kind, const void* code) {
  if (!is_in_arena(address)) return;
  const unsigned thread = current().linear;
  const Epoch now = checker->clocks.epoch(thread).as(kind);
  checker->visit({reinterpret_cast<uintptr_t>(address), unsigned(bytes), access, thread, {now, code_number(code)}});
}

template <Access ACCESS>
inline void visit_plainly(const void* address, size_t bytes, const void* code) {
  if (!is_in_arena(address)) return;
  if (recording) record(address, bytes, ACCESS == Access::write, code);
  const Epoch now = checker->clocks.epoch(current().linear);
  if (!checker->repeats<ACCESS>(reinterpret_cast<uintptr_t>(address) - arena_begin, bytes, now))
    visit(address, bytes, ACCESS, Kind::plain, code);
}

}  // namespace

void begin_buffer(const void* address, size_t bytes) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(address) - arena();
  instance().shadow.set_accessible(begin, begin + bytes, true);
}

void end_buffer(const void* address, size_t bytes) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(address) - arena();
  instance().shadow.set_accessible(begin, begin + bytes, false);
}

void mark_written(const void* address, size_t bytes) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(address) - arena();
  if (is_in_arena(address)) instance().shadow.set_written(begin, begin + bytes);
}

void begin_launch(const Launch&) { instance().begin_launch(); }

void begin_block(uint64_t number, const Block& block) { instance().begin_block(number, block); }

std::string end_block(bool is_abandoned) {
  Checker& checker = instance();
  std::string found = checker.take_unwritten(true);
  if (is_abandoned && found.empty()) found = checker.take_unwritten(false);
  if (found.empty()) found = checker.take_found();
  checker.end_block();
  return found;
}

std::string end_launch() { return instance().take_unwritten(false); }

void order_block() { instance().clocks.order_block(); }

void order_warp(uint32_t lanes) { instance().clocks.order_warp(current().linear / WARP, lanes); }

void come_to_barrier(int barrier, unsigned thread) { instance().clocks.come_to_barrier(unsigned(barrier), thread); }

void leave_barrier(int barrier, const uint32_t (&waiting)[MAX_WARPS]) {
  instance().clocks.leave_barrier(unsigned(barrier), waiting);
}

void fence(Scope scope) {
  instance().mark_fence(current().linear, scope);
  instance().clocks.fence(current().linear, scope);
}

void begin_atomic(const void* address, unsigned bytes, Scope scope, Atomic kind) {
  visit(address, bytes, kind == Atomic::update ? Access::update : Access::exchange, atomic_kind(bytes, scope),
        __builtin_return_address(0));
  instance().clocks.read_atomically(current().linear, address, scope);
}

void end_atomic_write(const void* address, unsigned bytes, Scope scope) {
  if (is_in_arena(address)) instance().mark_write(reinterpret_cast<uintptr_t>(address), bytes);
  instance().clocks.write_atomically(current().linear, address, scope);
}

void start_copy(const Copy& copy, const void* code) {
  Checker& checker = instance();
  const unsigned thread = current().linear;
  const Trace trace{checker.clocks.copy_epoch(thread), code_number(code)};
  const auto source = reinterpret_cast<uintptr_t>(copy.global), target = reinterpret_cast<uintptr_t>(copy.shared);
  if (copy.inside && is_in_arena(copy.global)) checker.visit({source, copy.bytes, Access::read, thread, trace});
  checker.visit({target, copy.bytes, Access::write, thread, trace});
  if (recording) record(copy.shared, copy.bytes, true, code);
}

void commit_copies() { instance().clocks.commit_copies(current().linear); }

void wait_for_copies(unsigned pending) { instance().clocks.wait_for_copies(current().linear, pending); }

void read(const void* address, size_t bytes, const void* code) { visit_plainly<Access::read>(address, bytes, code); }

void write(const void* address, size_t bytes, const void* code) { visit_plainly<Access::write>(address, bytes, code); }

void refuse_index(int64_t index, const char* array, const void* code) {
  instance().refuse({.fault = Finding::Fault::index, .number = index, .array = array}, current().linear, code);
}

void refuse_address(uintptr_t address, unsigned alignment, const void* code) {
  instance().refuse({.fault = Finding::Fault::alignment, .address = address, .number = alignment}, current().linear,
                    code);
}

}  // namespace minicnn::emulation::detector
