// Rungs 2 and 3: a slice of an operand on its way into shared memory.
#pragma once
#include "gemm/operand.h"

namespace minicnn {

// Two columns more than needed: where the operand lies along the reduction, the lanes of a warp store 16 k of 2
// neighbours, and rows that are 2 banks apart (modulo 16) keep all 32 in different banks.
template <int OUTER, int DEPTH>
struct Slice {
  static_assert(DEPTH == 16 && OUTER % 16 == 0, "the padding fits this depth");
  float at[DEPTH][OUTER + 2];
};

// slice.at[k][i] = op(first_outer + i, first_k + k), zeros past the ends. Neighbouring threads read neighbours in
// memory.
template <int THREADS, int OUTER, int DEPTH, class Source>
__device__ inline void stage(Slice<OUTER, DEPTH>& slice, const Source& source, int first_outer, int first_k, int k_end,
                             int thread) {
  static_assert(OUTER * DEPTH % THREADS == 0, "every thread brings the same number of elements");
  for (int element = thread; element < OUTER * DEPTH; element += THREADS) {
    const bool along_k = Source::along == Along::reduction;
    const int i = along_k ? element / DEPTH : element % OUTER, k = along_k ? element % DEPTH : element / OUTER;
    const bool inside = first_outer + i < source.extent && first_k + k < k_end;
    slice.at[k][i] = inside ? *source.at(first_outer + i, first_k + k) : 0.0f;
  }
}

}  // namespace minicnn
