// GEMM on the CPU: c (m, n) (+)= op(a) op(b) + bias (n), as native/product.h has it.
//
// b is packed into panels, transposed where it lies as (n, k); a's blocks are packed row by row, and where it lies as
// (k, m) the micro-kernel reads them along their columns, so nothing of a is ever transposed.
// Scratch: b once, and a block of a with its sums for each thread.
#include "kernels.h"
#include "native/product.h"

namespace minicnn {
namespace {

struct Plan {
  Panels b;
  float* bias;
  Product product;

  Plan(const GemmShape& shape, Scratch& scratch)
      : b(panels_of(scratch.take(panels_size(shape.k, shape.n)), shape.k)),
        bias(scratch.take(panel_count(shape.n) * PANEL)),
        product(Product::plan(shape.m, shape.n, shape.k, scratch)) {}
};

struct MatrixRows : RowsOfResult {
  int64_t pitch;

  void begin_block(Share rows) {
    for (int64_t row = rows.begin; row < rows.end; ++row) offsets[row - rows.begin] = row * pitch;
  }
};

void pack_b(const float* b, const GemmShape& shape, Layout layout, Panels to) {
  parallel(panel_count(shape.n), 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * PANEL, columns = std::min<int64_t>(end * PANEL, shape.n) - first;
    const Panels part = {to.panel(begin), to.stride};
    if (layout == Layout::nt)
      pack_transposed(b + first * shape.ldb, shape.ldb, shape.k, columns, part);
    else
      pack(b + first, shape.ldb, shape.k, columns, part);
  });
}

}  // namespace

void gemm(const float* a, const float* b, const float* bias, float* c, float* workspace, GemmShape shape, Layout layout,
          Accumulate accumulate, Schedule, Stream) {
  if (shape.m == 0 || shape.n == 0) return;
  Scratch scratch(workspace);
  const Plan plan(shape, scratch);
  pack_b(b, shape, layout, plan.b);
  if (bias != nullptr) pack(bias, 0, 1, shape.n, panels_of(plan.bias, 1));
  const auto result = [&] {
    const Epilogue epilogue{c, Activation::none, nullptr, accumulate};
    return MatrixRows{{epilogue, bias != nullptr ? plan.bias : nullptr, shape.n, {}}, shape.ldc};
  };
  const auto pack_a = [&](Share rows, Share ks, Panels to) {
    const float* const block =
        layout == Layout::tn ? a + ks.begin * shape.lda + rows.begin : a + rows.begin * shape.lda + ks.begin;
    const int64_t m = rows.end - rows.begin, k = ks.end - ks.begin;
    pack(block, shape.lda, layout == Layout::tn ? k : m, layout == Layout::tn ? m : k, to);
  };
  if (layout == Layout::tn)
    multiply<Along::outer>(plan.product, pack_a, plan.b, result);
  else
    multiply<Along::reduction>(plan.product, pack_a, plan.b, result);
}

int64_t gemm_workspace(GemmShape shape, Schedule) {
  Scratch scratch(nullptr);
  Plan(shape, scratch);
  return scratch.floats();
}

}  // namespace minicnn
