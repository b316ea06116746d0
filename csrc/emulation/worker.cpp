#include "emulation/worker.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "emulation/detector/detector.h"
#include "emulation/memory.h"

namespace minicnn::emulation {
namespace {

std::string place(Where where) {
  const std::string file = where.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line());
}

std::string triple(const uint3& index) {
  char text[40];
  std::snprintf(text, sizeof text, "(%u,%u,%u)", index.x, index.y, index.z);
  return text;
}

std::string hexadecimal(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

// "0-31, 40".
std::string ranges(const std::vector<unsigned>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    if (i > 0) text += ", ";
    text += std::to_string(numbers[i]);
    if (last > i) text.append("-").append(std::to_string(numbers[last]));
    i = last + 1;
  }
  return text;
}

std::string describe_call(const Call& call) { return std::string(call.name) + " (" + place(call.where) + ")"; }

bool same_place(Where a, Where b) {
  if (a.line() != b.line() || a.column() != b.column()) return false;
  return a.file_name() == b.file_name() || !std::strcmp(a.file_name(), b.file_name());
}

bool same_size(const dim3& a, const dim3& b) { return a.x == b.x && a.y == b.y && a.z == b.z; }

}  // namespace

Worker::Worker() : threads_(MAX_THREADS), warps_(MAX_WARPS), stacks_(MAX_THREADS) {
  for (unsigned i = 0; i < MAX_THREADS; ++i) threads_[i].linear = i;
  block_.size = dim3(0, 0, 0);  // unlike any launch's: begin() takes the first for a new size
  constexpr size_t BYTES = round_up(MAX_SHARED_BYTES, SHARED_ALIGNMENT);
  unsigned char* begin = static_cast<unsigned char*>(allocate(BYTES));
  shared_end_ = begin + BYTES;
  if constexpr (CHECKED) detector::end_buffer(begin, BYTES);  // a block has as much of it as its launch says
}

void Worker::begin(const Launch& launch) {
  launch_ = &launch;
  options_ = options();
  const dim3& size = launch.block;
  block_.grid = launch.grid;
  block_.shared_bytes = launch.shared_bytes;
  block_.shared = shared_end_ - round_up(launch.shared_bytes, SHARED_ALIGNMENT);
  std::memset(block_.shared, POISON, size_t(shared_end_ - block_.shared));
  if (same_size(block_.size, size)) return;
  block_.size = size;
  thread_count_ = unsigned(volume(size));
  for (unsigned i = 0; i < thread_count_; ++i)
    threads_[i].index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
}

void Worker::run_block(uint64_t number) {
  const dim3& grid = launch_->grid;
  block_.index = {unsigned(number % grid.x), unsigned(number / grid.x % grid.y), unsigned(number / grid.x / grid.y)};
  std::memset(block_.shared, POISON, launch_->shared_bytes);
  random_ = Random(options_.seed ^ (number + 1) * 0xD6E8FEB86659FD93);
  unfinished_ = thread_count_;
  copies_.begin_block(options_, number);
  if (uses_named_barriers_) forget_arrivals();
  ready_.add_first(thread_count_);
  if constexpr (CHECKED) detector::begin_block(number, block_);
  run(take_ready(), &host_);
  ask_detector();
  if (error_ || has_faulted_ || unfinished_ > 0) fail_block();
  running_ = nullptr;
  check_shared_slack();
}

// Up to 1023 bytes lie between the end of the shared memory and the guard page.
void Worker::check_shared_slack() {
  unsigned char* end = block_.shared + block_.shared_bytes;
  const unsigned char* written = first_written(end, shared_end_);
  if (written == shared_end_) return;
  const std::string offset = std::to_string(written - block_.shared);
  std::memset(end, POISON, size_t(shared_end_ - end));
  throw Error(std::string(launch_->op) + ": byte " + offset + " of " + describe_shared() + " was written, in block " +
              triple(block_.index));
}

std::string Worker::describe_shared() const {
  return "the block's " + std::to_string(block_.shared_bytes) + " bytes of shared memory";
}

// A deadlock or a divergence is told first; what the detector knows is the better name of any other fault.
void Worker::ask_detector() {
  if constexpr (CHECKED) {
    const std::string found = detector::end_block(has_faulted_);
    if (found.empty() || error_ || (unfinished_ > 0 && !has_faulted_)) return;
    error_ = std::make_exception_ptr(Error(std::string(launch_->op) + ": " + found));
  }
}

// Throws what went wrong; the worker is ready for another block afterwards, the fibers of this one are forgotten.
void Worker::fail_block() {
  if (!error_) error_ = std::make_exception_ptr(Error(has_faulted_ ? describe_fault() : describe_deadlock()));
  for (Thread& thread : threads_) thread.context = nullptr;
  for (Warp& warp : warps_)
    for (Group& group : warp.groups) group.arrived = 0;
  barrier_.arrived = 0;
  forget_arrivals();
  ready_.clear();
  stacks_.give_back_all();
  running_ = nullptr;
  has_faulted_ = false;
  std::rethrow_exception(std::exchange(error_, nullptr));
}

// Switches to a thread, or to the host for null; what runs now goes on from *save.
void Worker::run(Thread* thread, void** save) {
  void* context = host_;
  running_ = thread;
  if (thread) context = thread->context ? std::exchange(thread->context, nullptr) : start_fiber();
  minicnn_switch_fiber(save, context);
}

void* Worker::start_fiber() {
  const uintptr_t base = stacks_.take();
  auto& mine = *reinterpret_cast<Current*>(stack_top(base));
  mine.block = &block_;
  mine.worker = this;
  return fresh_context(base);
}

// Runs `running_` and, on the same stack, the threads that follow, up to one that has a stack of its own.
void Worker::run_threads(Current& mine) {
  try {
    do {
      mine.thread = running_->index;
      mine.linear = running_->linear;
      launch_->run_thread(launch_->call);
      --unfinished_;
      running_ = take_ready();
    } while (running_ && !running_->context);
  } catch (...) {
    error_ = error_of_kernel(std::current_exception());
    running_ = nullptr;
  }
  stacks_.give_back(stack_base(&mine));
  void* never_resumed;
  run(running_, &never_resumed);
  std::abort();
}

std::exception_ptr Worker::error_of_kernel(std::exception_ptr thrown) const {
  try {
    std::rethrow_exception(thrown);
  } catch (const Error&) {
    return thrown;
  } catch (const std::exception& exception) {
    return std::make_exception_ptr(Error(describe(std::string("the kernel threw: ") + exception.what())));
  } catch (...) {
    return std::make_exception_ptr(Error(describe("the kernel threw something that is no std::exception")));
  }
}

void Worker::abandon_block(const void* address) {
  has_faulted_ = true;
  fault_ = address;
  void* never_resumed;
  minicnn_switch_fiber(&never_resumed, host_);
  std::abort();
}

void Worker::abandon_block() { abandon_block(nullptr); }

// Lets other threads run until this one is ready again.
void Worker::suspend() {
  Thread* me = running_;
  if (copies_.can_stir()) copies_.stir(me->linear);
  Thread* next = take_ready();
  if (next != me) run(next, &me->context);
}

int Worker::synchronize_block(const char* name, bool predicate, Where where) {
  if (barrier_.arrived == 0) {
    barrier_.call = {name, where};
    barrier_.votes = 0;
  } else if (!same_place(barrier_.call.where, where)) {
    fail_divergent_block({name, where});
  }
  barrier_.votes += predicate;
  if (++barrier_.arrived == thread_count_) {
    barrier_.arrived = 0;
    barrier_.result = barrier_.votes;
    ready_.add_first(thread_count_);
    if constexpr (CHECKED) detector::order_block();
  }
  suspend();
  return barrier_.result;
}

void Worker::synchronize_warp(const char* name, uint32_t mask, Operation operation, void* operand, Where where) {
  const unsigned number = running_->linear / WARP, lane = running_->linear % WARP;
  Warp& warp = warps_[number];
  Group& group = warp.groups[std::countr_zero(mask) % WARP];
  if (!(mask >> lane & 1)) fail_outside_mask({name, where}, lane);
  if (group.arrived == 0) {
    group.mask = mask;
    group.call = {name, where};
  } else if (group.mask != mask || !same_place(group.call.where, where)) {
    fail_divergent_warp({name, where}, mask, group);
  }
  warp.operands[lane] = operand;
  group.arrived |= 1u << lane;
  if (group.arrived == mask) {
    group.arrived = 0;
    operation(mask, warp.operands);
    ready_.add(number, mask);
  }
  suspend();
}

void Worker::come_to_barrier(const char* name, int number, int threads, bool waits, Where where) {
  check_arrival(number, threads, {name, where});
  NamedBarrier& barrier = named_barriers_[number];
  const unsigned warp = running_->linear / WARP;
  const uint32_t lane = 1u << running_->linear % WARP;
  if (barrier.arrived == 0) barrier.expected = unsigned(threads);
  if (barrier.arrived == 0 || waits) barrier.call = {name, where};
  barrier.present[warp] |= lane;
  if (waits) barrier.waiting[warp] |= lane;
  uses_named_barriers_ = true;
  if constexpr (CHECKED) detector::come_to_barrier(number, running_->linear);
  if (++barrier.arrived == barrier.expected) {
    for (unsigned i = 0; i < MAX_WARPS; ++i)
      if (barrier.waiting[i]) ready_.add(i, barrier.waiting[i]);
    if constexpr (CHECKED) detector::leave_barrier(number, barrier.waiting);
    barrier = {};
  }
  if (waits) suspend();
}

void Worker::check_arrival(int number, int threads, const Call& mine) const {
  const std::string name = mine.name;
  if (number < 1 || number >= NAMED_BARRIERS)
    fail(name + ": the named barriers are 1 to 15, not " + std::to_string(number), mine.where);
  if (threads < 1 || threads % int(WARP) != 0)
    fail(name + ": a barrier is for a multiple of 32 threads, not for " + std::to_string(threads), mine.where);
  const NamedBarrier& barrier = named_barriers_[number];
  if (barrier.arrived == 0) return;
  if (barrier.expected != unsigned(threads))
    fail("divergent barrier: this thread is in " + name + " of barrier " + std::to_string(number) + " for " +
             std::to_string(threads) + " threads, others came for " + std::to_string(barrier.expected) + " in " +
             describe_call(barrier.call),
         mine.where);
  if (barrier.present[running_->linear / WARP] >> running_->linear % WARP & 1)
    fail("divergent barrier: this thread comes to barrier " + std::to_string(number) + " twice before it opens",
         mine.where);
}

void Worker::forget_arrivals() {
  for (NamedBarrier& barrier : named_barriers_) barrier = {};
  uses_named_barriers_ = false;
}

void Worker::start_copy(const Copy& copy, Where where, [[maybe_unused]] const void* code) {
  const auto shared = reinterpret_cast<uintptr_t>(copy.shared), global = reinterpret_cast<uintptr_t>(copy.global);
  if (shared % copy.bytes != 0 || (copy.inside && global % copy.bytes != 0))
    fail("async_copy: both sides must be aligned to its " + std::to_string(copy.bytes) + " bytes", where);
  const uintptr_t begin = reinterpret_cast<uintptr_t>(block_.shared);
  if (shared < begin || shared + copy.bytes > begin + block_.shared_bytes)
    fail("async_copy: the target is not in " + describe_shared(), where);
  if constexpr (CHECKED) detector::start_copy(copy, code);
  copies_.start(running_->linear, copy);
}

void Worker::fail_divergent_block(const Call& mine) const {
  fail(std::string("divergent barrier: this thread is in ") + mine.name + ", " + std::to_string(barrier_.arrived) +
           " others of its block wait in " + describe_call(barrier_.call),
       mine.where);
}

void Worker::fail_outside_mask(const Call& mine, unsigned lane) const {
  fail(std::string(mine.name) + ": lane " + std::to_string(lane) + " is not in its own mask", mine.where);
}

void Worker::fail_divergent_warp(const Call& mine, uint32_t mask, const Group& group) const {
  fail(std::string("divergent warp: this lane is in ") + mine.name + " with mask " + hexadecimal(mask) +
           ", others wait in " + describe_call(group.call) + " with mask " + hexadecimal(group.mask),
       mine.where);
}

std::string Worker::describe(const std::string& message) const {
  return std::string(launch_->op) + ": " + message + ", in block " + triple(block_.index) + ", thread " +
         triple(running_->index);
}

std::string Worker::describe_fault() const {
  if (stacks_.overflowed_at(fault_))
    return describe("stack overflow: the calls and local variables of a thread have " +
                    std::to_string(STACK_BYTES - STACK_GUARD_BYTES) + " bytes");
  const auto* address = static_cast<const unsigned char*>(fault_);
  if (address >= shared_end_ && address < shared_end_ + page_bytes())
    return describe("illegal access to byte " + std::to_string(address - block_.shared) + " of " + describe_shared());
  const std::string where = describe_address(fault_);
  return describe("illegal access to " + (where.empty() ? "address " + hexadecimal(uintptr_t(fault_)) : where));
}

// "deadlock in block (0,0,0): threads 0-31 wait in __syncthreads (sgemm.cu:40); threads 32-63 have returned".
std::string Worker::describe_deadlock() const {
  std::vector<std::pair<std::string, std::vector<unsigned>>> states;  // in the order of their first threads
  for (unsigned i = 0; i < thread_count_; ++i) {
    const std::string state = describe_state(threads_[i]);
    auto found = std::find_if(states.begin(), states.end(), [&](const auto& entry) { return entry.first == state; });
    if (found == states.end()) found = states.insert(found, {state, {}});
    found->second.push_back(i);
  }
  std::string message = std::string(launch_->op) + ": deadlock in block " + triple(block_.index);
  const char* separator = ": threads ";
  for (const auto& [state, threads] : states) {
    message += separator + ranges(threads) + " " + state;
    separator = "; threads ";
  }
  return message;
}

std::string Worker::describe_state(const Thread& thread) const {
  if (!thread.context) return "have returned";
  for (const Group& group : warps_[thread.linear / WARP].groups)
    if (group.arrived >> thread.linear % WARP & 1) return "wait in " + describe_call(group.call);
  for (const NamedBarrier& barrier : named_barriers_)
    if (barrier.waiting[thread.linear / WARP] >> thread.linear % WARP & 1)
      return "wait in " + describe_call(barrier.call) + ", " + std::to_string(barrier.arrived) + " of " +
             std::to_string(barrier.expected) + " threads have come to barrier " +
             std::to_string(&barrier - named_barriers_);
  return "wait in " + describe_call(barrier_.call);
}

void fail(const std::string& message, Where where) {
  throw Error(current().worker->describe(place(where) + ": " + message));
}

int synchronize_block(const char* name, bool predicate, Where where) {
  return current().worker->synchronize_block(name, predicate, where);
}

void synchronize_warp(const char* name, uint32_t mask, Operation operation, void* operand, Where where) {
  current().worker->synchronize_warp(name, mask, operation, operand, where);
}

void come_to_barrier(const char* name, int barrier, int threads, bool waits, Where where) {
  current().worker->come_to_barrier(name, barrier, threads, waits, where);
}

void start_copy(const Copy& copy, Where where) {
  current().worker->start_copy(copy, where, __builtin_return_address(0));
}

void commit_copies() {
  if constexpr (CHECKED) detector::commit_copies();
  current().worker->commit_copies();
}

void wait_for_copies(unsigned pending) {
  if constexpr (CHECKED) detector::wait_for_copies(pending);
  current().worker->wait_for_copies(pending);
}

}  // namespace minicnn::emulation

extern "C" void minicnn_enter_fiber() {
  auto& mine = minicnn::emulation::current();
  mine.worker->run_threads(mine);
}
