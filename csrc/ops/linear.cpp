// Fully connected layer on the CPU: three products in which the weights are read, or their gradient written, once.
//
//                                           rows     columns   reduction     blocks packed as they pass
//   forward          y^T  = weight x^T      k        n         c             weight
//   backward input   dx^T = weight^T dy^T   c        n         k             weight, read along its columns
//   backward weight  dw   = dy^T x          k        c         n             dy
//
// x, dx, mask (n, c), weight, dweight (k, c), bias, dbias (k), y, dy (n, k) float32. At a batch of n the weights, 4ck
// bytes, meet 2nck FLOPs a pass: at n = 16 as many a byte as a core's micro-kernel can follow, so memory is the bound
// below and the float32 rate above. Activations lie packed beside: their columns, the images, fill whole vectors even
// at n = 1, which costs nothing while memory is the bound. Scratch: the packed activations, at most (c + k) rows of n
// rounded up to PANEL, and a block for each thread.
#include "kernels.h"
#include "native/product.h"
#include "native/sum_rows.h"

namespace minicnn {
namespace {

struct Plan {
  Panels activations;
  Product product;

  // (m, n) over k, its right operand packed whole.
  Plan(int64_t m, int64_t n, int64_t k, Scratch& scratch)
      : activations(panels_of(scratch.take(panels_size(k, n)), k)), product(Product::plan(m, n, k, scratch)) {}

  static int64_t workspace(int64_t m, int64_t n, int64_t k) {
    Scratch scratch(nullptr);
    Plan(m, n, k, scratch);
    return scratch.floats();
  }
};

// Results whose rows are columns of the product: result (images, features), where the product is (features, images).
struct Transposed {
  Epilogue epilogue;
  const float* bias;  // (features) or null
  int64_t images, features;

  void begin_block(Share) const {}
  Before before(int64_t) const { return {nullptr, 0}; }
  StoreInPanel finish(int64_t, float* waiting) const { return {waiting}; }

  void end_block(Share rows, Share panels, Panels waiting) const {
    const int64_t first = panels.begin * PANEL, last = std::min(panels.end * PANEL, images);
    for (int64_t image = first; image < last; ++image) {
      const float* const column = waiting.at(0, image - first);
      for (int64_t feature = rows.begin; feature < rows.end; ++feature) {
        const float sum = column[(feature - rows.begin) * PANEL];
        epilogue.finish(bias != nullptr ? sum + bias[feature] : sum, image * features + feature);
      }
    }
  }
};

struct WeightRows : RowsOfResult {
  void begin_block(Share rows) {
    for (int64_t row = rows.begin; row < rows.end; ++row) offsets[row - rows.begin] = row * columns;
  }
};

// Activations (images, features) as (features, images).
void pack_images_as_columns(const float* activations, int64_t images, int64_t features, Panels to) {
  constexpr int64_t GRAIN = 1024;
  parallel(features, GRAIN, [&](int64_t begin, int64_t end) {
    pack_transposed(activations + begin, features, end - begin, images, to.from_row(begin));
  });
}

}  // namespace

void linear_forward(const float* x, const float* weight, const float* bias, Activation activation, float* y,
                    float* workspace, int n, int c, int k, Schedule, Stream) {
  Scratch scratch(workspace);
  const Plan plan(k, n, c, scratch);
  pack_images_as_columns(x, n, c, plan.activations);
  multiply<Along::reduction>(
      plan.product,
      [&](Share rows, Share ks, Panels to) {
        pack(weight + rows.begin * c + ks.begin, c, rows.end - rows.begin, ks.end - ks.begin, to);
      },
      plan.activations, [&] { return Transposed{{y, activation, nullptr, Accumulate::overwrite}, bias, n, k}; });
}

void linear_backward_input(const float* dy, const float* weight, const float* mask, float* dx, Accumulate accumulate,
                           float* workspace, int n, int c, int k, Schedule, Stream) {
  Scratch scratch(workspace);
  const Plan plan(c, n, k, scratch);
  pack_images_as_columns(dy, n, k, plan.activations);
  multiply<Along::outer>(
      plan.product,
      [&](Share rows, Share ks, Panels to) {
        pack(weight + ks.begin * c + rows.begin, c, ks.end - ks.begin, rows.end - rows.begin, to);
      },
      plan.activations, [&] { return Transposed{{dx, Activation::none, mask, accumulate}, nullptr, n, c}; });
}

void linear_backward_weight(const float* dy, const float* x, float* dweight, Accumulate accumulate, float* dbias,
                            Accumulate accumulate_dbias, float* workspace, int n, int c, int k, Schedule, Stream) {
  sum_rows(dy, n, k, dbias, accumulate_dbias);
  if (dweight == nullptr) return;
  Scratch scratch(workspace);
  const Plan plan(k, c, n, scratch);
  parallel(panel_count(c), 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * PANEL, last = std::min<int64_t>(end * PANEL, c);
    pack(x + first, c, n, last - first, {plan.activations.panel(begin), plan.activations.stride});
  });
  multiply<Along::outer>(
      plan.product,
      [&](Share rows, Share ks, Panels to) {
        pack(dy + ks.begin * k + rows.begin, k, ks.end - ks.begin, rows.end - rows.begin, to);
      },
      plan.activations, [&] { return WeightRows{{{dweight, Activation::none, nullptr, accumulate}, nullptr, c, {}}}; });
}

void linear_dropout_forward(const float* x, const float* weight, const float* bias, Activation activation,
                            uint64_t seed, const int64_t* drawn, float p, float scale, float* y, float* workspace,
                            int n, int c, int k, Schedule schedule, Stream stream) {
  linear_forward(x, weight, bias, activation, y, workspace, n, c, k, schedule, stream);
  dropout_apply(y, nullptr, y, Accumulate::overwrite, seed, drawn, p, scale, int64_t(n) * k, stream);
}

int64_t linear_forward_workspace(int n, int c, int k, Schedule) { return Plan::workspace(k, n, c); }
int64_t linear_dropout_forward_workspace(int n, int c, int k, Schedule) { return Plan::workspace(k, n, c); }
int64_t linear_backward_input_workspace(int n, int c, int k, Schedule) { return Plan::workspace(c, n, k); }
int64_t linear_backward_weight_workspace(int n, int c, int k, Schedule) { return Plan::workspace(k, c, n); }

}  // namespace minicnn
