// The weight's gradient of a fully connected layer and the step of SGD that it is for, in one pass: the gradient never
// reaches memory.
//
// dweight[k,c] = sum over n of dy[n,k] x[n,c]
// (weight[k,c], velocity[k,c]) = one step of sgd.cu with the gradient dweight[k,c]
//
// dy (n, k), x (n, c), weight, velocity (k, c) float32; hyper (2) float32: lr, the scale of gradients.
//
// A block owns a tile of the weights for the whole reduction, a thread 8 x 8 of them (8 x 4 in a tile of 64), as in
// gemm_5_pipelined.cu. Grid ceil(k / tile) * ceil(c / tile), block 2 * tile threads, 16,912 (8,720) bytes shared.
// FLOPs: 2nck and some 6 an element. Bytes an element: 16 (read weight and velocity, write both), where a gradient in
// memory takes 24: 4 to write it, 20 in sgd.cu. Bound by memory bandwidth at small n, by the float32 rate from about
// n = 180 on (67 TFLOP/s, 3 TB/s): 0.31 ms for AlexNet's 58.6 million fully connected weights at n = 128, where the two
// launches' floors are 0.22 and 0.39; nothing measured.
//
// The reduction, which runs over the images of a batch, is not cut: below 512 of them it never is (schedule.cu).
// Assumes that dx has been computed: it wants the weights as they were. Accesses are 4 bytes wide off 16-byte
// boundaries. Source of the idea: Jiang et al. 2021, "Optimizer Fusion: Efficient Training with Better
// Locality and Parallelism".
#include "gemm/schedule.h"
#include "launch.h"
#include "ops/sgd.h"

namespace minicnn {
namespace {

using Columns = Operand<Along::outer>;

struct SgdTarget {
  float *weight, *velocity;  // (rows, columns)
  const float* hyper;
  float lr_multiplier, momentum, weight_decay;
  SgdRule rule;
};

template <int TILE>
__device__ void step_tile(const ThreadSums<TILE>& sums, const SgdTarget& target, int first_row, int rows,
                          int first_column, int columns) {
  using Sums = ThreadSums<TILE>;
  const SgdStep step{target.hyper[0] * target.lr_multiplier, target.hyper[1], target.momentum, target.weight_decay};
#pragma unroll  // the sums are registers, which no variable can index
  for (int i = 0; i < Sums::ROWS; ++i) {
    const int row = first_row + Sums::row(i);
    if (row >= rows) continue;
    const int64_t start = int64_t(row) * columns;
#pragma unroll
    for (int j = 0; j < Sums::COLUMNS; j += 4) {
      const int column = first_column + Sums::column(j);
      Vec4 w = load_vec4(target.weight + start, column, columns),
           v = load_vec4(target.velocity + start, column, columns);
      for (int e = 0; e < 4; ++e) sgd_update(w.values[e], v.values[e], sums.values[i][j + e], step, target.rule);
      store_vec4(target.velocity + start, column, columns, v);
      store_vec4(target.weight + start, column, columns, w);
    }
  }
}

template <int TILE, Access ACCESS>
__global__ void __launch_bounds__(tile_threads<TILE>())
    linear_backward_weight_sgd_kernel(Columns dy, Columns x, SgdTarget target, int n) {
  const int column_tiles = ceil_div(x.extent, TILE);
  const int first_row = blockIdx.x / column_tiles * TILE, first_column = blockIdx.x % column_tiles * TILE;
  auto& shared = shared_memory<TileStorage<TILE>>();
  shared.tile.keep(first_row, first_column);
  ThreadSums<TILE> sums;
  multiply_slices<TILE>(matrix_cursor<TILE, ACCESS>(dy, first_row, 0, n),
                        matrix_cursor<TILE, ACCESS>(x, first_column, 0, n), ceil_div(n, TILE_K), shared, sums);
  step_tile(sums, target, shared.tile.first_row, dy.extent, shared.tile.first_column, x.extent);
}

}  // namespace

void linear_backward_weight_sgd(const float* dy, const float* x, float* weight, float* velocity, const float* hyper,
                                float lr_multiplier, float momentum, float weight_decay, SgdRule rule, int n, int c,
                                int k, Schedule schedule, Stream stream) {
  const char* const op = "linear_backward_weight_sgd";
  const Product product{k, c, n, 1};
  schedule.splits = 1;
  schedule = choose_schedule(op, product, schedule);
  if (k == 0 || c == 0) return;
  const SgdTarget target{weight, velocity, hyper, lr_multiplier, momentum, weight_decay, rule};
  const bool quads = is_aligned(dy) && is_aligned(x) && k % 4 == 0 && c % 4 == 0;
  launch_tiles(op, product, schedule, quads ? Access::quads : Access::elements, stream,
               [&](auto tile, auto access, const LaunchConfig& config) {
                 launch(linear_backward_weight_sgd_kernel<tile, access>, config, Columns{dy, k, k}, Columns{x, c, c},
                        target, n);
               });
}

}  // namespace minicnn
