// GEMM: c (m, n) (+)= op(a) op(b) + bias (n), a bias of null is none. A thread owns rows of c.
#include "native/map.h"

namespace minicnn {

int64_t gemm_workspace(GemmShape, Schedule) { return 0; }

void gemm(const float* a, const float* b, const float* bias, float* c, float*, GemmShape shape, Layout layout,
          Accumulate accumulate, Schedule, Stream) {
  const int64_t a_row = layout == Layout::tn ? 1 : shape.lda, a_column = layout == Layout::tn ? shape.lda : 1;
  const int64_t b_row = layout == Layout::nt ? 1 : shape.ldb, b_column = layout == Layout::nt ? shape.ldb : 1;
  parallel(shape.m, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int j = 0; j < shape.n; ++j) {
        float sum = 0.0f;
        for (int l = 0; l < shape.k; ++l) sum += a[i * a_row + l * a_column] * b[l * b_row + j * b_column];
        float& element = c[i * shape.ldc + j];
        if (bias != nullptr) sum += bias[j];
        element = accumulate == Accumulate::add ? element + sum : sum;
      }
  });
}

}  // namespace minicnn
