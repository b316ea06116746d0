// Element-wise functions of one array: y = f(x) and dx (+)= f'(...), for any `Function` with
//
//   Floats value(Floats x) const                          y
//   Floats gradient(Floats dy, Floats saved) const        dx, where `saved` is x or y, as the op keeps it
//
// x, y, dy, saved, dx (count) float32; any shape, flattened. A thread owns a run of elements. The output may be the
// very array that an input is.
// Bytes an element: 8 forward, 12 backward, 16 with Accumulate::add, and 4 more each way where the processor reads a
// line before it overwrites it: bound by memory bandwidth.
#pragma once
#include "kernels.h"
#include "native/simd.h"
#include "native/threads.h"

namespace minicnn {

// Elements of a cheap function that a thread should have at least: some microseconds of work, against one to share it.
constexpr int64_t GRAIN = 16384;
constexpr int64_t LINE = 64 / sizeof(float);

template <class Function>
void map_forward(const Function& function, const float* x, float* y, int64_t count, int64_t grain = GRAIN) {
  parallel(count, grain, LINE, [&](int64_t begin, int64_t end) {
    in_vectors(begin, end,
               [&](int64_t i, auto lanes) { store_some(y + i, function.value(load_some(x + i, lanes)), lanes); });
  });
}

// to (+)= values.
template <class Lanes>
inline void write_some(float* to, Floats values, Accumulate accumulate, Lanes lanes) {
  if (accumulate == Accumulate::add) values += load_some(to, lanes);
  store_some(to, values, lanes);
}

// ReLU, which keeps a NaN, and its gradient, which a NaN of y lets pass.
inline Floats relu(Floats x) { return x < 0.0f ? Floats{} : x; }
inline Floats relu_gradient(Floats dy, Floats y) { return y <= 0.0f ? Floats{} : dy; }

// dy from `at` on, 0 where the ReLU with the output y cut it; as it is where y is null.
template <class Lanes>
inline Floats load_gradient(const float* dy, const float* y, int64_t at, Lanes lanes) {
  const Floats gradient = load_some(dy + at, lanes);
  return y == nullptr ? gradient : relu_gradient(gradient, load_some(y + at, lanes));
}

// The same, with 0 where the mask is not above 0; a mask of null is none.
template <class Lanes>
inline void write_some(float* to, Floats values, const float* mask, Accumulate accumulate, Lanes lanes) {
  if (mask != nullptr) values = relu_gradient(values, load_some(mask, lanes));
  write_some(to, values, accumulate, lanes);
}

template <class Function>
void map_backward(const Function& function, const float* dy, const float* saved, float* dx, Accumulate accumulate,
                  int64_t count, int64_t grain = GRAIN) {
  parallel(count, grain, LINE, [&](int64_t begin, int64_t end) {
    in_vectors(begin, end, [&](int64_t i, auto lanes) {
      const Floats gradient = function.gradient(load_some(dy + i, lanes), load_some(saved + i, lanes));
      write_some(dx + i, gradient, accumulate, lanes);
    });
  });
}

}  // namespace minicnn
