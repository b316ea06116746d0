// The driver of the native kernels: every function of theirs, called from C++ without Python, against plain loops.
//
// Arrays are as long as the kernel may reach and begin where malloc puts them; outputs and workspaces are full of NaN
// beforehand, so that what nobody writes, and what is read before it is written, comes out wrong. Sums of inputs that
// are small whole numbers are exact in float32 whatever their order: where the tolerance is 0, every bit must be right.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"

namespace driver {

using namespace minicnn;

inline constexpr Schedule NO_SCHEDULE{};

template <class Number>
class ArrayOf {
 public:
  explicit ArrayOf(int64_t count = 0, Number value = {}) : numbers_(count, value) {}
  template <class Iterator>
  ArrayOf(Iterator begin, Iterator end) : numbers_(begin, end) {}

  operator Number*() { return numbers_.data(); }
  operator const Number*() const { return numbers_.data(); }
  const Number* begin() const { return numbers_.data(); }
  const Number* end() const { return begin() + count(); }
  int64_t count() const { return int64_t(numbers_.size()); }

 private:
  std::vector<Number> numbers_;
};
using Array = ArrayOf<float>;

inline Array unwritten(int64_t count) { return Array(count, std::numeric_limits<float>::quiet_NaN()); }

// As many, but on a cache line, as results that are stored past the caches lie.
struct Release {
  void operator()(float* memory) const { std::free(memory); }
};
using Lines = std::unique_ptr<float, Release>;
inline Lines lines(int64_t count) {
  return Lines(static_cast<float*>(std::aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64)));
}

// Whole numbers of [-3, 3], and numbers of [low, high): a different row of them for each seed.
Array integers(int64_t count, uint32_t seed);
Array numbers(int64_t count, uint32_t seed, float low, float high);

// What plain loops gave for an output, in double precision, and how far the kernel may be from it:
// tolerance * (|value| + root mean square of all values).
struct Expected {
  std::string what;
  std::vector<double> values;
  double tolerance;
};

inline constexpr double EXACT = 0, ROUNDED = 2e-6, WINOGRAD = 2e-5;

// run() returns the outputs in the order of `expected`: with 1, 2, 4 and 16 threads, twice each, the second time with
// the same bits.
void verify(const char* function, const std::string& variant, const std::vector<Expected>& expected,
            const std::function<std::vector<Array>()>& run);

// The same for one output.
inline void verify(const char* function, const std::string& variant, std::vector<double> expected, double tolerance,
                   const std::function<void(float*)>& run) {
  const auto count = int64_t(expected.size());
  verify(function, variant, {{"y", std::move(expected), tolerance}}, [&] {
    Array y = unwritten(count);
    run(y);
    return std::vector{y};
  });
}

// The same for a gradient, which is written, then added to what is there.
inline void verify_gradient(const char* function, const std::string& variant, std::vector<double> expected,
                            double tolerance, const std::function<void(float*, Accumulate)>& run) {
  const Array before = integers(int64_t(expected.size()), 99);
  verify(function, variant, expected, tolerance, [&](float* dx) { run(dx, Accumulate::overwrite); });
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += before[i];
  verify(function, variant + " added", {{"dx", expected, tolerance}}, [&] {
    Array dx = before;
    run(dx, Accumulate::add);
    return std::vector{dx};
  });
}

// Element by element: value(i).
inline std::vector<double> map(int64_t count, const std::function<double(int64_t)>& value) {
  std::vector<double> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = value(i);
  return values;
}

// The four parts of the driver.
void verify_elements();
void verify_rows();
void verify_windows();
void verify_products();

}  // namespace driver
