// The gradient of a bias by itself: sums (columns) (+)= the sum over the rows of a matrix (rows, columns).
#pragma once
#include "kernels.h"
#include "native/product.h"

namespace minicnn {

inline void sum_rows(const float* matrix, int64_t rows, int64_t columns, float* sums, Accumulate accumulate) {
  if (sums == nullptr) return;
  const Epilogue epilogue{sums, Activation::none, nullptr, accumulate};
  parallel(columns, 1, LANES, [&](int64_t begin, int64_t end) {
    for (int64_t column = begin; column < end; column += LANES) {
      const int count = int(std::min<int64_t>(LANES, end - column));
      Floats sum{};
      for (int64_t row = 0; row < rows; ++row) sum += load_some(matrix + row * columns + column, count);
      epilogue.finish(sum, column, count);
    }
  });
}

}  // namespace minicnn
