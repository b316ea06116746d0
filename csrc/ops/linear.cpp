// Fully connected layer on the CPU: three products in which the weights are read, or their gradient written, once.
//
//                                           rows     columns   reduction     blocks packed as they pass
//   forward          y^T  = weight x^T      k        n         c             weight
//   backward input   dx^T = weight^T dy^T   c        n         k             weight, read along its columns
//   backward weight  dw   = dy^T x          k        c         n             nothing
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
  Plan(int64_t m, int64_t n, int64_t k, Block block, Scratch& scratch)
      : activations(panels_of(scratch.take(panels_size(k, n)), k)), product(Product::plan(m, n, k, block, scratch)) {}

  static int64_t workspace(int64_t m, int64_t n, int64_t k, Block block) {
    Scratch scratch(nullptr);
    Plan(m, n, k, block, scratch);
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

// The two operands of the weights' gradient, whole.
struct WeightPlan {
  Panels dy, x;

  WeightPlan(int n, int c, int k, Scratch& scratch)
      : dy(panels_of(scratch.take(panels_size(n, k)), n)), x(panels_of(scratch.take(panels_size(n, c)), n)) {}
};

// Finish: the sums as they are, into rows `pitch` apart, past the caches.
struct StorePastCaches {
  float* result;
  int64_t pitch;

  template <int ROWS, int VECTORS>
  void operator()(int64_t first_row, Sums<ROWS, VECTORS>& sums) const {
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < VECTORS; ++j)
        store_past_caches(result + (first_row + i) * pitch + j * LANES, sums[i][j], Whole());
  }
};

// Columns of x that a first-level cache keeps while the rows pass by. What a tile's rows are in them is gathered before
// it is stored, in runs of 1 KiB a row, unless it is stored past the caches: stores of a panel's 128 bytes to rows that
// are whole pages apart would all meet in one set of the cache.
constexpr int RUN_PANELS = 256 / PANEL;

// A tile's rows of dweight (+)= dy^T x, in a run of columns.
void weight_run(const WeightPlan& plan, int64_t n, int64_t c, Share rows, Share columns, const Epilogue& dweight,
                bool past_caches) {
  const Panels dy = {plan.dy.at(0, rows.begin), plan.dy.stride};
  const auto multiply = [&](const auto& finish_at) {
    with_constant<TILE_ROWS>(int(rows.end - rows.begin), [&](auto count) {
      for (int64_t column = columns.begin; column < columns.end; column += PANEL) {
        const float* const x = plan.x.at(0, column);
        if (columns.end - column > LANES)
          multiply_tile<Along::outer, count, 2>(dy.data, dy.stride, x, n, Before{nullptr, 0}, 0, finish_at(column));
        else
          multiply_tile<Along::outer, count, 1>(dy.data, dy.stride, x, n, Before{nullptr, 0}, 0, finish_at(column));
      }
    });
  };
  if (past_caches) {
    multiply([&](int64_t column) { return StorePastCaches{dweight.result + rows.begin * c + column, c}; });
    return;
  }
  alignas(64) float sums[RUN_PANELS * TILE_ROWS * PANEL];
  const Panels run = panels_of(sums, TILE_ROWS);
  multiply([&](int64_t column) { return StoreInPanel{run.at(0, column - columns.begin)}; });
  for (int64_t row = rows.begin; row < rows.end; ++row)
    in_vectors(columns.begin, columns.end, [&](int64_t column, auto lanes) {
      const Floats sum = load_some(run.at(row - rows.begin, column - columns.begin), lanes);
      dweight.finish(sum, row * c + column, lane_count(lanes));
    });
}

void pack_in_shares(const float* matrix, int64_t rows, int64_t columns, Panels to) {
  parallel(panel_count(columns), 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * PANEL, last = std::min<int64_t>(end * PANEL, columns);
    pack(matrix + first, columns, rows, last - first, {to.panel(begin), to.stride});
  });
}

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
  const Plan plan(k, n, c, LONG_IN_DEPTH, scratch);
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
  const Plan plan(c, n, k, LONG_IN_ROWS, scratch);
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
  const WeightPlan plan(n, c, k, scratch);
  pack_in_shares(dy, n, k, plan.dy);
  pack_in_shares(x, n, c, plan.x);
  const Epilogue epilogue{dweight, Activation::none, nullptr, accumulate};
  const bool past_caches = accumulate == Accumulate::overwrite && is_stored_past_caches(dweight, k, c);
  constexpr int TILES = ceil_div(PANEL, TILE_ROWS);  // of a panel of dy
  parallel(panel_count(k) * TILES, 1, [&](int64_t begin, int64_t end) {
    for (int64_t column = 0; column < c; column += RUN_PANELS * PANEL) {
      const Share columns = {column, std::min<int64_t>(column + RUN_PANELS * PANEL, c)};
      for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t panel = tile / TILES * PANEL, part = tile % TILES;
        const Share rows = {panel + PANEL * part / TILES, std::min<int64_t>(panel + PANEL * (part + 1) / TILES, k)};
        if (rows.begin < rows.end) weight_run(plan, n, c, rows, columns, epilogue, past_caches);
      }
    }
    if (past_caches) fence_stores_past_caches();
  });
}

void linear_dropout_forward(const float* x, const float* weight, const float* bias, Activation activation,
                            uint64_t seed, const int64_t* drawn, float p, float scale, float* y, float* workspace,
                            int n, int c, int k, Schedule schedule, Stream stream) {
  linear_forward(x, weight, bias, activation, y, workspace, n, c, k, schedule, stream);
  dropout_apply(y, nullptr, y, Accumulate::overwrite, seed, drawn, p, scale, int64_t(n) * k, stream);
}

int64_t linear_forward_workspace(int n, int c, int k, Schedule) { return Plan::workspace(k, n, c, LONG_IN_DEPTH); }
int64_t linear_dropout_forward_workspace(int n, int c, int k, Schedule schedule) {
  return linear_forward_workspace(n, c, k, schedule);
}
int64_t linear_backward_input_workspace(int n, int c, int k, Schedule) {
  return Plan::workspace(c, n, k, LONG_IN_ROWS);
}
int64_t linear_backward_weight_workspace(int n, int c, int k, Schedule) {
  Scratch scratch(nullptr);
  WeightPlan(n, c, k, scratch);
  return scratch.floats();
}

}  // namespace minicnn
