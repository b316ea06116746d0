// driver               every function against plain loops; prints the functions' names; fails where one is wrong, and
//                      with 77 where this processor lacks the instructions
// driver --plant KIND  commits a fault through the kernels themselves, for the check that a sanitizer reports it
#include "driver.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <thread>

#include "native/cpu.h"
#include "native/threads.h"

namespace driver {
namespace {

int failures = 0;
std::set<std::string> functions;

// Marsaglia 2003, "Xorshift RNGs".
struct Random {
  uint32_t state;
  uint32_t next() {
    state ^= state << 13;
    state ^= state >> 17;
    return state ^= state << 5;
  }
};

Array drawn(int64_t count, uint32_t seed, const std::function<float(uint32_t)>& number) {
  Random random{seed * 2654435761u + 1};
  Array values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = number(random.next() >> 8);
  return values;
}

double root_mean_square(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += std::isfinite(value) ? value * value : 0;
  return values.empty() ? 0 : std::sqrt(sum / double(values.size()));
}

bool is_close(double got, double expected, double tolerance, double scale) {
  if (std::isnan(expected) || std::isinf(expected)) return std::isnan(expected) ? std::isnan(got) : got == expected;
  return std::abs(got - expected) <= tolerance * (std::abs(expected) + scale);
}

void fail(const std::string& name, const std::string& message) {
  std::fprintf(stderr, "%s: %s\n", name.c_str(), message.c_str());
  ++failures;
}

void compare(const std::string& name, const Array& got, const Expected& expected) {
  const double scale = root_mean_square(expected.values);
  if (got.count() != int64_t(expected.values.size())) return fail(name, "another number of elements");
  for (int64_t i = 0; i < got.count(); ++i)
    if (!is_close(got[i], expected.values[i], expected.tolerance, scale))
      return fail(name, expected.what + "[" + std::to_string(i) + "] is " + std::to_string(got[i]) + ", expected " +
                            std::to_string(expected.values[i]));
}

bool same_bits(const Array& a, const Array& b) {
  return std::memcmp(a.begin(), b.begin(), a.count() * sizeof(float)) == 0;
}

}  // namespace

Array integers(int64_t count, uint32_t seed) {
  return drawn(count, seed, [](uint32_t random) { return float(int(random % 7) - 3); });
}

Array numbers(int64_t count, uint32_t seed, float low, float high) {
  return drawn(count, seed, [=](uint32_t random) { return low + (high - low) * float(random) * 0x1p-24f; });
}

void verify(const char* function, const std::string& variant, const std::vector<Expected>& expected,
            const std::function<std::vector<Array>()>& run) {
  functions.insert(function);
  for (const int threads : {1, 2, 4, 16}) {
    set_thread_count(threads);
    const std::string name = std::string(function) + " " + variant + ", " + std::to_string(threads) + " threads";
    const std::vector<Array> first = run(), second = run();
    for (size_t i = 0; i < expected.size(); ++i) {
      compare(name, first[i], expected[i]);
      if (!same_bits(first[i], second[i])) fail(name, "other bits the second time");
    }
  }
}

namespace {

// Several threads of the program call kernels at once, and a body calls one from within its share.
void verify_callers() {
  set_thread_count(4);
  constexpr int64_t COUNT = 4 * 16384, CALLERS = 3;
  const Array x = integers(COUNT, 1);
  Array results[CALLERS];
  std::vector<std::thread> callers;
  for (Array& y : results) {
    y = unwritten(COUNT);
    callers.emplace_back([&x, &y] {
      for (int i = 0; i < 50; ++i) relu_forward(x, y, COUNT, nullptr);
    });
  }
  for (std::thread& caller : callers) caller.join();
  const Expected expected{"y", map(COUNT, [&](int64_t i) { return std::max(x[i], 0.0f); }), EXACT};
  for (const Array& y : results) compare("several callers at once", y, expected);

  Array y = unwritten(COUNT);
  run_shares(4, [&](int share) { relu_forward(x + share * COUNT / 4, y + share * COUNT / 4, COUNT / 4, nullptr); });
  compare("a kernel within a share", y, expected);
}

int plant(const std::string& kind) {
  set_thread_count(2);
  constexpr int64_t COUNT = 1 << 17;
  const Array x = integers(COUNT, 1);
  Array y = unwritten(COUNT);
  if (kind == "overflow") {
    relu_forward(x, y, COUNT + 1, nullptr);
  } else if (kind == "undefined") {
    const Axis axis{.inputs = 1, .taps = 1, .outputs = 1 << 30, .stride = 4, .padding = 0, .dilation = 1};
    y[0] = float(axis.input_at(axis.outputs - int(x.count() > 0), 0));
  } else if (kind == "race") {
    set_thread_count(1);  // the pool, which orders its callers, is not asked
    std::thread other([&] { relu_forward(x, y, COUNT, nullptr); });
    relu_forward(x, y, COUNT, nullptr);
    other.join();
  } else if (kind == "wrong") {
    verify("relu_forward", "planted", map(COUNT, [&](int64_t i) { return x[i]; }), EXACT,
           [&](float* to) { relu_forward(x, to, COUNT, nullptr); });
    return failures > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
  } else {
    std::fprintf(stderr, "no such fault: %s\n", kind.c_str());
    return EXIT_FAILURE;
  }
  return y[0] == y[0] ? EXIT_SUCCESS : EXIT_FAILURE;
}

// Asked of code that every processor runs.
bool can_run() {
  for (const std::string& set : instruction_sets())
    if (std::string(instruction_set()).starts_with(set)) return true;
  return false;
}

int verify_all() {
  verify_elements();
  verify_rows();
  verify_windows();
  verify_products();
  verify_callers();
  std::printf("instruction set: %s\n", instruction_set());
  for (const std::string& function : functions) std::printf("%s\n", function.c_str());
  return failures > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

}  // namespace
}  // namespace driver

int main(int count, char** arguments) {
  if (count == 3 && std::strcmp(arguments[1], "--plant") == 0) return driver::plant(arguments[2]);
  return driver::can_run() ? driver::verify_all() : 77;
}
