// Convolution, ReLU and max-pooling by squares of 2 x 2 in one pass: what lies between them is never written.
//
// y[n,i,j,k] = max over r, s < 2 of relu(bias[k] + conv[n, 2i + r, 2j + s, k]), conv as in conv2d_implicit.cu
// index[n,i,j,k] = 2r + s of the winner: the first of equals, the last NaN; 255 where y <= 0
//
// x (N, H, W, C), w (K, R, S, C / groups), y (N, P / 2, Q / 2, K): float32, Bfloat16 or Float16; bias (K) or null,
// float32; index as y, uint8, or null. Workspace: what first layers want.
//
// Sums are compared as y holds them, rounded: the greatest of rounded sums is the greatest one rounded, but of two that
// become one number the first wins, whichever was the greater, and one that becomes 0 lets no gradient pass. So y and
// index are those of the ops one after another, to the bit.
//
// The product is that of conv2d_implicit.cu and conv2d_tensor_core.cu with its rows in another order, window by window;
// a last row or column of P x Q that is in no window is not computed. A block owns a tile of it; on the way to memory a
// thread has the four sums of a window in registers (float32), or reads them from its warp's patch (tensor cores).
// First layers, whose tiles are squares anyway, go to conv2d_first_layer.cu.
// Grid tiles x groups, block and shared bytes as there. FLOPs as there. Bytes: x, w and 5 / 4 an output of the
// convolution (1 / 4 float32 and 1 / 4 byte more for the index) in place of 4 written, 4 read by the pooling, 5 / 4
// written by that; in 16 bits 3 / 4 in place of 2, 2 and 3 / 4. Floors, batch 128 on an H100 at 3.0 TB/s, nothing
// measured: of VGG-A's first layer, bound by y, 0.17 ms in place of 1.26 ms (in 16 bits 0.10 in place of 0.65 ms); of
// the layers behind it, bound by the matrix rate, the pooling's pass is saved: 0.36 ms (0.19) at 112 x 112 x 128, 0.18
// (0.09) at 56 x 56 x 256.
//
// Where the reduction would be cut there are no whole sums to compare, and little to save: there the ops stay apart.
// So they do with windows that overlap: of 3 x 3 at stride 2 a tile of 8 x 8 has 3 x 3 whole ones, 9 / 16 of the work
// is thrown away (at 16 x 16 still 23 %), more than the bytes are worth where the convolution is bound by arithmetic.
//
// The gradient: maxpool2d_backward makes dy of the convolution from the index, with 0 where ReLU cut.
//
// Assumes what conv2d_implicit.cu does.
// Sources: NVIDIA's cudnnConvolutionBiasActivationForward for the epilogue; the order of rows is that of Winograd's
// tiles (Lavin and Gray 2015).
#include "launch.h"
#include "ops/conv2d.h"
#include "ops/conv2d_first_layer.h"
#include "ops/conv2d_implicit.h"
#include "ops/conv2d_maxpool2d.h"
#include "ops/conv2d_tensor_core_cursors.h"

namespace minicnn {
namespace {

__device__ inline int window_rows(const ConvShape& conv) { return conv.n * (conv.p / 2) * (conv.q / 2) * WINDOW; }

template <int TILE, Access ACCESS>
__global__ void __launch_bounds__(tile_threads<TILE>(), tile_blocks_per_sm<TILE>())
    conv2d_maxpool2d_forward_kernel(const __grid_constant__ PatchMatrix x, const float* w, WindowDestination<float> y,
                                    int filters) {
  using Patches = PatchRowCursor<ACCESS, WindowOrder>;
  const ConvShape& conv = x.conv;
  const int depth = conv.r * conv.s * x.channels;
  const BlockWork<TILE> work(filters, depth);
  const int first_filter = work.group * filters;
  const QuadPlace place = quad_place<TILE, Patches::along>();
  const Operand<Along::reduction> filter_rows{w + int64_t(first_filter) * depth, depth, filters};
  auto& shared = shared_memory<TileStorage<TILE>>();
  shared.tile.keep(work.first_row, work.first_column);
  ThreadSums<TILE> sums;
  multiply_slices<TILE>(Patches(x, work.group, work.first_row + place.outer, place.k),
                        matrix_cursor<TILE, ACCESS>(filter_rows, work.first_column, 0, depth), work.part.slices, shared,
                        sums);
  if (y.bias != nullptr) y.bias += first_filter;
  write_windows(sums, y, WindowRows{first_filter, conv.k}, shared.tile.first_row, window_rows(conv),
                shared.tile.first_column, filters);
}

template <class Arithmetic, int TILE, Copies COPIES, class T = typename Arithmetic::Element>
__global__ void __launch_bounds__(TENSOR_CORE_THREADS<Arithmetic, TILE>, FEWEST_BLOCKS<Arithmetic, TILE>)
    conv2d_maxpool2d_forward_tensor_core_kernel(const __grid_constant__ Patches<T> x, const T* w,
                                                const __grid_constant__ WindowDestination<T> y, int filters) {
  using FilterRows = MatrixChunks<SliceChunks<Arithmetic, TILE, Along::reduction>, COPIES>;
  const ConvShape& conv = x.conv;
  const int depth = conv.r * conv.s * x.channels;
  const BlockWork<TILE> work(filters, depth, FilterRows::Layout::DEPTH);
  const Operand<Along::reduction, T> filter_rows{w + int64_t(work.group * filters) * depth, depth, filters};
  auto& shared = shared_memory<TensorCoreStorage<TILE>>();
  shared.tile.keep(work.first_row, work.first_column);
  WarpSumsOf<Arithmetic, TILE> sums;
  multiply_on_tensor_cores<Arithmetic>(PatchRowChunks<Arithmetic, TILE, COPIES, WindowOrder>(x, work.first_row, 0),
                                       FilterRows(filter_rows, work.first_column, 0, depth, x.in_chunks),
                                       work.part.slices, shared, sums);
  const int first_filter = work.group * filters;
  WindowDestination<T> target = y;
  if (target.bias != nullptr) target.bias += first_filter;
  write_windows(sums, shared, target, WindowRows{first_filter, conv.k}, window_rows(conv), filters);
}

// Of the windows, whose pixels are the rows.
Pass window_pass(const char* op, const ConvShape& shape, Schedule asked) {
  const int64_t rows = int64_t(shape.n) * (shape.p / 2) * (shape.q / 2) * WINDOW;
  const int64_t depth = int64_t(shape.r) * shape.s * shape.group_c();
  return {op, {rows, shape.group_k(), depth, shape.groups}, rows / WINDOW * shape.k, asked};
}

void check_pass(const Pass& pass, const ConvShape& shape) {
  check_extents(pass.op, shape);
  check(pass.schedule.splits == 1, pass.op,
        "sums in parts have no maximum: conv2d_maxpool2d_fits says where they are whole");
}

void forward(const char* op, const float* x, const float* w, const WindowDestination<float>& y, float* workspace,
             const ConvShape& shape, Schedule schedule, Stream stream) {
  if (is_first_layer(shape, schedule)) return first_layer_maxpool2d_forward(op, x, w, y, workspace, shape, stream);
  const Pass pass = window_pass(op, shape, schedule);
  check_pass(pass, shape);
  if (pass.results == 0) return;
  launch_tiles(op, pass.product, pass.schedule, access_of(shape, x, w), stream,
               [&](auto tile, auto access, const LaunchConfig& config) {
                 launch(conv2d_maxpool2d_forward_kernel<tile, access>, config, patch_matrix(x, shape), w, y,
                        shape.group_k());
               });
}

template <class Arithmetic, class T>
void forward_tensor_core(const char* op, const T* x, const T* w, const WindowDestination<T>& y, float* workspace,
                         const ConvShape& shape, Schedule schedule, Stream stream) {
  check_capability<Arithmetic>(op);
  if (is_first_layer(shape, schedule))
    return first_layer_maxpool2d_forward_tensor_core<Arithmetic>(op, x, w, y, workspace, shape, stream);
  const Pass pass = window_pass(op, shape, schedule);
  check_pass(pass, shape);
  if (pass.results == 0) return;
  const bool in_chunks = lies_in_chunks(shape, x, w);
  launch_tensor_core_tiles<Arithmetic>(op, pass.product, pass.schedule, in_chunks, stream,
                                       [&](auto tile, auto copies, const LaunchConfig& config) {
                                         launch(conv2d_maxpool2d_forward_tensor_core_kernel<Arithmetic, tile, copies>,
                                                config, patches_of(x, shape, in_chunks), w, y, shape.group_k());
                                       });
}

}  // namespace

int conv2d_maxpool2d_fits(ConvShape shape, PoolShape pool, Schedule schedule) {
  const bool squares = pool.r == 2 && pool.s == 2 && pool.stride_h == 2 && pool.stride_w == 2;
  const bool whole = pool.padding_h == 0 && pool.padding_w == 0 && pool.p == shape.p / 2 && pool.q == shape.q / 2;
  return squares && whole &&
         (is_first_layer(shape, schedule) ||
          window_pass("conv2d_maxpool2d_fits", shape, schedule).schedule.splits == 1);
}

int64_t conv2d_maxpool2d_forward_workspace(ConvShape shape, Schedule schedule) {
  return is_first_layer(shape, schedule) ? first_layer_forward_workspace(shape) : 0;
}

void conv2d_maxpool2d_forward(const float* x, const float* w, const float* bias, float* y, uint8_t* index,
                              float* workspace, ConvShape shape, Schedule schedule, Stream stream) {
  const WindowDestination<float> target{y, index, bias};
  (!on_tensor_cores(schedule)    ? forward
   : schedule.math == Math::tf32 ? forward_tensor_core<Tf32Arithmetic, float>
                                 : forward_tensor_core<Tf32x3Arithmetic, float>)("conv2d_maxpool2d_forward", x, w,
                                                                                 target, workspace, shape, schedule,
                                                                                 stream);
}

void conv2d_maxpool2d_forward_bfloat16(const Bfloat16* x, const Bfloat16* w, const float* bias, Bfloat16* y,
                                       uint8_t* index, float* workspace, ConvShape shape, Schedule schedule,
                                       Stream stream) {
  forward_tensor_core<Bfloat16Arithmetic, Bfloat16>("conv2d_maxpool2d_forward_bfloat16", x, w, {y, index, bias},
                                                    workspace, shape, schedule, stream);
}

void conv2d_maxpool2d_forward_float16(const Float16* x, const Float16* w, const float* bias, Float16* y, uint8_t* index,
                                      float* workspace, ConvShape shape, Schedule schedule, Stream stream) {
  forward_tensor_core<Float16Arithmetic, Float16>("conv2d_maxpool2d_forward_float16", x, w, {y, index, bias}, workspace,
                                                  shape, schedule, stream);
}

}  // namespace minicnn
