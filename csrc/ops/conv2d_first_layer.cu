// Convolution of images of few channels: the first layers.
//
// y and dw (dbias) as in conv2d_implicit.cu, of the same arrays, for x of fewer than four channels in one group; dx is
// computed there, if anyone asks for it. Workspace: forward the folded filters (K, R, folded) in the elements' format;
// weight's gradient (splits, K, R, folded) and (splits, K) float32, and what their sums take.
//
// A window's row is S * C neighbours in memory, but its pixels are no chunks of 16 bytes, and where one begins hardly
// ever lies on 16 bytes: read one by one from global memory, each of the R * S * C elements costs an address, two
// comparisons and a copy of 4 (2) bytes, and an input pixel is read R * S / (stride * stride) times. Here a block
// copies the halo of 8 x 8 output pixels once, in order, and makes the operand's chunks from shared memory, where they
// are whole (conv2d_first_layer_halo.h). The filters are folded alike, by a pass of K * R * folded elements.
//
//                        multiplications         input elements a block copies      what an operand's chunk costs
//   AlexNet, 11 x 11/4   R * folded = 396        39 * 124 = 4,836                   16 bytes read, 16 written
//     by elements        363                     64 * 363 = 23,232                  4 copies of 4 bytes
//     space to depth     9 * 48 = 432            another layout of x                a copy of 16 bytes
//   VGG, 3 x 3/1         R * folded = 36         10 * 40 = 400                      4 times 4 bytes read, 16 written
//     by elements        27                      64 * 27 = 1,728                    4 copies of 4 bytes
//
// (in float32; of 16 bits folded is 40 and 16). Folding needs fewer multiplications than space to depth, and x stays
// what the user sees.
//
//               rows             columns           reduction
//   forward     pixels           filters           folded entries of a patch
//   weight      filters          folded entries    pixels, tile after tile of 8 x 8
//
// A block owns 64 x 64 sums, of one tile of pixels (forward) or of a part of all tiles (weight), a thread or warp what
// it has in tile.h and tensor_core_tile.h. Grid tiles x splits, block 128 threads, shared bytes 8,720 (24,592 on the
// tensor cores) and the halo: for AlexNet 19,344 forward and 12,672, for VGG 1,600 and 1,800.
//
// FLOPs: 2 * pixels * K * R * folded, and pixels past the edge of y. Bytes: x 1.5 times (weight: once for each 64
// folded entries), y or dy once (likewise). Floors, batch 128 on an H100 at 67 (float32), 260 (tf32) TFLOP/s and 3.0
// TB/s, nothing measured: AlexNet owt 0.29, 0.08 ms a pass, bound by the arithmetic; VGG 0.55 ms a pass, bound by y.
// AlexNet's 396 folded entries are 7 tiles of columns, for each of which the weight's gradient reads dy and the halos,
// 24 rows each: 694 and 556 MB in float32, of which the second-level cache gives six in seven, as those blocks run side
// by side.
//
// Deterministic: parts are summed in order. Assumes what conv2d_implicit.cu does.
// Sources: Lavin 2015, "maxDNN" (the first layer as one of its own); conv2d_implicit.cu.
#include "gemm/tensor_core_row_sums.h"
#include "launch.h"
#include "ops/conv2d_first_layer.h"
#include "ops/conv2d_first_layer_halo.h"
#include "ops/conv2d_implicit.h"

namespace minicnn {
namespace {

constexpr int FOLD_THREADS = 256, MOST_CHANNELS = 3;
constexpr size_t MOST_HALO_BYTES = 22 * 1024;  // with the slices, what a block has without asking

// The halo, behind the storage of the inner tile.
template <class Storage, class T>
__device__ T* halo_behind(Storage& storage) {
  return reinterpret_cast<T*>(&storage + 1);
}

// Where the results of a tile's pixels lie: a pointer or an offset, as `first` is.
template <class T, class Place>
struct TileRows {
  const FoldedImages<T>& images;
  PixelTile tile;
  Place first;
  __device__ bool has(int row) const { return images.has(tile.pixel(row)); }
  __device__ Place operator()(int row) const {
    const Pixel pixel = tile.pixel(row);
    return first + y_offset(images.conv, pixel.image, pixel.row, pixel.column, 0);
  }
};
template <class T, class Place>
TileRows(const FoldedImages<T>&, PixelTile, Place) -> TileRows<T, Place>;

// Where the windows of a tile lie, in y after max-pooling.
template <class T>
struct TileWindows {
  const FoldedImages<T>& images;
  PixelTile tile;
  __device__ bool has(int row) const { return images.has(tile.pixel(row + WINDOW - 1)); }
  __device__ int64_t operator()(int row) const {
    const ConvShape& conv = images.conv;
    const Pixel pixel = tile.pixel(row);
    return ((int64_t(pixel.image) * (conv.p / 2) + pixel.row / 2) * (conv.q / 2) + pixel.column / 2) * conv.k;
  }
};

// y = the epilogue of a tile's sums, and with a WindowDestination what max-pooling makes of it.
template <int TILE>
__device__ void write_pixels(ThreadSums<TILE>& sums, const Destination& y, const FoldedImages<float>& x,
                             const PixelTile& tile, int first_filter) {
  finish_sums(sums, y.epilogue.bias, y.epilogue.activation, first_filter, x.conv.k);
  write_tile<TILE>(sums, y.result, nullptr, y.epilogue.accumulate, TileRows{x, tile, y.result}, 0, TILE, first_filter,
                   x.conv.k);
}
template <int TILE>
__device__ void write_pixels(ThreadSums<TILE>& sums, const WindowDestination<float>& y, const FoldedImages<float>& x,
                             const PixelTile& tile, int first_filter) {
  write_windows(sums, y, TileWindows<float>{x, tile}, 0, TILE, first_filter, x.conv.k);
}
template <class Sums, int TILE, class T>
__device__ void write_pixels(const Sums& sums, TensorCoreStorage<TILE>& shared, const TensorCoreDestination<T>& y,
                             const FoldedImages<T>& x, const PixelTile& tile) {
  write_sums(sums, shared, y.results, y.epilogue, TileRows{x, tile, int64_t(0)}, TILE, x.conv.k);
}
template <class Sums, int TILE, class T>
__device__ void write_pixels(const Sums& sums, TensorCoreStorage<TILE>& shared, const WindowDestination<T>& y,
                             const FoldedImages<T>& x, const PixelTile& tile) {
  write_windows(sums, shared, y, TileWindows<T>{x, tile}, TILE, x.conv.k);
}

// folded[k, r, j] = j < run ? w[k, r, j] : 0
template <class T>
__global__ void __launch_bounds__(FOLD_THREADS)
    conv2d_first_layer_fold_kernel(const T* w, T* folded_w, int run, int folded, int count) {
  const int i = blockIdx.x * FOLD_THREADS + threadIdx.x;
  if (i >= count) return;
  folded_w[i] = i % folded < run ? w[i / folded * run + i % folded] : T{};
}

// dw[k, r, j] (+)= folded[k, r, j]
__global__ void __launch_bounds__(FOLD_THREADS)
    conv2d_first_layer_unfold_kernel(const float* folded_dw, float* dw, Accumulate accumulate, int run, int folded,
                                     int count) {
  const int i = blockIdx.x * FOLD_THREADS + threadIdx.x;
  if (i >= count) return;
  write_sum(folded_dw[i / run * folded + i % run], nullptr, 0, dw + i, accumulate);
}

template <int TILE, class Target>
__global__ void __launch_bounds__(tile_threads<TILE>(), tile_blocks_per_sm<TILE>())
    conv2d_first_layer_forward_kernel(const __grid_constant__ FoldedImages<float> x, const float* folded_w, Target y) {
  const int filters = x.conv.k, depth = x.depth();
  const BlockWork<TILE> work(filters, depth);
  auto& shared = shared_memory<TileStorage<TILE>>();
  const Halo<float> halo(x, halo_behind<TileStorage<TILE>, float>(shared));
  const PixelTile tile = x.tile(work.first_row / TILE);
  halo.bring(tile);
  const Operand<Along::reduction> filter_rows{folded_w, depth, filters};
  ThreadSums<TILE> sums;
  multiply_slices<TILE>(FoldedRowCursor(halo),
                        matrix_cursor<TILE, Access::quads>(filter_rows, work.first_column, 0, depth), work.part.slices,
                        shared, sums);
  write_pixels(sums, y, x, tile, work.first_column);
}

template <class Arithmetic, int TILE, class Target, class T = typename Arithmetic::Element>
__global__ void __launch_bounds__(TENSOR_CORE_THREADS<Arithmetic, TILE>)
    conv2d_first_layer_forward_tensor_core_kernel(const __grid_constant__ FoldedImages<T> x, const T* folded_w,
                                                  const __grid_constant__ Target y) {
  using FilterRows = MatrixChunks<SliceChunks<Arithmetic, TILE, Along::reduction>, Copies::chunks>;
  const int filters = x.conv.k, depth = x.depth();
  const BlockWork<TILE> work(filters, depth, FilterRows::Layout::DEPTH);
  auto& shared = shared_memory<TensorCoreStorage<TILE>>();
  const Halo<T> halo(x, halo_behind<TensorCoreStorage<TILE>, T>(shared));
  const PixelTile tile = x.tile(work.first_row / TILE);
  shared.tile.keep(0, work.first_column);
  halo.bring(tile);
  const Operand<Along::reduction, T> filter_rows{folded_w, depth, filters};
  WarpSumsOf<Arithmetic, TILE> sums;
  multiply_on_tensor_cores<Arithmetic>(FoldedRowChunks<T>(halo),
                                       FilterRows(filter_rows, work.first_column, 0, depth, true), work.part.slices,
                                       shared, sums);
  write_pixels(sums, shared, y, x, tile);
}

// The tiles of pixels that are a block's part of the reduction, and its slices of `depth` pixels.
struct PartOfTiles {
  int first, slices;

  __device__ PartOfTiles(int tiles, int depth) {
    const PartOfReduction part = part_of_reduction(tiles, gridDim.z, blockIdx.z, 1);
    first = part.first_k;
    slices = part.slices * (TILE_PIXELS / depth);
  }
};

template <int TILE, Access ACCESS>
__global__ void __launch_bounds__(tile_threads<TILE>(), tile_blocks_per_sm<TILE>())
    conv2d_first_layer_backward_weight_kernel(const float* dy, const __grid_constant__ FoldedImages<float> x,
                                              float* parts, float* bias_parts) {
  const int filters = x.conv.k, depth = x.depth();
  const BlockWork<TILE> work(depth, 0);
  const PartOfTiles part(x.tiles(), TILE_K);
  auto& shared = shared_memory<TileStorage<TILE>>();
  const Halo<float> halo(x, halo_behind<TileStorage<TILE>, float>(shared), work.first_column / x.folded);
  ThreadSums<TILE> sums;
  Vec4 gradients{};
  multiply_slices<TILE>(GradientOfTilesCursor<ACCESS>(dy, x, work.first_row, part.first),
                        FoldedColumnCursor(halo, work.first_column, part.first), part.slices, shared, sums,
                        [&gradients](const Vec4& quad) {
                          for (int i = 0; i < 4; ++i) gradients.values[i] += quad.values[i];
                        });
  write_tile<TILE>(sums, parts, nullptr, Accumulate::overwrite,
                   MatrixRows{parts + int64_t(blockIdx.z) * filters * depth, depth}, work.first_row, filters,
                   work.first_column, depth);
  if (bias_parts != nullptr && work.first_column == 0)
    write_row_sums<TILE>(gradients, shared, bias_parts + blockIdx.z * filters + work.first_row, Accumulate::overwrite,
                         filters - work.first_row);
}

// Of the weight's gradient on the tensor cores: left to itself, ptxas takes registers for fewer. GPUs before sm_80 have
// shared memory for two.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <class Arithmetic>
constexpr int BLOCKS_AN_SM = 2;
#else
template <class Arithmetic>
constexpr int BLOCKS_AN_SM = sizeof(typename Arithmetic::Element) == 2 ? 7
                             : Arithmetic::IN_FLOAT32_IF_SPECIAL       ? 4
                                                                       : 5;
#endif

template <class Arithmetic, int TILE, class T = typename Arithmetic::Element>
__global__ void __launch_bounds__(TENSOR_CORE_THREADS<Arithmetic, TILE>, BLOCKS_AN_SM<Arithmetic>)
    conv2d_first_layer_backward_weight_tensor_core_kernel(const T* dy, const __grid_constant__ FoldedImages<T> x,
                                                          float* parts, float* bias_parts, bool in_chunks) {
  const int filters = x.conv.k, depth = x.depth();
  const BlockWork<TILE> work(depth, 0);
  const PartOfTiles part(x.tiles(), FoldedColumnChunks<T>::Layout::DEPTH);
  auto& shared = shared_memory<TensorCoreStorage<TILE>>();
  const Halo<T> halo(x, halo_behind<TensorCoreStorage<TILE>, T>(shared), work.first_column / x.folded);
  shared.tile.keep(work.first_row, work.first_column);
  const bool is_first_column = bias_parts != nullptr && work.first_column == 0;
  WarpSumsOf<Arithmetic, TILE> sums;
  RowSums<Arithmetic, TILE> gradients;
  multiply_on_tensor_cores<Arithmetic>(GradientOfTilesChunks<T>(dy, x, work.first_row, part.first, in_chunks),
                                       FoldedColumnChunks<T>(halo, work.first_column, part.first), part.slices, shared,
                                       sums, [&](const Chunk* slice) {
                                         if (is_first_column) gradients.see(slice);
                                       });
  write_sums(sums, shared, Results<T>{parts, nullptr}, EpilogueOf<T>{},
             MatrixRows{int64_t(blockIdx.z) * filters * depth, depth}, filters, depth);
  if (is_first_column)
    gradients.write(shared, bias_parts + blockIdx.z * filters + work.first_row, Accumulate::overwrite,
                    filters - work.first_row);
}

template <class Storage, class T>
LaunchConfig block_of(const char* op, const FoldedImages<T>& x, const Product& product, int splits, Stream stream) {
  return {.op = op,
          .grid = tile_grid(op, product, {TILE_PIXELS, splits}),
          .block = TILE_THREADS,
          .shared_bytes = sizeof(Storage) + x.halo_bytes(),
          .stream = stream};
}
static_assert(TILE_THREADS == TENSOR_CORE_THREADS<Tf32x3Arithmetic, TILE_PIXELS>);

template <class T>
Product forward_product(const FoldedImages<T>& x) {
  return {int64_t(x.tiles()) * TILE_PIXELS, x.conv.k, x.depth(), 1};
}

// (workspace) the filters (K, R, S, C), folded, from the first boundary of 16 bytes on.
template <class T>
const T* fold_filters(const char* op, const FoldedImages<T>& x, const T* w, float* workspace, Stream stream) {
  T* const folded_w = reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(workspace) + 15) & ~uintptr_t(15));
  const int count = x.conv.k * x.depth();
  launch(conv2d_first_layer_fold_kernel<T>,
         {.op = op, .grid = unsigned(ceil_div(count, FOLD_THREADS)), .block = FOLD_THREADS, .stream = stream}, w,
         folded_w, x.run, x.folded, count);
  return folded_w;
}

template <class Target>
void forward(const char* op, const float* x, const float* w, const Target& y, float* workspace, const ConvShape& shape,
             Stream stream) {
  check_extents(op, shape);
  if (int64_t(shape.n) * shape.p * shape.q == 0) return;
  const FoldedImages<float> images = fold_images(x, shape, Along::reduction);
  const float* const folded_w = fold_filters(op, images, w, workspace, stream);
  launch(conv2d_first_layer_forward_kernel<TILE_PIXELS, Target>,
         block_of<TileStorage<TILE_PIXELS>>(op, images, forward_product(images), 1, stream), images, folded_w, y);
}

template <class Arithmetic, class Target, class T = typename Arithmetic::Element>
void forward_tensor_core(const char* op, const T* x, const T* w, const Target& y, float* workspace,
                         const ConvShape& shape, Stream stream) {
  check_extents(op, shape);
  if (int64_t(shape.n) * shape.p * shape.q == 0) return;
  const FoldedImages<T> images = fold_images(x, shape, Along::reduction);
  const T* const folded_w = fold_filters(op, images, w, workspace, stream);
  launch(conv2d_first_layer_forward_tensor_core_kernel<Arithmetic, TILE_PIXELS, Target>,
         block_of<TensorCoreStorage<TILE_PIXELS>>(op, images, forward_product(images), 1, stream), images, folded_w, y);
}

// The weight's gradient, folded, in parts, and what follows.
struct WeightGradient {
  int filters, window_rows, run, folded;
  Product product;
  int splits;
  int64_t elements;         // of a part
  int64_t bias, sum, rest;  // where in the workspace begin the parts of the bias's gradient, the sum, and what is left

  template <class T>
  WeightGradient(const FoldedImages<T>& x, Schedule asked)
      : filters(x.conv.k),
        window_rows(x.conv.r),
        run(x.run),
        folded(x.folded),
        product{filters, x.depth(), int64_t(x.tiles()) * TILE_PIXELS, 1},
        splits(choose_schedule("conv2d_backward_weight", product, {TILE_PIXELS, asked.splits}).splits),
        elements(product.m * product.n),
        bias(splits * elements),
        sum(bias + int64_t(splits) * filters),
        rest(sum + elements) {}

  int64_t workspace() const {
    return rest + max(reduction_workspace(1, splits, elements), reduction_workspace(1, splits, filters));
  }

  void sum_up(const char* op, float* workspace, float* dw, Accumulate accumulate, float* dbias,
              Accumulate accumulate_dbias, Stream stream) const {
    sum_forward(workspace, workspace + sum, workspace + rest, Accumulate::overwrite, 1.0f, 1, splits, elements, stream);
    const int count = filters * window_rows * run;
    launch(conv2d_first_layer_unfold_kernel,
           {.op = op, .grid = unsigned(ceil_div(count, FOLD_THREADS)), .block = FOLD_THREADS, .stream = stream},
           workspace + sum, dw, accumulate, run, folded, count);
    if (dbias != nullptr)
      sum_forward(workspace + bias, dbias, workspace + rest, accumulate_dbias, 1.0f, 1, splits, filters, stream);
  }
};

}  // namespace

bool is_first_layer(const ConvShape& shape, Schedule schedule) {
  return schedule.tile == 0 && shape.groups == 1 && shape.c <= MOST_CHANNELS && shape.dilation_w == 1 &&
         max(fold_images<float>(nullptr, shape, Along::reduction).halo_bytes(),
             fold_images<float>(nullptr, shape, Along::outer).halo_bytes()) <= MOST_HALO_BYTES;
}

// As much as numbers of 16 bits, whose chunks are longer, would take as float32, and what lies before a boundary.
int64_t first_layer_forward_workspace(const ConvShape& shape) {
  return int64_t(shape.k) * fold_images<Float16>(nullptr, shape, Along::reduction).depth() + 4;
}

int64_t first_layer_backward_weight_workspace(const ConvShape& shape, Schedule schedule) {
  return max(WeightGradient(fold_images<float>(nullptr, shape, Along::outer), schedule).workspace(),
             WeightGradient(fold_images<Float16>(nullptr, shape, Along::outer), schedule).workspace());
}

void first_layer_forward(const float* x, const float* w, const float* bias, Activation activation, float* y,
                         float* workspace, const ConvShape& shape, Stream stream) {
  forward("conv2d_forward", x, w, Destination{y, 0, {.bias = bias, .activation = activation}}, workspace, shape,
          stream);
}

void first_layer_maxpool2d_forward(const char* op, const float* x, const float* w, const WindowDestination<float>& y,
                                   float* workspace, const ConvShape& shape, Stream stream) {
  forward(op, x, w, y, workspace, shape, stream);
}

void first_layer_backward_weight(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
                                 Accumulate accumulate_dbias, float* workspace, const ConvShape& shape,
                                 Schedule schedule, Stream stream) {
  constexpr const char* op = "conv2d_backward_weight";
  check_extents(op, shape);
  const FoldedImages<float> images = fold_images(x, shape, Along::outer);
  const WeightGradient gradient(images, schedule);
  const bool in_quads = shape.k % 4 == 0 && is_aligned(dy);
  launch(in_quads ? conv2d_first_layer_backward_weight_kernel<TILE_PIXELS, Access::quads>
                  : conv2d_first_layer_backward_weight_kernel<TILE_PIXELS, Access::elements>,
         block_of<TileStorage<TILE_PIXELS>>(op, images, gradient.product, gradient.splits, stream), dy, images,
         workspace, dbias != nullptr ? workspace + gradient.bias : nullptr);
  gradient.sum_up(op, workspace, dw, accumulate, dbias, accumulate_dbias, stream);
}

template <class Arithmetic>
void first_layer_forward_tensor_core(const char* op, const typename Arithmetic::Element* x,
                                     const typename Arithmetic::Element* w, const float* bias, Activation activation,
                                     Results<typename Arithmetic::Element> y, float* workspace, const ConvShape& shape,
                                     Stream stream) {
  forward_tensor_core<Arithmetic>(
      op, x, w, TensorCoreDestination<typename Arithmetic::Element>{y, 0, {.bias = bias, .activation = activation}},
      workspace, shape, stream);
}

template <class Arithmetic>
void first_layer_maxpool2d_forward_tensor_core(const char* op, const typename Arithmetic::Element* x,
                                               const typename Arithmetic::Element* w,
                                               const WindowDestination<typename Arithmetic::Element>& y,
                                               float* workspace, const ConvShape& shape, Stream stream) {
  forward_tensor_core<Arithmetic>(op, x, w, y, workspace, shape, stream);
}

template <class Arithmetic>
void first_layer_backward_weight_tensor_core(const char* op, const typename Arithmetic::Element* dy,
                                             const typename Arithmetic::Element* x, float* dw, Accumulate accumulate,
                                             float* dbias, Accumulate accumulate_dbias, float* workspace,
                                             const ConvShape& shape, Schedule schedule, Stream stream) {
  using T = typename Arithmetic::Element;
  check_extents(op, shape);
  const FoldedImages<T> images = fold_images(x, shape, Along::outer);
  const WeightGradient gradient(images, schedule);
  const bool in_chunks = shape.k % ElementsOfChunk<T>::COUNT == 0 && is_aligned(dy);
  launch(conv2d_first_layer_backward_weight_tensor_core_kernel<Arithmetic, TILE_PIXELS>,
         block_of<TensorCoreStorage<TILE_PIXELS>>(op, images, gradient.product, gradient.splits, stream), dy, images,
         workspace, dbias != nullptr ? workspace + gradient.bias : nullptr, in_chunks);
  gradient.sum_up(op, workspace, dw, accumulate, dbias, accumulate_dbias, stream);
}

#define MINICNN_FIRST_LAYER(Arithmetic)                                                                            \
  template void first_layer_forward_tensor_core<Arithmetic>(                                                       \
      const char*, const Arithmetic::Element*, const Arithmetic::Element*, const float*, Activation,               \
      Results<Arithmetic::Element>, float*, const ConvShape&, Stream);                                             \
  template void first_layer_maxpool2d_forward_tensor_core<Arithmetic>(                                             \
      const char*, const Arithmetic::Element*, const Arithmetic::Element*,                                         \
      const WindowDestination<Arithmetic::Element>&, float*, const ConvShape&, Stream);                            \
  template void first_layer_backward_weight_tensor_core<Arithmetic>(                                               \
      const char*, const Arithmetic::Element*, const Arithmetic::Element*, float*, Accumulate, float*, Accumulate, \
      float*, const ConvShape&, Schedule, Stream);
MINICNN_FIRST_LAYER(Tf32Arithmetic)
MINICNN_FIRST_LAYER(Tf32x3Arithmetic)
MINICNN_FIRST_LAYER(Bfloat16Arithmetic)
MINICNN_FIRST_LAYER(Float16Arithmetic)
#undef MINICNN_FIRST_LAYER

}  // namespace minicnn
