// The operands of a matrix product c = op(a) op(b), and what becomes of a finished sum: shared by all rungs.
#pragma once
#include <cstdint>

#include "device/cuda.h"
#include "kernels.h"

namespace minicnn {

// Which neighbours lie side by side in memory: those along the reduction k, or those along the outer index, which is
// the row of c for operand a and the column of c for operand b.
enum class Along { reduction, outer };

// op(a) or op(b) as a function of (outer, k), whatever its layout.
template <Along ALONG>
struct Operand {
  static constexpr Along along = ALONG;
  const float* data;
  int pitch;   // elements from one row in memory to the next
  int extent;  // of the outer index

  __device__ const float* at(int outer, int k) const {
    return data + (ALONG == Along::reduction ? int64_t(outer) * pitch + k : int64_t(k) * pitch + outer);
  }
};

// Calls use(a, b) with the operands as `layout` has them.
template <class Use>
void with_operands(const float* a, const float* b, const GemmShape& shape, Layout layout, const Use& use) {
  const Operand<Along::reduction> a_rows{a, shape.lda, shape.m}, b_columns{b, shape.ldb, shape.n};
  const Operand<Along::outer> a_transposed{a, shape.lda, shape.m}, b_plain{b, shape.ldb, shape.n};
  if (layout == Layout::nn) use(a_rows, b_plain);
  if (layout == Layout::nt) use(a_rows, b_columns);
  if (layout == Layout::tn) use(a_transposed, b_plain);
}

// What becomes of a finished sum on its way to memory:
//
//   result (+)= mask <= 0 ? 0 : activation(sum + bias)
struct Epilogue {
  const float* bias = nullptr;  // one for each column of the result; or null
  Activation activation = Activation::none;
  const float* mask = nullptr;  // lies as the result does: y of the ReLU whose gradient this is; or null
  Accumulate accumulate = Accumulate::overwrite;
};

// One element of c.
__device__ inline void write_sum(float sum, const float* bias, int column, float* c, Accumulate accumulate) {
  if (bias != nullptr) sum += bias[column];
  *c = accumulate == Accumulate::add ? *c + sum : sum;
}

}  // namespace minicnn
