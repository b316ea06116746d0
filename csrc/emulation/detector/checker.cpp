#include "emulation/detector/checker.h"

#include <algorithm>
#include <bit>

#include "emulation/memory.h"
#include "emulation/worker.h"

namespace minicnn::emulation::detector {
namespace {

// Of the reads of a byte by blocks that ran before, so many are remembered, of which at least one is another block's
// than the next writer's: only a kernel that orders blocks by fences can see the difference.
constexpr size_t MOST_READS_OF_OTHER_BLOCKS = 64;

Access access_of(Epoch epoch) { return epoch.is_atomic() ? Access::update : Access::read; }

}  // namespace

void Checker::begin_launch() {
  clocks.begin_launch();
  of_launch_.start(clocks.launch_begin());
  unwritten_ = {};
}

void Checker::begin_block(uint64_t number, const Block& block) {
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

void Checker::end_block() {
  clocks.end_block(block_->shared, block_->shared + block_->shared_bytes);
  const uintptr_t begin = shared_begin_ - arena();
  shadow.set_accessible(begin, begin + block_->shared_bytes, false);
}

// Two atomics that do not race: of one size, which makes it one place, and each in the scope of the other (PTX:
// "morally strong").
bool Checker::are_strong(Epoch atomic, Epoch other) const {
  if (!atomic.is_atomic() || !other.is_atomic() || atomic.size() != other.size()) return false;
  return (!atomic.is_in_block_scope() && !other.is_in_block_scope()) || clocks.are_of_one_block(atomic, other);
}

// Whether the access may not come at the same time as an earlier read or atomic.
bool Checker::excludes(const Visit& visit, Epoch earlier) const {
  if (visit.is_atomic()) return !are_strong(visit.trace.epoch, earlier);
  return visit.writes() || earlier.is_atomic();
}

void Checker::visit(const Visit& visit) {
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

void Checker::visit_word(const Visit& visit, uintptr_t word, unsigned mask, Era& era) {
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

void Checker::visit_bytes(const Visit& visit, uintptr_t word, unsigned mask, Era& era) {
  Cell* bytes = shadow.bytes(word);
  for (unsigned i = 0; i < WORD; ++i)
    if (mask >> i & 1) {
      at_ = arena() + word * WORD + i;
      visit_cell(visit, bytes[i], era);
    }
  if (mask != WHOLE_WORD || visit.access != Access::write) return;
  shadow.word(word) = bytes[0];  // all four agree again
}

void Checker::visit_cell(const Visit& visit, Cell& cell, Era& era) {
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

void Checker::read_cell(const Visit& visit, Cell& cell, Era& era) {
  if (cell.read == visit.trace.epoch && visit.trace.epoch.kind() == Kind::plain) return;
  const bool has_atomics = cell.readers != 0 ? era.readers[cell.readers].has_atomics : cell.read.is_atomic();
  if (cell.read && (visit.is_atomic() || has_atomics)) require_order_of_readers(visit, cell, era);
  add_reader(visit, cell, era);
}

void Checker::write_cell(const Visit& visit, Cell& cell, Era& era) {
  if (cell.read) require_order_of_readers(visit, cell, era);
  if (cell.readers != 0) era.give_back(cell.readers);
  cell.written = visit.trace.epoch;
  cell.write_code = visit.trace.code;
  cell.read = Epoch();
  cell.readers = 0;
  cell.split = 0;
}

// The reads and atomics since the last write, where they exclude this access.
void Checker::require_order_of_readers(const Visit& visit, Cell& cell, Era& era) {
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
bool Checker::has_been_seen(const Visit& visit, const std::vector<Trace>& traces, Epoch write, size_t next) const {
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
void Checker::for_each_cell(uintptr_t address, unsigned bytes, const Mark& mark) {
  Era& era = is_shared(address) ? of_block_ : of_launch_;
  const uintptr_t begin = address - arena();
  for (uintptr_t byte = begin; byte < begin + bytes; ++byte) {
    const uintptr_t word = byte / WORD;
    const bool is_split = shadow.word(word).split == era.number;
    if (is_split || byte % WORD == 0) mark(is_split ? shadow.bytes(word)[byte % WORD] : shadow.word(word), era);
  }
}

void Checker::mark_write(uintptr_t address, unsigned bytes) {
  for_each_cell(address, bytes, [](Cell& cell, Era& era) {
    cell.read = cell.read.with(HAS_WRITTEN);
    if (cell.readers != 0) era.readers[cell.readers].traces.back().epoch = cell.read;
  });
}

void Checker::mark_fence(unsigned thread, Scope scope) {
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
bool Checker::supersedes(const Visit& visit, Epoch earlier) {
  const Epoch now = visit.trace.epoch;
  const bool is_alike = earlier.is_atomic()
                            ? earlier.instruction() == now.kind() && !earlier.has(FENCED | FENCED_IN_BLOCK)
                            : earlier.kind() == now.kind() && now.kind() != Kind::copy;
  return is_alike && clocks.is_ordered(earlier, visit.thread);
}

void Checker::add_reader(const Visit& visit, Cell& cell, Era& era) {
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

void Checker::remember(const Visit& visit, Readers& readers) {
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
void Checker::check_written(const Visit& visit, uintptr_t word, unsigned mask) {
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

void Checker::race(const Visit& visit, Trace earlier, Access access) {
  unwritten_ = {};
  abandon_block({Finding::Fault::race, at_, party(visit.trace, visit.access), party(earlier, access)});
}

void Checker::out_of_bounds(const Visit& visit) {
  abandon_block({Finding::Fault::bounds, at_, party(visit.trace, visit.access), {}});
}

void Checker::abandon_block(const Finding& finding) {
  found_ = finding;
  current().worker->abandon_block();
}

}  // namespace minicnn::emulation::detector
