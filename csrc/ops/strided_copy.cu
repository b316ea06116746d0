// Strided copy: the work behind permutation, basic indexing, concatenation, and the gradients of all that repeats or
// moves elements (sum, mean, add, sub, broadcasting).
//
//   y[y_offset + i . y_strides] (+)= scale * x[x_offset + i . x_strides]      for all indices i below extents
//
// x, y  float32, reached at the given strides only. A stride of 0 in x repeats an element; no two indices may lead to
//       the same element of y.
//
// strided_copy_kernel   a thread owns four consecutive indices. Grid ceil(count / 1024), block 256, no shared memory.
// transpose_kernel      where x and y have unit stride along different axes p and q: a block owns a tile of 32 of p by
//                       32 of q and turns it in shared memory, so that reads follow x and writes follow y. Grid: tiles,
//                       block 32 x 8, shared 32 x 33 floats: the odd row length keeps the columns in different banks.
//
// Bytes an element: 8, 12 with Accumulate::add; one multiplication: bound by memory bandwidth where one of x and y is
// contiguous along the innermost axis. Nothing is assumed of alignment.
// Source of the tile: Ruetsch and Micikevicius 2009, "Optimizing matrix transpose in CUDA".
#include "device/strided.h"
#include "kernels.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int THREADS = 256;
constexpr int TILE = 32, TILE_ROWS = 8;
constexpr int INNERMOST = PerAxis::COUNT - 1;

__global__ void __launch_bounds__(THREADS)
    strided_copy_kernel(const float* x, float* y, Accumulate accumulate, float scale, const __grid_constant__ Walk walk,
                        int64_t count) {
  const Place4 places = locate4(walk, vec4_begin(), count);
  Vec4 value = load_a(x, places);
  for (float& element : value.values) element *= scale;
  if (accumulate == Accumulate::add) {
    const Vec4 earlier = load_b(y, places);
    for (int i = 0; i < 4; ++i) value.values[i] += earlier.values[i];
  }
  store_b(y, places, value);
}

// The walk of the tiles' corners: all axes but p and q, which span a plane each.
struct Planes {
  Walk walk;
  int p_extent, q_extent;  // p: unit stride in x; q: unit stride in y
  int64_t p_stride_y, q_stride_x;
  int p_tiles, q_tiles;
};

struct Tile {
  float values[TILE][TILE + 1];  // [q][p]
};

__global__ void __launch_bounds__(TILE* TILE_ROWS)
    transpose_kernel(const float* x, float* y, Accumulate accumulate, float scale,
                     const __grid_constant__ Planes planes) {
  Tile& tile_shared = shared_memory<Tile>();
  const int64_t plane = blockIdx.x / planes.p_tiles / planes.q_tiles;
  const int p_begin = blockIdx.x % planes.p_tiles * TILE;
  const int q_begin = blockIdx.x / planes.p_tiles % planes.q_tiles * TILE;
  const Place corner = locate(planes.walk, plane);

  for (int row = threadIdx.y; row < TILE; row += TILE_ROWS) {
    const int p = p_begin + threadIdx.x, q = q_begin + row;
    if (p < planes.p_extent && q < planes.q_extent)
      tile_shared.values[row][threadIdx.x] = x[corner.a + p + q * planes.q_stride_x];
  }
  __syncthreads();
  for (int row = threadIdx.y; row < TILE; row += TILE_ROWS) {
    const int p = p_begin + row, q = q_begin + threadIdx.x;
    if (p < planes.p_extent && q < planes.q_extent) {
      float& element = y[corner.b + p * planes.p_stride_y + q];
      const float value = scale * tile_shared.values[threadIdx.x][row];
      element = accumulate == Accumulate::add ? element + value : value;
    }
  }
}

void transpose(const float* x, float* y, Accumulate accumulate, float scale, const Walk& walk, int p, Stream stream) {
  Planes planes{.walk = walk,
                .p_extent = walk.extents[p],
                .q_extent = walk.extents[INNERMOST],
                .p_stride_y = walk.b_strides[p],
                .q_stride_x = walk.a_strides[INNERMOST],
                .p_tiles = ceil_div(walk.extents[p], TILE),
                .q_tiles = ceil_div(walk.extents[INNERMOST], TILE)};
  planes.walk.extents.axis[p] = planes.walk.extents.axis[INNERMOST] = 1;
  const int64_t blocks = walk_count(planes.walk) * planes.p_tiles * planes.q_tiles;
  launch(transpose_kernel,
         {.op = "strided_copy",
          .grid = unsigned(blocks),
          .block = dim3(TILE, TILE_ROWS),
          .shared_bytes = sizeof(Tile),
          .stream = stream},
         x, y, accumulate, scale, planes);
}

}  // namespace

void strided_copy(const float* x, float* y, Accumulate accumulate, float scale, PerAxis extents, PerAxis x_strides,
                  PerAxis y_strides, int64_t x_offset, int64_t y_offset, Stream stream) {
  const Walk walk{extents, x_strides, y_strides};
  const int64_t count = walk_count(walk);
  if (count == 0) return;
  const int turned_axis = transposed_axis(walk, TILE);
  if (turned_axis >= 0) return transpose(x + x_offset, y + y_offset, accumulate, scale, walk, turned_axis, stream);
  launch(strided_copy_kernel,
         {.op = "strided_copy", .grid = vec4_blocks(count, THREADS), .block = THREADS, .stream = stream}, x + x_offset,
         y + y_offset, accumulate, scale, walk, count);
}

}  // namespace minicnn
