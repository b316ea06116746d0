// Convolution as an implicit GEMM: the im2col matrix exists only as tiles in shared memory.
//
// y[n,p,q,k] = activation(bias[k] + sum over r, s, c of x[n, h, w, c] w[k,r,s,c])
//   where h = p*stride - padding + r*dilation, w likewise
// dx[n,h,w,c] (+)= mask[n,h,w,c] <= 0 ? 0 : sum over r, s, k of dy[n, p, q, k] w[k,r,s,c]
//   over the (p, q) whose tap (r, s) reads (h, w)
// dw[k,r,s,c] (+)= sum over n, p, q of dy[n,p,q,k] x[n, h, w, c]
// dbias[k] (+)= sum over n, p, q of dy[n,p,q,k]
//
// x, dx (N, H, W, C), mask (N, H, W, C) or null, w, dw (K, R, S, C / groups), bias, dbias (K) or null, y, dy (N, P, Q,
// K) float32; workspace (splits, result) float32 where the reduction is cut, and (splits, K) for dbias. The products,
// of one group:
//
//             rows               columns             reduction
//   forward   output pixels      filters             taps x channels
//   input     input pixels of    channels            the taps that can read them x filters
//             one residue
//   weight    filters            taps x channels     output pixels
//
// A block owns a tile of the result for one part of the reduction, a thread 8 x 8 sums of it (8 x 4 in a tile of 64).
// Grid tiles x groups x splits, block 2 * tile threads, 16,912 (8,720) bytes shared.
// FLOPs: 2 N P Q K R S C / groups in each of the three. Bytes from global memory at a tile of 128: 1 / 32 a FLOP, from
// the second-level cache for the most part, since neighbouring blocks share patches. Bound by the float32 rate where a
// group has 64 channels and filters or more, else by the tile's empty edge (depthwise: 1 / 64 of the rate). Floors,
// batch 128 at 67 TFLOP/s (nothing measured): AlexNet owt conv2 0.85 ms, VGG 64 -> 64 at 224 x 224 7.1 ms a pass.
//
// The input's gradient at stride s is s*s convolutions of dy at stride 1, one for each residue of (h, w), because equal
// residues are read by the same taps: no zero is multiplied, no atomic needed, and what no tap reads becomes 0.
// Deterministic: a cut reduction is summed in a second pass, in order.
//
// The bias's gradient needs no pass over dy: each thread adds up the quads of dy that it brings, 4 additions beside the
// 512 (256) multiply-adds that it does of a slice, and the blocks of the weight's first column of tiles write the sums.
//
// Assumes an image below 2^31 elements, N*H*W, N*P*Q and the elements of w too. Channel counts that are no multiple of
// 4 are read 4 bytes at a time, by the small tile. Sources: Chetlur et al. 2014, "cuDNN", section 3 (im2col in the load
// path); the residues follow CUTLASS's strided dgrad.
#include "gemm/schedule.h"
#include "launch.h"
#include "ops/conv2d.h"
#include "ops/conv2d_first_layer.h"
#include "ops/conv2d_implicit.h"
#include "ops/conv2d_tensor_core.h"

namespace minicnn {
namespace {

template <int TILE, Access ACCESS>
__global__ void __launch_bounds__(tile_threads<TILE>(), tile_blocks_per_sm<TILE>())
    conv2d_forward_kernel(const __grid_constant__ PatchMatrix x, const float* w, Destination y, int filters) {
  const ConvShape& conv = x.conv;
  const int depth = conv.r * conv.s * x.channels;
  const BlockWork<TILE> work(filters, depth);
  const int first_filter = work.group * filters;
  const QuadPlace place = quad_place<TILE, PatchRowCursor<ACCESS>::along>();
  const PatchRowCursor<ACCESS> patches(x, work.group, work.first_row + place.outer, work.part.first_k + place.k);
  const Operand<Along::reduction> filter_rows{w + int64_t(first_filter) * depth, depth, filters};
  auto& shared = shared_memory<TileStorage<TILE>>();
  shared.tile.keep(work.first_row, work.first_column);
  ThreadSums<TILE> sums;
  multiply_slices<TILE>(patches, matrix_cursor<TILE, ACCESS>(filter_rows, work.first_column, work.part.first_k, depth),
                        work.part.slices, shared, sums);
  const float* const bias = y.epilogue.bias;
  finish_sums(sums, bias != nullptr ? bias + first_filter : nullptr, y.epilogue.activation, shared.tile.first_column,
              filters);
  write_tile<TILE>(sums, y.result, nullptr, y.epilogue.accumulate,
                   MatrixRows{y.result + blockIdx.z * y.part_stride + first_filter, conv.k}, shared.tile.first_row,
                   conv.n * conv.p * conv.q, shared.tile.first_column, filters);
}

// The filters of a group as an operand: the outer index is the channel, the reduction runs over (tap of the class,
// filter).
template <Access ACCESS>
class FilterCursor {
 public:
  static constexpr Along along = Along::outer;

  __device__ FilterCursor(const float* w, const ResidueClass& residue, const PatchMatrix& dy, int group, int channels,
                          int channel, int k)
      : residue_(residue),
        dy_(dy),
        filters_(w + group * dy.channels * (residue.shape.r * residue.shape.s * channels) + channel),
        channels_(channels),
        channel_(channel),
        tap_(tap_at(dy.conv, k, dy.channels)) {}

  __device__ Vec4 load() const {
    if (tap_.r >= dy_.conv.r) return Vec4{};
    const int r = residue_.rows.first_tap + residue_.rows.tap_step * tap_.r;
    const int s = residue_.columns.first_tap + residue_.columns.tap_step * tap_.s;
    const int filter_row = (tap_.channel * residue_.shape.r + r) * residue_.shape.s + s;
    return load_quad<ACCESS>(filters_ + filter_row * channels_, channels_ - channel_);
  }

  __device__ void advance() { tap_ = tap_after(tap_, TILE_K, dy_.conv.s, dy_.channels); }

 private:
  const ResidueClass& residue_;
  const PatchMatrix& dy_;
  const float* filters_;
  int channels_, channel_;
  Tap tap_;
};

template <int TILE, Access ACCESS>
__global__ void __launch_bounds__(tile_threads<TILE>(), tile_blocks_per_sm<TILE>())
    conv2d_backward_input_kernel(const __grid_constant__ PatchMatrix dy, const float* w,
                                 const __grid_constant__ ResidueClass residue, Destination dx, int channels) {
  const ConvShape& conv = dy.conv;
  const BlockWork<TILE> work(channels, conv.r * conv.s * dy.channels);
  const QuadPlace place = quad_place<TILE, PatchRowCursor<ACCESS>::along>();
  const PatchRowCursor<ACCESS> patches(dy, work.group, work.first_row + place.outer, work.part.first_k + place.k);
  const QuadPlace filter_place = quad_place<TILE, FilterCursor<ACCESS>::along>();
  const FilterCursor<ACCESS> filters(w, residue, dy, work.group, channels, work.first_column + filter_place.outer,
                                     work.part.first_k + filter_place.k);
  auto& shared = shared_memory<TileStorage<TILE>>();
  shared.tile.keep(work.first_row, work.first_column);
  ThreadSums<TILE> sums;
  multiply_slices<TILE>(patches, filters, work.part.slices, shared, sums);
  write_tile<TILE>(sums, dx.result, dx.epilogue.mask, dx.epilogue.accumulate,
                   ResidueRows{dx.result + blockIdx.z * dx.part_stride + work.group * channels, residue},
                   shared.tile.first_row, conv.n * conv.p * conv.q, shared.tile.first_column, channels);
}

template <int TILE, Access ACCESS>
__global__ void __launch_bounds__(tile_threads<TILE>(), tile_blocks_per_sm<TILE>())
    conv2d_backward_weight_kernel(const float* dy, const __grid_constant__ PatchMatrix x, Destination dw,
                                  Destination dbias, int filters) {
  const ConvShape& conv = x.conv;
  const int depth = conv.r * conv.s * x.channels, pixels = conv.n * conv.p * conv.q;
  const BlockWork<TILE> work(depth, pixels);
  const int first_filter = work.group * filters;
  const Operand<Along::outer> gradient{dy + first_filter, conv.k, filters};
  const QuadPlace place = quad_place<TILE, PatchColumnCursor<ACCESS>::along>();
  const PatchColumnCursor<ACCESS> patches(x, work.group, work.first_column + place.outer, work.part.first_k + place.k);
  ThreadSums<TILE> sums;
  Vec4 gradients{};
  multiply_slices<TILE>(matrix_cursor<TILE, ACCESS>(gradient, work.first_row, work.part.first_k, pixels), patches,
                        work.part.slices, shared_memory<TileStorage<TILE>>(), sums, [&gradients](const Vec4& quad) {
                          for (int i = 0; i < 4; ++i) gradients.values[i] += quad.values[i];
                        });
  write_tile<TILE>(sums, dw.result, nullptr, dw.epilogue.accumulate,
                   MatrixRows{dw.result + blockIdx.z * dw.part_stride + int64_t(first_filter) * depth, depth},
                   work.first_row, filters, work.first_column, depth);
  if (dbias.result != nullptr && work.first_column == 0)
    write_row_sums<TILE>(gradients, shared_memory<TileStorage<TILE>>(),
                         dbias.result + blockIdx.z * dbias.part_stride + first_filter + work.first_row,
                         dbias.epilogue.accumulate, filters - work.first_row);
}

}  // namespace

int64_t conv2d_forward_workspace(ConvShape shape, Schedule schedule) {
  if (is_first_layer(shape, schedule)) return first_layer_forward_workspace(shape);
  return forward_pass(shape, schedule).workspace();
}

int64_t conv2d_backward_input_workspace(ConvShape shape, Schedule schedule) {
  return backward_input_pass(shape, schedule).workspace();
}

// Room for the parts of dw and of dbias, or for the sum over dy alone where dw is not wanted.
int64_t conv2d_backward_weight_workspace(ConvShape shape, Schedule schedule) {
  const int64_t of_bias_alone = reduction_workspace(1, int64_t(shape.n) * shape.p * shape.q, shape.k);
  if (is_first_layer(shape, schedule))
    return max(first_layer_backward_weight_workspace(shape, schedule), of_bias_alone);
  const Pass pass = backward_weight_pass(shape, schedule);
  return max(parts_workspace(pass.schedule, pass.results + shape.k), of_bias_alone);
}

void conv2d_forward(const float* x, const float* w, const float* bias, Activation activation, float* y,
                    float* workspace, ConvShape shape, Schedule schedule, Stream stream) {
  if (on_tensor_cores(schedule))
    return conv2d_forward_tensor_core(x, w, bias, activation, y, workspace, shape, schedule, stream);
  if (is_first_layer(shape, schedule)) return first_layer_forward(x, w, bias, activation, y, workspace, shape, stream);
  const Pass pass = forward_pass(shape, schedule);
  check_extents(pass.op, shape);
  if (pass.results == 0) return;
  const Epilogue epilogue{.bias = bias, .activation = activation};
  const Destination target = destination(y, workspace, pass.results, epilogue, pass.schedule);
  launch_tiles(pass.op, pass.product, pass.schedule, access_of(shape, x, w), stream,
               [&](auto tile, auto access, const LaunchConfig& config) {
                 launch(conv2d_forward_kernel<tile, access>, config, patch_matrix(x, shape), w, target,
                        shape.group_k());
               });
  if (pass.schedule.splits > 1)
    sum_parts(pass.op, workspace, pass.schedule.splits, pass.results / shape.k, shape.k, epilogue, y, shape.k, stream);
}

void conv2d_backward_input(const float* dy, const float* w, const float* mask, float* dx, Accumulate accumulate,
                           float* workspace, ConvShape shape, Schedule schedule, Stream stream) {
  if (on_tensor_cores(schedule))
    return conv2d_backward_input_tensor_core(dy, w, mask, dx, accumulate, workspace, shape, schedule, stream);
  const Pass pass = backward_input_pass(shape, schedule);
  check_extents(pass.op, shape);
  if (pass.results == 0) return;
  const Epilogue epilogue{.mask = mask, .accumulate = accumulate};
  const Destination target = destination(dx, workspace, pass.results, epilogue, pass.schedule);
  for (int h = 0; h < min(shape.stride_h, shape.h); ++h)
    for (int w_residue = 0; w_residue < min(shape.stride_w, shape.w); ++w_residue) {
      const ResidueClass residue{shape, gradient_axis(shape.rows(), h), gradient_axis(shape.columns(), w_residue)};
      const ConvShape conv = gradient_shape(shape, residue.rows, residue.columns);
      Product product = pass.product;
      product.m = int64_t(conv.n) * conv.p * conv.q;
      launch_tiles(pass.op, product, pass.schedule, access_of(shape, dy, w), stream,
                   [&](auto tile, auto access, const LaunchConfig& config) {
                     launch(conv2d_backward_input_kernel<tile, access>, config, patch_matrix(dy, conv), w, residue,
                            target, shape.group_c());
                   });
    }
  if (pass.schedule.splits > 1)
    sum_parts(pass.op, workspace, pass.schedule.splits, pass.results / shape.c, shape.c, epilogue, dx, shape.c, stream);
}

void conv2d_backward_weight(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
                            Accumulate accumulate_dbias, float* workspace, ConvShape shape, Schedule schedule,
                            Stream stream) {
  if (dw != nullptr && on_tensor_cores(schedule))
    return conv2d_backward_weight_tensor_core(dy, x, dw, accumulate, dbias, accumulate_dbias, workspace, shape,
                                              schedule, stream);
  const Pass pass = backward_weight_pass(shape, schedule);
  check_extents(pass.op, shape);
  if (dw == nullptr)
    return sum_forward(dy, dbias, workspace, accumulate_dbias, 1.0f, 1, pass.product.k, shape.k, stream);
  if (is_first_layer(shape, schedule))
    return first_layer_backward_weight(dy, x, dw, accumulate, dbias, accumulate_dbias, workspace, shape, schedule,
                                       stream);
  const int splits = pass.schedule.splits, depth = int(pass.results / shape.k);
  float* const bias_parts = workspace + splits * pass.results;
  const Epilogue of_weight{.accumulate = accumulate}, of_bias{.accumulate = accumulate_dbias};
  const Destination target = destination(dw, workspace, pass.results, of_weight, pass.schedule);
  Destination bias_target{};
  if (dbias != nullptr) bias_target = destination(dbias, bias_parts, shape.k, of_bias, pass.schedule);
  launch_tiles(pass.op, pass.product, pass.schedule, access_of(shape, dy, x), stream,
               [&](auto tile, auto access, const LaunchConfig& config) {
                 launch(conv2d_backward_weight_kernel<tile, access>, config, dy, patch_matrix(x, shape), target,
                        bias_target, shape.group_k());
               });
  if (splits == 1) return;
  sum_parts(pass.op, workspace, splits, shape.k, depth, of_weight, dw, depth, stream);
  if (dbias != nullptr) sum_parts(pass.op, bias_parts, splits, 1, shape.k, of_bias, dbias, shape.k, stream);
}

}  // namespace minicnn
