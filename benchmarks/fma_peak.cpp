// What the processor's multiply-add units do at most: independent chains in registers, nothing from memory.
// Prints FLOP/s. c++ -O3 -march=native -ffp-contract=fast -std=c++20 -pthread fma_peak.cpp && ./a.out THREADS
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
using Floats = float __attribute__((vector_size(LANES * sizeof(float))));

constexpr int CHAINS = 12;  // more than latency times units: 4 cycles, 2 a cycle
constexpr int64_t STEPS = 1 << 20;

// All loops over the chains are unrolled, so that each chain is a register.
float multiply_add(float seed) {
  Floats sums[CHAINS];
  const Floats factor = Floats{} + seed, term = Floats{} + 1e-9f;
#pragma GCC unroll 12
  for (int i = 0; i < CHAINS; ++i) sums[i] = factor;
  for (int64_t step = 0; step < STEPS; ++step)
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; ++i) sums[i] = sums[i] * factor + term * float(i);
  Floats total{};
#pragma GCC unroll 12
  for (int i = 0; i < CHAINS; ++i) total += sums[i];
  return total[0];
}

int main(int count, char** arguments) {
  const int threads = count > 1 ? std::atoi(arguments[1]) : 1;
  const auto best_of = [&](int rounds) {
    double best = 1e9;
    for (int round = 0; round < rounds; ++round) {
      std::vector<std::thread> others;
      std::atomic<float> kept = 0;
      const auto begin = std::chrono::steady_clock::now();
      for (int i = 0; i < threads; ++i) others.emplace_back([&] { kept = multiply_add(0.999999f); });
      for (std::thread& other : others) other.join();
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    return best;
  };
  std::printf("%.4g\n", 2.0 * LANES * CHAINS * STEPS * threads / best_of(50));
}
