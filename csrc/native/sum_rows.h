// The gradient of a bias: sums (columns) (+)= the sum over the rows of a matrix (rows, columns), in one pass of its
// own, or in parts beside what else is summed over the same rows.
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

// part (LANES) += the sum over `rows` rows of a matrix, `pitch` floats apart: in CHAINS chains, whose latencies
// overlap.
inline void add_rows(const float* matrix, int64_t pitch, int64_t rows, float* part) {
  constexpr int CHAINS = 4;
  Floats sums[CHAINS]{};
  int64_t row = 0;
  for (; row + CHAINS <= rows; row += CHAINS)
#pragma GCC unroll 4
    for (int chain = 0; chain < CHAINS; ++chain) sums[chain] += load(matrix + (row + chain) * pitch);
  for (; row < rows; ++row) sums[0] += load(matrix + row * pitch);
  store(part, load(part) + ((sums[0] + sums[1]) + (sums[2] + sums[3])));
}

// The same for all `columns` of a matrix in panels.
inline void add_rows(Panels matrix, int64_t rows, int64_t columns, float* part) {
  for (int64_t column = 0; column < columns; column += LANES)
    add_rows(matrix.at(0, column), PANEL, rows, part + column);
}

// sums (columns) (+)= the parts, part_floats apart, added in order.
inline void add_bias_parts(const float* parts, int64_t part_floats, int count, int64_t columns, float* sums,
                           Accumulate accumulate) {
  if (sums == nullptr) return;
  const Epilogue epilogue{sums, Activation::none, nullptr, accumulate};
  for (int64_t column = 0; column < columns; ++column) {
    float sum = 0;
    for (int part = 0; part < count; ++part) sum += parts[part * part_floats + column];
    epilogue.finish(sum, column);
  }
}

}  // namespace minicnn
