// Convolution as an implicit GEMM on the tensor cores.
//
// The three products of conv2d_implicit.cu, with its blocks, residue classes and cut reductions, and with
// gemm/tensor_core_tile.h as the inner tile: the im2col matrix exists only as chunks of 16 bytes on their way to shared
// memory.
//
// x, dx (N, H, W, C), w (K, R, S, C / groups), y, dy (N, P, Q, K), mask as dx: float32, Bfloat16 or Float16; bias,
// dbias (K), dw (K, R, S, C / groups) float32; workspace (splits, result) float32 where the reduction is cut.
//
// A block owns a tile of the result for one part of the reduction, a warp a quarter of it (of tf32x3's large tile an
// eighth). Of the blocks of the weight's gradient those of the first column of tiles add up the rows of dy too, from
// the slices in shared memory: dbias. Grid tiles x groups x splits, block 128 (256) threads, 49,168 (24,592) bytes
// shared. FLOPs: 2 N P Q K R S C / groups in each of the three, three times that with tf32x3. Elements from the
// second-level cache at a tile of 128: 1 / 128 a FLOP. Bound by the matrix rate, or by that cache's bandwidth where it
// is lower, from 64 channels and filters a group on; below, by the tile's empty edge. Floors, batch 128 on an H100 at
// the 514 (260, 87) TFLOP/s of gemm_8_asynchronous.cu, nothing measured: AlexNet owt conv2 0.11 (0.22, 0.66) ms, VGG 64
// -> 64 at 224 x 224 0.92 (1.8, 5.4) ms a pass.
//
// Assumes what conv2d_implicit.cu does. Where a group's channels and filters are no multiples of 16 bytes, or arrays
// lie off them, the small tile finds its elements one by one. Sources: those of conv2d_implicit.cu and of
// gemm/precision.h.
#include "gemm/tensor_core.h"
#include "gemm/tensor_core_row_sums.h"
#include "launch.h"
#include "ops/conv2d_first_layer.h"
#include "ops/conv2d_implicit.h"
#include "ops/conv2d_tensor_core.h"
#include "ops/conv2d_tensor_core_cursors.h"

namespace minicnn {
namespace {

template <class Arithmetic, int TILE, Copies COPIES, class T = typename Arithmetic::Element>
__global__ void __launch_bounds__(TENSOR_CORE_THREADS<Arithmetic, TILE>, FEWEST_BLOCKS<Arithmetic, TILE>)
    conv2d_forward_tensor_core_kernel(const __grid_constant__ Patches<T> x, const T* w,
                                      const __grid_constant__ TensorCoreDestination<T> y, int filters) {
  using FilterRows = MatrixChunks<SliceChunks<Arithmetic, TILE, Along::reduction>, COPIES>;
  const ConvShape& conv = x.conv;
  const int depth = conv.r * conv.s * x.channels;
  const BlockWork<TILE> work(filters, depth, FilterRows::Layout::DEPTH);
  const int first_filter = work.group * filters;
  const Operand<Along::reduction, T> filter_rows{w + int64_t(first_filter) * depth, depth, filters};
  auto& shared = shared_memory<TensorCoreStorage<TILE>>();
  shared.tile.keep(work.first_row, work.first_column);
  WarpSumsOf<Arithmetic, TILE> sums;
  multiply_on_tensor_cores<Arithmetic>(
      PatchRowChunks<Arithmetic, TILE, COPIES>(x, work.first_row, work.part.first_k),
      FilterRows(filter_rows, work.first_column, work.part.first_k, depth, x.in_chunks), work.part.slices, shared,
      sums);
  EpilogueOf<T> epilogue = y.epilogue;
  if (epilogue.bias != nullptr) epilogue.bias += first_filter;
  write_sums(sums, shared, y.results, epilogue, MatrixRows{blockIdx.z * y.part_stride + first_filter, conv.k},
             conv.n * conv.p * conv.q, filters);
}

template <class Arithmetic, int TILE, Copies COPIES, class T = typename Arithmetic::Element>
__global__ void __launch_bounds__(TENSOR_CORE_THREADS<Arithmetic, TILE>, FEWEST_BLOCKS<Arithmetic, TILE>)
    conv2d_backward_input_tensor_core_kernel(const __grid_constant__ Patches<T> dy, const T* w,
                                             const __grid_constant__ ResidueClass residue,
                                             const __grid_constant__ TensorCoreDestination<T> dx, int channels) {
  using PatchRows = PatchRowChunks<Arithmetic, TILE, COPIES>;
  const ConvShape& conv = dy.conv;
  const BlockWork<TILE> work(channels, conv.r * conv.s * dy.channels, PatchRows::Layout::DEPTH);
  auto& shared = shared_memory<TensorCoreStorage<TILE>>();
  shared.tile.keep(work.first_row, work.first_column);
  WarpSumsOf<Arithmetic, TILE> sums;
  multiply_on_tensor_cores<Arithmetic>(
      PatchRows(dy, work.first_row, work.part.first_k),
      FilterChunks<Arithmetic, TILE, COPIES>(w, residue, dy, channels, work.first_column, work.part.first_k),
      work.part.slices, shared, sums);
  write_sums(sums, shared, dx.results, dx.epilogue,
             ResidueRows{blockIdx.z * dx.part_stride + work.group * channels, residue}, conv.n * conv.p * conv.q,
             channels);
}

// Of the weight's gradient: left to itself, ptxas takes registers for four of the small tile.
template <class Arithmetic, int TILE>
constexpr int BLOCKS_AN_SM = FEWEST_BLOCKS<Arithmetic, TILE> > 0 ? FEWEST_BLOCKS<Arithmetic, TILE> : 5;

template <class Arithmetic, int TILE, Copies COPIES, class T = typename Arithmetic::Element>
__global__ void __launch_bounds__(TENSOR_CORE_THREADS<Arithmetic, TILE>, BLOCKS_AN_SM<Arithmetic, TILE>)
    conv2d_backward_weight_tensor_core_kernel(const T* dy, const __grid_constant__ Patches<T> x,
                                              const __grid_constant__ TensorCoreDestination<T> dw, Destination dbias,
                                              int filters) {
  using GradientColumns = MatrixChunks<SliceChunks<Arithmetic, TILE, Along::outer>, COPIES>;
  const ConvShape& conv = x.conv;
  const int depth = conv.r * conv.s * x.channels, pixels = conv.n * conv.p * conv.q;
  const BlockWork<TILE> work(depth, pixels, GradientColumns::Layout::DEPTH);
  const int first_filter = work.group * filters;
  const Operand<Along::outer, T> gradient{dy + first_filter, conv.k, filters};
  auto& shared = shared_memory<TensorCoreStorage<TILE>>();
  shared.tile.keep(work.first_row, work.first_column);
  const bool is_first_column = dbias.result != nullptr && work.first_column == 0;
  WarpSumsOf<Arithmetic, TILE> sums;
  RowSums<Arithmetic, TILE> gradients;
  multiply_on_tensor_cores<Arithmetic>(
      GradientColumns(gradient, work.first_row, work.part.first_k, pixels, x.in_chunks),
      PatchColumnChunks<Arithmetic, TILE, COPIES>(x, work.first_column, work.part.first_k), work.part.slices, shared,
      sums, [&](const Chunk* slice) {
        if (is_first_column) gradients.see(slice);
      });
  write_sums(sums, shared, dw.results, dw.epilogue,
             MatrixRows{blockIdx.z * dw.part_stride + int64_t(first_filter) * depth, depth}, filters, depth);
  if (is_first_column)
    gradients.write(shared, dbias.result + blockIdx.z * dbias.part_stride + first_filter + work.first_row,
                    dbias.epilogue.accumulate, filters - work.first_row);
}

template <class Arithmetic, class T>
void forward(const char* op, const T* x, const T* w, const float* bias, Activation activation, Results<T> y,
             float* workspace, const ConvShape& shape, Schedule schedule, Stream stream) {
  check_capability<Arithmetic>(op);
  if (is_first_layer(shape, schedule))
    return first_layer_forward_tensor_core<Arithmetic>(op, x, w, bias, activation, y, workspace, shape, stream);
  const Pass pass = forward_pass(shape, schedule);
  check_extents(op, shape);
  if (pass.results == 0) return;
  const EpilogueOf<T> epilogue{.bias = bias, .activation = activation};
  const auto target = destination(y, workspace, pass.results, epilogue, pass.schedule);
  const bool in_chunks = lies_in_chunks(shape, x, w);
  launch_tensor_core_tiles<Arithmetic>(op, pass.product, pass.schedule, in_chunks, stream,
                                       [&](auto tile, auto copies, const LaunchConfig& config) {
                                         launch(conv2d_forward_tensor_core_kernel<Arithmetic, tile, copies>, config,
                                                patches_of(x, shape, in_chunks), w, target, shape.group_k());
                                       });
  if (pass.schedule.splits > 1)
    sum_parts(op, workspace, pass.schedule.splits, pass.results / shape.k, shape.k, epilogue, y, shape.k, stream);
}

template <class Arithmetic, class T>
void backward_input(const char* op, const T* dy, const T* w, const T* mask, Results<T> dx, Accumulate accumulate,
                    float* workspace, const ConvShape& shape, Schedule schedule, Stream stream) {
  check_capability<Arithmetic>(op);
  const Pass pass = backward_input_pass(shape, schedule);
  check_extents(op, shape);
  if (pass.results == 0) return;
  const EpilogueOf<T> epilogue{.mask = mask, .accumulate = accumulate};
  const auto target = destination(dx, workspace, pass.results, epilogue, pass.schedule);
  const bool in_chunks = lies_in_chunks(shape, dy, w);
  for (int h = 0; h < min(shape.stride_h, shape.h); ++h)
    for (int w_residue = 0; w_residue < min(shape.stride_w, shape.w); ++w_residue) {
      const ResidueClass residue{shape, gradient_axis(shape.rows(), h), gradient_axis(shape.columns(), w_residue)};
      const ConvShape conv = gradient_shape(shape, residue.rows, residue.columns);
      Product product = pass.product;
      product.m = int64_t(conv.n) * conv.p * conv.q;
      launch_tensor_core_tiles<Arithmetic>(
          op, product, pass.schedule, in_chunks, stream, [&](auto tile, auto copies, const LaunchConfig& config) {
            launch(conv2d_backward_input_tensor_core_kernel<Arithmetic, tile, copies>, config,
                   patches_of(dy, conv, in_chunks), w, residue, target, shape.group_c());
          });
    }
  if (pass.schedule.splits > 1)
    sum_parts(op, workspace, pass.schedule.splits, pass.results / shape.c, shape.c, epilogue, dx, shape.c, stream);
}

template <class Arithmetic, class T>
void backward_weight(const char* op, const T* dy, const T* x, float* dw, Accumulate accumulate, float* dbias,
                     Accumulate accumulate_dbias, float* workspace, const ConvShape& shape, Schedule schedule,
                     Stream stream) {
  check_capability<Arithmetic>(op);
  check(dw != nullptr, op, "dbias comes with dw alone, which is null");
  if (is_first_layer(shape, schedule))
    return first_layer_backward_weight_tensor_core<Arithmetic>(op, dy, x, dw, accumulate, dbias, accumulate_dbias,
                                                               workspace, shape, schedule, stream);
  const Pass pass = backward_weight_pass(shape, schedule);
  check_extents(op, shape);
  const int splits = pass.schedule.splits, depth = int(pass.results / shape.k);
  float* const bias_parts = workspace + splits * pass.results;
  const EpilogueOf<T> of_weight{.accumulate = accumulate};
  const Epilogue of_bias{.accumulate = accumulate_dbias};
  const Results<T> result{dw, nullptr};
  const auto target = destination(result, workspace, pass.results, of_weight, pass.schedule);
  Destination bias_target{};
  if (dbias != nullptr) bias_target = destination(dbias, bias_parts, shape.k, of_bias, pass.schedule);
  const bool in_chunks = lies_in_chunks(shape, dy, x);
  launch_tensor_core_tiles<Arithmetic>(
      op, pass.product, pass.schedule, in_chunks, stream, [&](auto tile, auto copies, const LaunchConfig& config) {
        launch(conv2d_backward_weight_tensor_core_kernel<Arithmetic, tile, copies>, config, dy,
               patches_of(x, shape, in_chunks), target, bias_target, shape.group_k());
      });
  if (splits == 1) return;
  sum_parts(op, workspace, splits, shape.k, depth, of_weight, result, depth, stream);
  if (dbias != nullptr) sum_parts(op, bias_parts, splits, 1, shape.k, of_bias, dbias, shape.k, stream);
}

}  // namespace

void conv2d_forward_tensor_core(const float* x, const float* w, const float* bias, Activation activation, float* y,
                                float* workspace, ConvShape shape, Schedule schedule, Stream stream) {
  (schedule.math == Math::tf32 ? forward<Tf32Arithmetic, float>
                               : forward<Tf32x3Arithmetic, float>)("conv2d_forward", x, w, bias, activation,
                                                                   {y, nullptr}, workspace, shape, schedule, stream);
}

void conv2d_backward_input_tensor_core(const float* dy, const float* w, const float* mask, float* dx,
                                       Accumulate accumulate, float* workspace, ConvShape shape, Schedule schedule,
                                       Stream stream) {
  (schedule.math == Math::tf32 ? backward_input<Tf32Arithmetic, float>
                               : backward_input<Tf32x3Arithmetic, float>)("conv2d_backward_input", dy, w, mask,
                                                                          {dx, nullptr}, accumulate, workspace, shape,
                                                                          schedule, stream);
}

void conv2d_backward_weight_tensor_core(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
                                        Accumulate accumulate_dbias, float* workspace, ConvShape shape,
                                        Schedule schedule, Stream stream) {
  (schedule.math == Math::tf32 ? backward_weight<Tf32Arithmetic, float>
                               : backward_weight<Tf32x3Arithmetic, float>)("conv2d_backward_weight", dy, x, dw,
                                                                           accumulate, dbias, accumulate_dbias,
                                                                           workspace, shape, schedule, stream);
}

void conv2d_forward_bfloat16(const Bfloat16* x, const Bfloat16* w, const float* bias, Activation activation,
                             Bfloat16* y, float* workspace, ConvShape shape, Schedule schedule, Stream stream) {
  forward<Bfloat16Arithmetic, Bfloat16>("conv2d_forward_bfloat16", x, w, bias, activation, {nullptr, y}, workspace,
                                        shape, schedule, stream);
}

void conv2d_backward_input_bfloat16(const Bfloat16* dy, const Bfloat16* w, const Bfloat16* mask, Bfloat16* dx,
                                    Accumulate accumulate, float* workspace, ConvShape shape, Schedule schedule,
                                    Stream stream) {
  backward_input<Bfloat16Arithmetic, Bfloat16>("conv2d_backward_input_bfloat16", dy, w, mask, {nullptr, dx}, accumulate,
                                               workspace, shape, schedule, stream);
}

void conv2d_backward_weight_bfloat16(const Bfloat16* dy, const Bfloat16* x, float* dw, Accumulate accumulate,
                                     float* dbias, Accumulate accumulate_dbias, float* workspace, ConvShape shape,
                                     Schedule schedule, Stream stream) {
  backward_weight<Bfloat16Arithmetic, Bfloat16>("conv2d_backward_weight_bfloat16", dy, x, dw, accumulate, dbias,
                                                accumulate_dbias, workspace, shape, schedule, stream);
}

void conv2d_forward_float16(const Float16* x, const Float16* w, const float* bias, Activation activation, Float16* y,
                            float* workspace, ConvShape shape, Schedule schedule, Stream stream) {
  forward<Float16Arithmetic, Float16>("conv2d_forward_float16", x, w, bias, activation, {nullptr, y}, workspace, shape,
                                      schedule, stream);
}

void conv2d_backward_input_float16(const Float16* dy, const Float16* w, const Float16* mask, Float16* dx,
                                   Accumulate accumulate, float* workspace, ConvShape shape, Schedule schedule,
                                   Stream stream) {
  backward_input<Float16Arithmetic, Float16>("conv2d_backward_input_float16", dy, w, mask, {nullptr, dx}, accumulate,
                                             workspace, shape, schedule, stream);
}

void conv2d_backward_weight_float16(const Float16* dy, const Float16* x, float* dw, Accumulate accumulate, float* dbias,
                                    Accumulate accumulate_dbias, float* workspace, ConvShape shape, Schedule schedule,
                                    Stream stream) {
  backward_weight<Float16Arithmetic, Float16>("conv2d_backward_weight_float16", dy, x, dw, accumulate, dbias,
                                              accumulate_dbias, workspace, shape, schedule, stream);
}

}  // namespace minicnn
