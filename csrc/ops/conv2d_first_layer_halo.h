// What the windows of a tile of output pixels read of an image of few channels, in shared memory, and the cursors of
// both inner tiles (gemm/tile.h, gemm/tensor_core_tile.h) over it.
//
// A tile is 8 x 8 output pixels of one image. Its halo is the input rows that they see, zeros outside of the image:
// with all rows of their windows forward, for the weight's gradient with those that a block has columns of. Where a row
// of pixels then sees fewer input rows than the stride, those between are left out:
//
//   row q of the halo    q / step * stride_h + q % step input rows behind its first, step = min(stride_h, rows seen)
//
// In it the S * C elements of one row of a window lie side by side: they are an operand's neighbours along a patch,
// made up to whole chunks of 16 bytes with zeros (folded), so that a chunk never runs from one row of the window into
// the next:
//
//   entry (r, j) of the patch of a pixel    r < R, j < folded >= S * C    its number: r * folded + j
//
// Rows of the halo are as far apart as keeps a warp's reads in different banks (halo_pitch). Forward, where windows
// overlap, its lanes read float32 at one entry of 32 pixels; elsewhere, neighbouring chunks of few patches.
#pragma once
#include "device/async_copy.h"
#include "gemm/tensor_core_tile.h"
#include "gemm/tile.h"
#include "ops/conv2d.h"

namespace minicnn {

constexpr int TILE_SIDE = 8, TILE_PIXELS = TILE_SIDE * TILE_SIDE;
constexpr int TILE_THREADS = tile_threads<TILE_PIXELS>();  // on the tensor cores, too

struct PlaceInTile {
  int row, column;
};

// Of pixel i of a tile: four after one another are a square.
__device__ inline PlaceInTile place_in_tile(int i) { return {i / 16 * 2 + i % 4 / 2, i / 4 % 4 * 2 + i % 2}; }

// The output pixels [row, row + 8) x [column, column + 8) of an image, some perhaps past its edge.
struct PixelTile {
  int image, row, column;

  // A pixel of y, or whether there is it.
  __device__ Pixel pixel(int i) const {
    const PlaceInTile place = place_in_tile(i);
    return {image, row + place.row, column + place.column};
  }
};

template <class T>
struct alignas(16) ElementsOfChunk {
  static constexpr int COUNT = 16 / sizeof(T);
  struct alignas(8) Half {
    T values[COUNT / 2];
  };
  T values[COUNT];
};

// Images of few channels, and what follows from a convolution's extents for their halos.
template <class T>
struct FoldedImages {
  const T* x;
  ConvShape conv;
  int run, folded;               // elements of a window's row: S * C, and those with the zeros behind them
  int step, halo_rows;           // rows of the halo: from one row of pixels to the next, and all
  int pitch;                     // elements from one row of the halo to the next
  bool in_pairs;                 // whether an even number of elements lies before each row of a halo, here and in x
  int tiles_down, tiles_across;  // of an image

  __host__ __device__ int depth() const { return conv.r * folded; }
  __host__ __device__ int tiles() const { return conv.n * tiles_down * tiles_across; }
  size_t halo_bytes() const { return sizeof(T) * halo_rows * pitch; }

  __device__ PixelTile tile(int index) const {
    const Pixel place = pixel_at(index, tiles_down, tiles_across);
    return {place.image, place.row * TILE_SIDE, place.column * TILE_SIDE};
  }
  __device__ bool has(const Pixel& pixel) const { return pixel.row < conv.p && pixel.column < conv.q; }
};

// How far a pixel's window lies from its neighbour's decides by how many bytes a chunk can be read.
template <class T>
MINICNN_HOST_DEVICE inline bool windows_lie_on(int bytes, const ConvShape& conv) {
  return conv.stride_w * conv.c * int(sizeof(T)) % bytes == 0;
}

// Elements from one row of the halo to the next. along: of the patches as an operand.
//
// Where a warp's lanes read neighbouring chunks of few patches, one row of a window begins, as banks have it, where the
// one above it ends; windows that are read by elements meet more neighbours (the skews are what the model of
// tests/gates found). Where they read a chunk each of 32 patches, 8 across and 4 down, all 4 rows are read at once by
// elements, else 2 of them, and windows lie an odd number of accesses apart: rows of pixels shall be a quarter of the
// banks apart, else half.
template <class T>
int halo_pitch(const ConvShape& conv, int step, int folded, Along along) {
  constexpr int BANKS = 32, ALL_BANKS = BANKS * 4 / sizeof(T);
  const int behind_first = (TILE_SIDE - 1) * conv.stride_w * conv.c;
  const bool in_halves = windows_lie_on<T>(8, conv);
  if (sizeof(T) == 2 || along == Along::outer) {
    const int skew = in_halves ? 0 : along == Along::outer ? 1 : 3;
    return ceil_div(behind_first, ALL_BANKS) * ALL_BANKS + folded + skew;
  }
  const int least = behind_first + folded, apart = in_halves ? BANKS / 2 : BANKS / 4;
  const int access = windows_lie_on<T>(16, conv) ? 4 : in_halves ? 2 : 1;
  int pitch = ceil_div(least, access) * access;
  for (int tries = BANKS / access; tries > 0 && step * pitch % (2 * apart) != apart; --tries) pitch += access;
  return pitch;
}

template <class T>
FoldedImages<T> fold_images(const T* x, const ConvShape& conv, Along along) {
  constexpr int CHUNK = ElementsOfChunk<T>::COUNT;
  const int run = conv.s * conv.c, folded = ceil_div(run, CHUNK) * CHUNK;
  // Of the window: those that a tile of entries, wherever it begins, has a part of.
  const int window_rows = along == Along::outer ? min(conv.r, ceil_div(TILE_PIXELS - 1, folded) + 1) : conv.r;
  const int seen = (window_rows - 1) * conv.dilation_h + 1, step = min(seen, conv.stride_h);
  const int pitch = halo_pitch<T>(conv, step, folded, along);
  const bool in_pairs = (conv.w * conv.c | conv.padding_w * conv.c | pitch) % 2 == 0 &&
                        reinterpret_cast<uintptr_t>(x) % (2 * sizeof(T)) == 0;
  return {.x = x,
          .conv = conv,
          .run = run,
          .folded = folded,
          .step = step,
          .halo_rows = (TILE_SIDE - 1) * step + seen,
          .pitch = pitch,
          .in_pairs = in_pairs,
          .tiles_down = ceil_div(conv.p, TILE_SIDE),
          .tiles_across = ceil_div(conv.q, TILE_SIDE)};
}

// A part of a patch: from (r, j) on.
struct Entry {
  int r, j;
};

template <class T>
class Halo {
 public:
  using Elements = ElementsOfChunk<T>;
  using Half = typename Elements::Half;

  // first_r: of the window's rows that it has.
  __device__ Halo(const FoldedImages<T>& images, T* elements, int first_r = 0)
      : images_(images), elements_(elements), first_r_(first_r) {}

  __device__ const FoldedImages<T>& images() const { return images_; }

  // All threads of the block take part. They have met at a barrier since the last of them read the halo before: that
  // which each slice of an operand ends with.
  __device__ void bring(const PixelTile& tile) const {
    images_.in_pairs ? copy_rows<2>(tile) : copy_rows<1>(tile);
    async_copy_commit();
    async_copy_wait<0>();
    __syncthreads();
  }

  __device__ Entry entry(int k) const { return {k / images_.folded, k % images_.folded}; }

  __device__ Entry after(Entry entry, int by) const {
    entry.j += by;
    while (entry.j >= images_.folded) {
      entry.j -= images_.folded;
      ++entry.r;
    }
    return entry;
  }

  // Where the patch of a pixel begins.
  __device__ int patch(int i) const {
    const ConvShape& conv = images_.conv;
    const PlaceInTile place = place_in_tile(i);
    return place.row * images_.step * images_.pitch + place.column * conv.stride_w * conv.c;
  }

  // A whole chunk of a patch; zeros past its end.
  __device__ Elements chunk(int patch, const Entry& entry) const {
    const ConvShape& conv = images_.conv;
    Elements chunk{};
    if (entry.r >= conv.r) return chunk;
    const T* const first = elements_ + (patch + (entry.r - first_r_) * conv.dilation_h * images_.pitch + entry.j);
    const int count = images_.run - entry.j;
    if (windows_lie_on<T>(16, conv))
      chunk = *reinterpret_cast<const Elements*>(first);
    else if (windows_lie_on<T>(8, conv))
      for (int half = 0; half < 2; ++half)
        reinterpret_cast<Half*>(chunk.values)[half] = reinterpret_cast<const Half*>(first)[half];
    else
      for (int e = 0; e < Elements::COUNT; ++e) chunk.values[e] = first[e];
    for (int e = 0; e < Elements::COUNT; ++e)
      if (e >= count) chunk.values[e] = T{};
    return chunk;
  }

 private:
  // EACH neighbours at a time, and what lies between the rows too: threads that leave none out meet in no bank.
  template <int EACH>
  __device__ void copy_rows(const PixelTile& tile) const {
    const ConvShape& conv = images_.conv;
    const int first_h = conv.rows().input_at(tile.row, first_r_), first_w = conv.columns().input_at(tile.column, 0);
    const int row_elements = conv.w * conv.c, first = first_w * conv.c;
    const T* const image = images_.x + int64_t(tile.image) * conv.h * row_elements;
    const int count = images_.halo_rows * images_.pitch;
    int h = first_h, rows_of_step = 0, i = EACH * threadIdx.x;
    for (int element = i; element < count; element += EACH * blockDim.x, i += EACH * blockDim.x) {
      for (; i >= images_.pitch; i -= images_.pitch) {
        ++h;
        if (++rows_of_step < images_.step) continue;
        rows_of_step = 0;
        h += conv.stride_h - images_.step;
      }
      const bool inside = conv.rows().is_inside(h) && unsigned(first + i) < unsigned(row_elements);
      copy<EACH>(elements_[element], image + (h * row_elements + first + i), inside);
    }
  }

  template <int EACH>
  static __device__ void copy(T& target, const T* source, bool inside) {
    constexpr int BYTES = EACH * sizeof(T);
    if constexpr (BYTES >= 4)
      async_copy_or_zero<BYTES>(&target, source, inside);
    else  // too small for an asynchronous copy
      target = inside ? *source : T{};
  }

  const FoldedImages<T>& images_;
  T* elements_;
  int first_r_;
};

// The pixels of tile after tile.
template <class T>
class TileWalk {
 public:
  __device__ TileWalk(const FoldedImages<T>& images, int first_tile)
      : images_(images), index_(first_tile), tile_(images.tile(first_tile)) {}

  __device__ bool is_at_start() const { return first_ == 0; }
  __device__ int first() const { return first_; }  // pixel of the tile
  __device__ const PixelTile& tile() const { return tile_; }

  __device__ void advance(int by) {
    first_ += by;
    if (first_ < TILE_PIXELS) return;
    first_ = 0;
    tile_ = images_.tile(++index_);
  }

 private:
  const FoldedImages<T>& images_;
  int index_, first_ = 0;
  PixelTile tile_;
};

// Patches as rows, the reduction along them: of the tile whose halo there is.
template <class T>
class FoldedRowChunks {
 public:
  using Layout = SliceLayout<T, TILE_PIXELS, Along::reduction>;
  using Mine = ThreadChunks<Layout, TILE_THREADS, sizeof(T) == 4 ? Lanes::across_rows : Lanes::along_rows>;

  __device__ explicit FoldedRowChunks(const Halo<T>& halo) : halo_(halo), entry_(halo.entry(Mine::k())) {
#pragma unroll
    for (int i = 0; i < Mine::EACH; ++i) patches_[i] = halo.patch(Mine::outer() + i * Mine::ROWS_APART);
  }

  __device__ void bring(int i, Chunk& chunk) const {
    reinterpret_cast<ElementsOfChunk<T>&>(chunk) = halo_.chunk(patches_[i], entry_);
  }
  __device__ void advance() { entry_ = halo_.after(entry_, Layout::DEPTH); }

 private:
  const Halo<T>& halo_;
  Entry entry_;
  int patches_[Mine::EACH];
};

class FoldedRowCursor {
 public:
  static constexpr Along along = Along::reduction;

  __device__ static QuadPlace place() { return {int(threadIdx.x) % TILE_PIXELS, int(threadIdx.x) / TILE_PIXELS * 4}; }

  __device__ explicit FoldedRowCursor(const Halo<float>& halo)
      : halo_(halo), entry_(halo.entry(place().k)), patch_(halo.patch(place().outer)) {}

  __device__ Vec4 load() const {
    const auto [values] = halo_.chunk(patch_, entry_);
    return {values[0], values[1], values[2], values[3]};
  }
  __device__ void advance() { entry_ = halo_.after(entry_, TILE_K); }

 private:
  const Halo<float>& halo_;
  Entry entry_;
  int patch_;
};

// Patches as columns, the reduction over the pixels of tile after tile, whose halos it brings.
template <class T>
class FoldedColumns {
 public:
  __device__ FoldedColumns(const Halo<T>& halo, int first_entry, int first_tile)
      : halo_(halo), entry_(halo.entry(first_entry)), walk_(halo.images(), first_tile) {}

  // Before the first chunk of a slice. All threads of the block take part.
  __device__ void begin_slice() const {
    if (walk_.is_at_start()) halo_.bring(walk_.tile());
  }

  // Of the k-th pixel of the slice; zeros where y has none: its window is read nevertheless, so that the lanes of a
  // warp stay together.
  __device__ ElementsOfChunk<T> chunk(int k) const {
    const int i = walk_.first() + k;
    const ElementsOfChunk<T> chunk = halo_.chunk(halo_.patch(i), entry_);
    return halo_.images().has(walk_.tile().pixel(i)) ? chunk : ElementsOfChunk<T>{};
  }

  __device__ void advance(int depth) { walk_.advance(depth); }

 private:
  const Halo<T>& halo_;
  Entry entry_;
  TileWalk<T> walk_;
};

template <class T>
class FoldedColumnChunks {
 public:
  using Layout = SliceLayout<T, TILE_PIXELS, Along::outer>;
  using Mine = ThreadChunks<Layout, TILE_THREADS>;

  __device__ FoldedColumnChunks(const Halo<T>& halo, int first_entry, int first_tile)
      : columns_(halo, first_entry + Mine::outer(), first_tile) {}

  __device__ void bring(int i, Chunk& chunk) const {
    if (i == 0) columns_.begin_slice();
    reinterpret_cast<ElementsOfChunk<T>&>(chunk) = columns_.chunk(Mine::k() + i * Mine::ROWS_APART);
  }
  __device__ void advance() { columns_.advance(Layout::DEPTH); }

 private:
  FoldedColumns<T> columns_;
};

class FoldedColumnCursor {
 public:
  static constexpr Along along = Along::outer;

  __device__ FoldedColumnCursor(const Halo<float>& halo, int first_entry, int first_tile)
      : columns_(halo, first_entry + quad_place<TILE_PIXELS, along>().outer, first_tile) {}

  __device__ Vec4 load() const {
    columns_.begin_slice();
    const auto [values] = columns_.chunk(quad_place<TILE_PIXELS, along>().k);
    return {values[0], values[1], values[2], values[3]};
  }
  __device__ void advance() { columns_.advance(TILE_K); }

 private:
  FoldedColumns<float> columns_;
};

// dy (N, P, Q, K) as the other operand of that product: the outer index is the filter.
template <class T>
class GradientOfTiles {
 public:
  __device__ GradientOfTiles(const T* dy, const FoldedImages<T>& images, int first_filter, int first_tile)
      : dy_(dy), images_(images), filter_(first_filter), walk_(images, first_tile) {}

  // Of the k-th pixel of the slice: where it begins, and how many filters there are from there on.
  __device__ const T* at(int k, int& count) const {
    const ConvShape& conv = images_.conv;
    const Pixel pixel = walk_.tile().pixel(walk_.first() + k);
    count = images_.has(pixel) ? conv.k - filter_ : 0;
    return dy_ + (y_offset(conv, pixel.image, pixel.row, pixel.column, 0) + filter_);
  }

  __device__ void advance(int depth) { walk_.advance(depth); }

 private:
  const T* dy_;
  const FoldedImages<T>& images_;
  int filter_;
  TileWalk<T> walk_;
};

template <class T>
class GradientOfTilesChunks {
 public:
  using Layout = SliceLayout<T, TILE_PIXELS, Along::outer>;
  using Mine = ThreadChunks<Layout, TILE_THREADS>;

  __device__ GradientOfTilesChunks(const T* dy, const FoldedImages<T>& images, int first_filter, int first_tile,
                                   bool in_chunks)
      : gradient_(dy, images, first_filter + Mine::outer(in_chunks), first_tile), in_chunks_(in_chunks) {}

  __device__ void bring(int i, Chunk& chunk) const {
    int count;
    const T* const source = gradient_.at(Mine::k() + i * Mine::ROWS_APART, count);
    if (in_chunks_)
      async_copy_or_zero<16>(&chunk, source, count > 0);
    else
      bring_elements<T>(chunk, [=](int e) { return e < count ? source + e : nullptr; });
  }
  __device__ void advance() { gradient_.advance(Layout::DEPTH); }

 private:
  GradientOfTiles<T> gradient_;
  bool in_chunks_;
};

template <Access ACCESS>
class GradientOfTilesCursor {
 public:
  static constexpr Along along = Along::outer;

  __device__ GradientOfTilesCursor(const float* dy, const FoldedImages<float>& images, int first_filter, int first_tile)
      : gradient_(dy, images, first_filter + quad_place<TILE_PIXELS, along>().outer, first_tile) {}

  __device__ Vec4 load() const {
    int count;
    const float* const source = gradient_.at(quad_place<TILE_PIXELS, along>().k, count);
    return load_quad<ACCESS>(source, count);
  }
  __device__ void advance() { gradient_.advance(TILE_K); }

 private:
  GradientOfTiles<float> gradient_;
};

}  // namespace minicnn
