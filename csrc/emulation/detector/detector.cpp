#include "emulation/detector/detector.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "emulation/detector/clocks.h"
#include "emulation/detector/report.h"
#include "emulation/detector/shadow.h"
#include "emulation/memory.h"
#include "emulation/worker.h"

namespace minicnn::emulation::detector {
namespace {

// Of the reads of a byte by blocks that ran before, so many are remembered, of which at least one is another block's
// than the next writer's: only a kernel that orders blocks by fences can see the difference.
constexpr size_t MOST_READS_OF_OTHER_BLOCKS = 64;

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

class Detector {
 public:
  void begin_launch() {
    clocks.begin_launch();
    of_launch_.start(clocks.launch_begin());
    unwritten_ = {};
  }

  void begin_block(uint64_t number, const Block& block) {
    clocks.begin_block(number, unsigned(volume(block.size)));
    of_block_.start(clocks.block_begin());
    block_ = &block;
    shared_begin_ = reinterpret_cast<uintptr_t>(block.shared);
    shared_bytes_ = round_up(block.shared_bytes, WORD);
    const uintptr_t begin = shared_begin_ - arena();
    shadow.set_accessible(begin, begin + block.shared_bytes, true);
    found_ = {};
    if (std::exchange(has_unfenced_, false))
      for (auto& atomics : unfenced_) atomics.clear();
  }

  // The atomic that the thread has just visited the memory by has written it; the thread is at a fence.
  void mark_write(uintptr_t address, unsigned bytes);
  void mark_fence(unsigned thread, Scope scope);

  void end_block() {
    clocks.end_block(block_->shared, block_->shared + block_->shared_bytes);
    const uintptr_t begin = shared_begin_ - arena();
    shadow.set_accessible(begin, begin + block_->shared_bytes, false);
  }

  void visit(const Visit& visit);

  // Ends the block for what the thread is about to do at `code`.
  [[noreturn, gnu::cold]] void refuse(Finding finding, unsigned thread, const void* code) {
    finding.mine = party({clocks.epoch(thread), code_number(code)}, Access::read);
    abandon_block(finding);
  }

  // Whether the access does what the same thread did since anybody else could know: most do.
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

// Made by the first buffer.
Detector* detector = nullptr;
uintptr_t arena_begin = 0;

Detector& instance() {
  if (!detector) {
    arena_begin = arena();
    detector = new Detector;
  }
  return *detector;
}

Access access_of(Epoch epoch) { return epoch.is_atomic() ? Access::update : Access::read; }

// Two atomics that do not race: of one size, which makes it one place, and each in the scope of the other (PTX:
// "morally strong").
bool Detector::are_strong(Epoch atomic, Epoch other) const {
  if (!atomic.is_atomic() || !other.is_atomic() || atomic.size() != other.size()) return false;
  return (!atomic.is_in_block_scope() && !other.is_in_block_scope()) || clocks.are_of_one_block(atomic, other);
}

// Whether the access may not come at the same time as an earlier read or atomic.
bool Detector::excludes(const Visit& visit, Epoch earlier) const {
  if (visit.is_atomic()) return !are_strong(visit.trace.epoch, earlier);
  return visit.writes() || earlier.is_atomic();
}

void Detector::visit(const Visit& visit) {
  if (visit.is_atomic()) {
    unfenced_[visit.thread].emplace_back(visit.address, visit.bytes);
    has_unfenced_ = true;
  }
  Era& era = is_shared(visit.address) ? of_block_ : of_launch_;
  const uintptr_t begin = visit.address - arena(), end = begin + visit.bytes;
  for (uintptr_t word = begin / WORD; word * WORD < end; ++word) {
    const uintptr_t first = std::max(begin, word * WORD) - word * WORD, last = std::min(end - word * WORD, WORD + 0ul);
    visit_word(visit, word, (1u << last) - (1u << first), era);
  }
}

void Detector::visit_word(const Visit& visit, uintptr_t word, unsigned mask, Era& era) {
  at_ = arena() + word * WORD + unsigned(std::countr_zero(mask));
  uint8_t& state = shadow.state(word);
  if ((state & mask) != mask) out_of_bounds(visit);
  if (visit.reads() && (unsigned(state) >> 4 & mask) != mask) check_written(visit, word, mask);
  Cell& cell = shadow.word(word);
  if (mask != WHOLE_WORD && cell.split != era.number) shadow.split(word, era);
  if (cell.split == era.number)
    visit_bytes(visit, word, mask, era);
  else
    visit_cell(visit, cell, era);
  if (visit.writes()) state |= uint8_t(mask << 4);
}

void Detector::visit_bytes(const Visit& visit, uintptr_t word, unsigned mask, Era& era) {
  Cell* bytes = shadow.bytes(word);
  for (unsigned i = 0; i < WORD; ++i)
    if (mask >> i & 1) {
      at_ = arena() + word * WORD + i;
      visit_cell(visit, bytes[i], era);
    }
  if (mask != WHOLE_WORD || visit.access != Access::write) return;
  shadow.word(word) = bytes[0];  // all four agree again
}

void Detector::visit_cell(const Visit& visit, Cell& cell, Era& era) {
  if (cell.read.time() < era.begin) {
    cell.read = Epoch();
    cell.readers = 0;
  }
  require_order(visit, cell.written, cell.write_code, Access::write, era);
  if (visit.access == Access::write)
    write_cell(visit, cell, era);
  else
    read_cell(visit, cell, era);
}

void Detector::read_cell(const Visit& visit, Cell& cell, Era& era) {
  if (cell.read == visit.trace.epoch && visit.trace.epoch.kind() == Kind::plain) return;
  const bool has_atomics = cell.readers != 0 ? era.readers[cell.readers].has_atomics : cell.read.is_atomic();
  if (cell.read && (visit.is_atomic() || has_atomics)) require_order_of_readers(visit, cell, era);
  add_reader(visit, cell, era);
}

void Detector::write_cell(const Visit& visit, Cell& cell, Era& era) {
  if (cell.read) require_order_of_readers(visit, cell, era);
  if (cell.readers != 0) era.give_back(cell.readers);
  cell.written = visit.trace.epoch;
  cell.write_code = visit.trace.code;
  cell.read = Epoch();
  cell.readers = 0;
  cell.split = 0;
}

// The reads and atomics since the last write, where they exclude this access.
void Detector::require_order_of_readers(const Visit& visit, Cell& cell, Era& era) {
  if (cell.readers == 0) {
    if (excludes(visit, cell.read)) require_order(visit, cell.read, cell.read_code, access_of(cell.read), era);
    return;
  }
  auto& traces = era.readers[cell.readers].traces;
  for (size_t i = 0; i < traces.size(); ++i) {
    Trace& trace = traces[i];
    if (!excludes(visit, trace.epoch) || clocks.is_ordered(trace.epoch, visit.thread)) continue;
    if (!has_been_seen(visit, traces, trace.epoch, i + 1)) race(visit, trace, access_of(trace.epoch));
  }
}

// Whether an atomic write was read by a later atomic, or through others, of which one was followed by a fence that is
// ordered before the access: then the write is so, too, though not what came before it. PTX's causality order asks for
// no fence here; but a race would then be none in the schedules in which the other side happens to come last.
bool Detector::has_been_seen(const Visit& visit, const std::vector<Trace>& traces, Epoch write, size_t next) const {
  if (!write.is_atomic() || !write.has(HAS_WRITTEN)) return false;
  for (Epoch link = write; next < traces.size(); ++next) {
    Epoch later = traces[next].epoch;
    if (!are_strong(link, later)) continue;
    const bool is_fenced = later.has(clocks.are_of_one_block(write, later) ? FENCED | FENCED_IN_BLOCK : FENCED);
    if (is_fenced && clocks.is_ordered(later, visit.thread)) return true;
    if (later.has(HAS_WRITTEN)) link = later;
  }
  return false;
}

template <class Mark>
void Detector::for_each_cell(uintptr_t address, unsigned bytes, const Mark& mark) {
  Era& era = is_shared(address) ? of_block_ : of_launch_;
  const uintptr_t begin = address - arena();
  for (uintptr_t byte = begin; byte < begin + bytes; ++byte) {
    const uintptr_t word = byte / WORD;
    const bool is_split = shadow.word(word).split == era.number;
    if (is_split || byte % WORD == 0) mark(is_split ? shadow.bytes(word)[byte % WORD] : shadow.word(word), era);
  }
}

void Detector::mark_write(uintptr_t address, unsigned bytes) {
  for_each_cell(address, bytes, [](Cell& cell, Era& era) {
    cell.read = cell.read.with(HAS_WRITTEN);
    if (cell.readers != 0) era.readers[cell.readers].traces.back().epoch = cell.read;
  });
}

void Detector::mark_fence(unsigned thread, Scope scope) {
  for (const auto& [address, bytes] : unfenced_[thread])
    for_each_cell(address, bytes, [&](Cell& cell, Era& era) {
      const auto mark = [&](Epoch& epoch) {
        if (epoch.is_atomic() && epoch.thread() == thread && clocks.is_of_this_block(epoch))
          epoch = epoch.with(scope == Scope::device ? FENCED : FENCED_IN_BLOCK);
      };
      mark(cell.read);
      if (cell.readers == 0 || cell.read.time() < era.begin) return;
      for (Trace& trace : era.readers[cell.readers].traces) mark(trace.epoch);
    });
  if (scope == Scope::device) unfenced_[thread].clear();
}

// Whether whatever is ordered after this access is so after the earlier one, and excluded by both alike.
bool Detector::supersedes(const Visit& visit, Epoch earlier) {
  const Epoch now = visit.trace.epoch;
  const bool is_alike = earlier.is_atomic()
                            ? earlier.instruction() == now.kind() && !earlier.has(FENCED | FENCED_IN_BLOCK)
                            : earlier.kind() == now.kind() && now.kind() != Kind::copy;
  return is_alike && clocks.is_ordered(earlier, visit.thread);
}

void Detector::add_reader(const Visit& visit, Cell& cell, Era& era) {
  if (cell.readers == 0 && cell.read && !supersedes(visit, cell.read)) {
    const Trace first{cell.read, cell.read_code};
    cell.readers = era.take_readers();
    era.readers[cell.readers].traces.push_back(first);
    era.readers[cell.readers].has_atomics = first.epoch.is_atomic();
  }
  if (cell.readers != 0) remember(visit, era.readers[cell.readers]);
  cell.read = visit.trace.epoch;
  cell.read_code = visit.trace.code;
}

void Detector::remember(const Visit& visit, Readers& readers) {
  auto& traces = readers.traces;
  const unsigned warp = visit.thread / WARP;
  const uint32_t lane = 1u << visit.thread % WARP;
  const bool is_new_block = readers.block != clocks.block_begin();
  if (is_new_block || readers.barrier != clocks.last_barrier()) {
    if (is_new_block && traces.size() > MOST_READS_OF_OTHER_BLOCKS && !readers.has_atomics)
      traces.resize(MOST_READS_OF_OTHER_BLOCKS);
    std::erase_if(traces, [&](const Trace& trace) { return supersedes(visit, trace.epoch); });
    std::fill(std::begin(readers.present), std::end(readers.present), 0u);
    for (const Trace& trace : traces)
      if (clocks.is_of_this_block(trace.epoch))
        readers.present[trace.epoch.thread() / WARP] |= 1u << trace.epoch.thread() % WARP;
    readers.block = clocks.block_begin();
    readers.barrier = clocks.last_barrier();
  } else if (readers.present[warp] & lane) {
    std::erase_if(traces, [&](const Trace& trace) {
      return trace.epoch.thread() == visit.thread && supersedes(visit, trace.epoch);
    });
  }
  readers.present[warp] |= lane;
  readers.has_atomics |= visit.trace.epoch.is_atomic();
  traces.push_back(visit.trace);
}

// A read of bytes that no kernel wrote is no fault where the host did: what is not the poison was written. The fault is
// told when the block has ended (the launch, where the memory is global), unless a race turns out to be its cause.
void Detector::check_written(const Visit& visit, uintptr_t word, unsigned mask) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(arena() + word * WORD);
  bool is_poison = true;
  for (unsigned i = 0; i < WORD; ++i)
    if (mask >> i & 1) is_poison &= bytes[i] == POISON || (shadow.state(word) >> 4 >> i & 1);
  if (!is_poison && !is_shared(visit.address)) {
    shadow.state(word) |= uint8_t(mask << 4);
    return;
  }
  if (unwritten_) return;
  at_ = arena() + word * WORD + unsigned(std::countr_zero(mask & ~(unsigned(shadow.state(word)) >> 4)));
  unwritten_ = {Finding::Fault::unwritten, at_, party(visit.trace, visit.access), {}};
}

void Detector::race(const Visit& visit, Trace earlier, Access access) {
  unwritten_ = {};
  abandon_block({Finding::Fault::race, at_, party(visit.trace, visit.access), party(earlier, access)});
}

void Detector::out_of_bounds(const Visit& visit) {
  abandon_block({Finding::Fault::bounds, at_, party(visit.trace, visit.access), {}});
}

void Detector::abandon_block(const Finding& finding) {
  found_ = finding;
  current().worker->abandon_block();
}

bool is_in_arena(const void* address) { return reinterpret_cast<uintptr_t>(address) - arena_begin < ARENA_BYTES; }

// The access of the current thread, if it is one to device memory.
void visit(const void* address, size_t bytes, Access access, Kind kind, const void* code) {
  if (!is_in_arena(address)) return;
  const unsigned thread = current().linear;
  const Epoch now = detector->clocks.epoch(thread).as(kind);
  detector->visit({reinterpret_cast<uintptr_t>(address), unsigned(bytes), access, thread, {now, code_number(code)}});
}

template <Access ACCESS>
inline void visit_plainly(const void* address, size_t bytes, const void* code) {
  if (!is_in_arena(address)) return;
  const Epoch now = detector->clocks.epoch(current().linear);
  if (!detector->repeats<ACCESS>(reinterpret_cast<uintptr_t>(address) - arena_begin, bytes, now))
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
  Detector& detector = instance();
  std::string found = detector.take_unwritten(true);
  if (is_abandoned && found.empty()) found = detector.take_unwritten(false);
  if (found.empty()) found = detector.take_found();
  detector.end_block();
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
  Detector& detector = instance();
  const unsigned thread = current().linear;
  const Trace trace{detector.clocks.copy_epoch(thread), code_number(code)};
  const auto source = reinterpret_cast<uintptr_t>(copy.global), target = reinterpret_cast<uintptr_t>(copy.shared);
  if (copy.inside && is_in_arena(copy.global)) detector.visit({source, copy.bytes, Access::read, thread, trace});
  detector.visit({target, copy.bytes, Access::write, thread, trace});
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
