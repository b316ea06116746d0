// Launches: the blocks of a grid spread over the workers.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "emulation/detector/detector.h"
#include "emulation/faults.h"
#include "emulation/recording.h"
#include "emulation/worker.h"

namespace minicnn::emulation {
namespace {

void check_limits(const Launch& launch) {
  const auto require = [&](bool ok, const std::string& message) {
    if (!ok) throw Error(std::string(launch.op) + ": cannot launch: " + message);
  };
  const dim3 &grid = launch.grid, &block = launch.block;
  require(volume(grid) > 0 && volume(block) > 0, "a grid or a block of nothing");
  require(grid.x < 1u << 31 && grid.y < 1u << 16 && grid.z < 1u << 16,
          "a grid has at most 2^31 - 1 x 65535 x 65535 blocks");
  require(block.z <= 64 && volume(block) <= MAX_THREADS, "a block has at most 1024 threads, at most 64 along z");
  require(launch.shared_bytes <= MAX_SHARED_BYTES, "a block has at most 227 KiB of shared memory");
}

// The order in which blocks start.
class BlockOrder {
 public:
  BlockOrder(uint64_t count, const Options& options) : count_(count), reverse_(options.order == Order::reverse) {
    if (options.order != Order::random) return;
    Random random(options.seed);
    shuffled_.resize(count);
    std::iota(shuffled_.begin(), shuffled_.end(), 0u);
    for (uint64_t i = count; i > 1; --i) std::swap(shuffled_[i - 1], shuffled_[random.below(unsigned(i))]);
  }
  uint64_t operator[](uint64_t i) const {
    if (!shuffled_.empty()) return shuffled_[i];
    return reverse_ ? count_ - 1 - i : i;
  }

 private:
  uint64_t count_;
  bool reverse_;
  std::vector<uint32_t> shuffled_;
};

// The workers, kept for the next launch: their stacks are in the cache.
Worker& worker(size_t index) {
  static std::vector<std::unique_ptr<Worker>> workers;
  while (workers.size() <= index) workers.push_back(std::make_unique<Worker>());
  return *workers[index];
}

// A grid in progress: the workers share it.
class Grid {
 public:
  explicit Grid(const Launch& launch) : launch_(launch), count_(volume(launch.grid)), order_(count_, options()) {}

  void work(Worker& worker) {
    assign_faults(worker);
    try {
      worker.begin(launch_);
      for (uint64_t i; (i = next_++) < count_;) worker.run_block(order_[i]);
      ask_detector();
    } catch (...) {
      next_ = count_;
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  // The detector takes blocks for concurrent, whatever runs them, and follows one worker only.
  size_t workers() const { return CHECKED ? 1 : size_t(std::min<uint64_t>(uint64_t(options().workers), count_)); }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void ask_detector() const {
    if constexpr (CHECKED) {
      const std::string found = detector::end_launch();
      if (!found.empty()) throw Error(std::string(launch_.op) + ": " + found);
    }
  }

  const Launch& launch_;
  const uint64_t count_;
  const BlockOrder order_;
  std::atomic<uint64_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace

void run_grid(const Launch& launch) {
  check_limits(launch);
  if (recording) record(launch);
  Grid grid(launch);
  const size_t workers = grid.workers();
  worker(workers - 1);  // all exist before the first starts
  if constexpr (CHECKED) detector::begin_launch(launch);
  const FaultHandler handler;
  std::vector<std::thread> team;
  for (size_t i = 1; i < workers; ++i) team.emplace_back([&grid, i] { grid.work(worker(i)); });
  grid.work(worker(0));
  for (std::thread& thread : team) thread.join();
  grid.rethrow();
}

Options& options() {
  static Options options = [] {
    Options initial;
    if (const char* workers = std::getenv("MINICNN_EMULATED_WORKERS"))
      initial.workers = std::max(1, std::atoi(workers));
    return initial;
  }();
  return options;
}

}  // namespace minicnn::emulation
