// Rungs 2 and 3: a slice of an operand on its way into shared memory.
#pragma once
#include "gemm/operand.h"

namespace minicnn {

// Where the operand lies along the reduction, the lanes of a warp store 16 k of 2 neighbours: two columns more than
// needed, and rows that are 2 banks apart (modulo 16) keep all 32 in different banks. Where it lies along the outer
// index they store neighbours, of which rows of whole lines have no two in one bank.
template <int OUTER, int DEPTH, Along ALONG>
struct Slice {
  static_assert(DEPTH == 16 && OUTER % 16 == 0, "the padding fits this depth");
  float at[DEPTH][OUTER + (ALONG == Along::reduction ? 2 : 0)];
};

// slice.at[k][i] = op(first_outer + i, first_k + k), zeros past the ends. Neighbouring threads read neighbours in
// memory.
template <int THREADS, int OUTER, int DEPTH, Along ALONG>
__device__ inline void stage(Slice<OUTER, DEPTH, ALONG>& slice, const Operand<ALONG>& source, int first_outer,
                             int first_k, int k_end, int thread) {
  static_assert(OUTER * DEPTH % THREADS == 0, "every thread brings the same number of elements");
  for (int nth = 0; nth < OUTER * DEPTH / THREADS; ++nth) {
    const int element = nth * THREADS + thread;
    const bool along_k = ALONG == Along::reduction;
    const int i = along_k ? element / DEPTH : element % OUTER, k = along_k ? element % DEPTH : element / OUTER;
    const bool inside = first_outer + i < source.extent && first_k + k < k_end;
    slice.at[k][i] = inside ? *source.at(first_outer + i, first_k + k) : 0.0f;
  }
}

}  // namespace minicnn
