#include "native/threads.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <pthread.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace minicnn {
namespace {

// Longer than what Python does between two ops; much shorter than anybody notices.
constexpr auto AWAKE = std::chrono::microseconds(100);

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Returns when value is no longer `old`.
void wait_while(const std::atomic<int>& value, int old, bool awake) {
  if (awake) {
    const auto until = std::chrono::steady_clock::now() + AWAKE;
    do {
      for (int i = 0; i < 32; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        pause();
      }
    } while (std::chrono::steady_clock::now() < until);
  }
  value.wait(old, std::memory_order_acquire);
}

constexpr int CACHE_LINE = 64;

struct alignas(CACHE_LINE) Worker {
  std::atomic<int> posted = 0;  // 1: its share waits. Whoever makes it 0 computes the share
};

struct Pool {
  std::atomic_flag busy;
  std::vector<std::unique_ptr<Worker>> workers;  // of shares 1, 2, ...; each runs as long as the process
  void (*run)(const void*, int) = nullptr;
  const void* body = nullptr;
  std::atomic<bool> awake = false;                      // whether who waits may keep a core busy
  alignas(CACHE_LINE) std::atomic<int> unfinished = 0;  // shares of the workers

  void finish(int share) {
    run(body, share);
    if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished.notify_one();
  }

  static bool claim(Worker& worker) { return worker.posted.exchange(0, std::memory_order_acq_rel) == 1; }

  [[noreturn]] void serve(Worker& self, int share) {
    for (;;) {
      wait_while(self.posted, 0, awake.load(std::memory_order_relaxed));
      if (claim(self)) finish(share);
    }
  }

  void grow(int shares) {
    for (int share = int(workers.size()) + 1; share < shares; ++share) {
      Worker& worker = *workers.emplace_back(std::make_unique<Worker>());
      std::thread([this, &worker, share] { serve(worker, share); }).detach();
    }
  }

  void compute(int shares, void (*run_share)(const void*, int), const void* its_body) {
    grow(shares);
    run = run_share;
    body = its_body;
    awake.store(shares <= int(std::thread::hardware_concurrency()), std::memory_order_relaxed);
    unfinished.store(shares - 1, std::memory_order_relaxed);
    for (int i = 0; i < shares - 1; ++i) {
      workers[i]->posted.store(1, std::memory_order_release);
      workers[i]->posted.notify_one();
    }
    run(body, 0);
    for (int i = 0; i < shares - 1; ++i)
      if (claim(*workers[i])) finish(i + 1);
    while (const int left = unfinished.load(std::memory_order_acquire)) wait_while(unfinished, left, awake);
  }
};

std::atomic<int> threads = 1;

// Never destroyed: its threads may still be waiting when the process ends.
Pool* pool = [] {
#ifndef _WIN32
  pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });  // a child has none of its parent's threads
#endif
  return new Pool;
}();

}  // namespace

int thread_count() { return threads.load(std::memory_order_relaxed); }

void set_thread_count(int count) { threads.store(std::max(1, count), std::memory_order_relaxed); }

void run_shares(int shares, void (*run)(const void* body, int share), const void* body) {
  if (shares == 1 || pool->busy.test_and_set(std::memory_order_acquire)) {
    for (int share = 0; share < shares; ++share) run(body, share);
    return;
  }
  pool->compute(shares, run, body);
  pool->busy.clear(std::memory_order_release);
}

}  // namespace minicnn
