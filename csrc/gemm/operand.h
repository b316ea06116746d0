// The operands of a matrix product c = op(a) op(b), and what becomes of a finished sum: shared by all rungs.
#pragma once
#include <cstdint>

#include "device/cuda.h"
#include "device/dropout.h"
#include "gemm/along.h"
#include "kernels.h"

namespace minicnn {

// op(a) or op(b) as a function of (outer, k), whatever its layout.
template <Along ALONG, class T = float>
struct Operand {
  static constexpr Along along = ALONG;
  const T* data;
  int pitch;   // elements from one row in memory to the next
  int extent;  // of the outer index

  __device__ const T* at(int outer, int k) const {
    return data + (ALONG == Along::reduction ? int64_t(outer) * pitch + k : int64_t(k) * pitch + outer);
  }
};

// Calls use(a, b) with the operands as `layout` has them.
template <class T, class Use>
void with_operands(const T* a, const T* b, const GemmShape& shape, Layout layout, const Use& use) {
  const Operand<Along::reduction, T> a_rows{a, shape.lda, shape.m}, b_columns{b, shape.ldb, shape.n};
  const Operand<Along::outer, T> a_transposed{a, shape.lda, shape.m}, b_plain{b, shape.ldb, shape.n};
  if (layout == Layout::nn) use(a_rows, b_plain);
  if (layout == Layout::nt) use(a_rows, b_columns);
  if (layout == Layout::tn) use(a_transposed, b_plain);
}

// What becomes of a finished sum on its way to memory:
//
//   result (+)= mask <= 0 ? 0 : activation(sum + bias) * dropout
template <class T>
struct EpilogueOf {
  const float* bias = nullptr;  // one for each column of the result; or null
  Activation activation = Activation::none;
  DropoutMask dropout;      // of the elements of a result whose rows lie one behind another
  const T* mask = nullptr;  // lies as the result does: y of the ReLU whose gradient this is; or null
  Accumulate accumulate = Accumulate::overwrite;
};
using Epilogue = EpilogueOf<float>;

// One element of c.
__device__ inline void write_sum(float sum, const float* bias, int column, float* c, Accumulate accumulate) {
  if (bias != nullptr) sum += bias[column];
  *c = accumulate == Accumulate::add ? *c + sum : sum;
}

}  // namespace minicnn
