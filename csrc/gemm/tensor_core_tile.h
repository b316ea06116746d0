// The inner tile of products on the tensor cores: the sibling of tile.h, and like it shared by GEMM and convolution.
//
// A block of four warps, or of eight, computes TILE x TILE sums over the reduction, 64 bytes of it at a time, each warp
// its share of them. Cursors start asynchronous copies of the slices to come into a ring of stages, so that two are
// under way while the warps multiply a third; one barrier a slice. What differs between a matrix and a convolution is
// the cursor alone:
//
//   using Layout              SliceLayout: how its slices lie
//   using Mine                ThreadChunks: which chunks of a slice this thread brings
//   bring(i, chunk)           starts to fill `chunk` with the i-th of them, in the order of i; zeros outside of the
//                             operand
//   advance()                 to the next slice
//
// Two tiles: 128 x 128, 64 x 64 sums a warp; 64 x 64, 32 x 32 a warp, where the large one would leave processors idle
// or reach far over the result's edge, and where operands do not lie in whole chunks. Numbers in two parts (tf32x3)
// take twice the registers and a third of the loads a product: in the large tile eight warps of 64 x 32 sums.
#pragma once
#include "device/async_copy.h"
#include "device/ldmatrix.h"
#include "gemm/kept_tile.h"
#include "gemm/operand.h"
#include "gemm/precision.h"
#include "gemm/tensor_core_layout.h"

namespace minicnn {

constexpr int STAGES = 3;

// Of a block.
template <class Arithmetic, int TILE>
constexpr int TENSOR_CORE_THREADS = TILE == 128 && sizeof(typename Arithmetic::Number) > sizeof(uint32_t) ? 256 : 128;

template <int TILE>
struct TensorCoreStorage {
  static constexpr int CHUNKS = TILE * 64 / sizeof(Chunk);
  Chunk a[STAGES][CHUNKS], b[STAGES][CHUNKS];
  KeptTile tile;
};

// Whose neighbours the lanes of a warp bring: of a row, as global memory wants it, or of 32 rows a chunk each, all at
// one place in their rows.
enum class Lanes { along_rows, across_rows };

// Which part of a slice a thread brings: one chunk of each of EACH rows, ROWS_APART apart, which is so far that the
// swizzle is the same.
//
// Where elements of 32 bits come one by one, four neighbouring lanes fill their four chunks together, each chunk at
// once: a lane brings every ELEMENT_STEP-th element from its first on. Lanes that filled a chunk each would meet by
// fours in every bank. Elements of 16 bits are put together in registers, a chunk a lane.
template <class LAYOUT, int THREADS, Lanes LANES = Lanes::along_rows>
struct ThreadChunks {
  using Layout = LAYOUT;
  static constexpr int CHUNKS_A_ROW = Layout::CHUNKS_A_ROW;
  static constexpr int ROWS_APART = THREADS / CHUNKS_A_ROW, EACH = Layout::ROWS / ROWS_APART;
  static constexpr int ELEMENT_STEP = sizeof(typename Layout::Element) == 4 ? 4 : 1;
  static_assert(Layout::ROWS % ROWS_APART == 0 && Layout::swizzle(ROWS_APART) == 0, "rows are brought in columns");
  static_assert(CHUNKS_A_ROW % 4 == 0, "lanes share chunks of one row");

  __device__ static int row() {
    return LANES == Lanes::along_rows ? threadIdx.x / CHUNKS_A_ROW : threadIdx.x % ROWS_APART;
  }
  __device__ static int column(bool in_chunks) {  // in elements
    const int chunk = LANES == Lanes::along_rows ? threadIdx.x % CHUNKS_A_ROW : threadIdx.x / ROWS_APART;
    return in_chunks || ELEMENT_STEP == 1 ? chunk * Layout::CHUNK : chunk / 4 * 4 * Layout::CHUNK + chunk % 4;
  }
  __device__ static int outer(bool in_chunks = true) {
    return Layout::along == Along::reduction ? row() : column(in_chunks);
  }
  __device__ static int k(bool in_chunks = true) {
    return Layout::along == Along::reduction ? column(in_chunks) : row();
  }
};

// Of a tile's slices in one arithmetic.
template <class Arithmetic, int TILE, Along ALONG>
using SliceChunks =
    ThreadChunks<SliceLayout<typename Arithmetic::Element, TILE, ALONG>, TENSOR_CORE_THREADS<Arithmetic, TILE>>;

// How cursors read: by chunks where every chunk is whole and lies on a 16-byte boundary, which is where operands start
// on one, and their extent and pitch along memory are multiples of a chunk's elements. Else element by element: the
// small tile has registers for that, and finds out when it runs.
enum class Copies { chunks, any };

// Brings the elements that are this thread's (ThreadChunks), where `chunk` would be: at(e) is the address of the e-th
// from its first on, null for a zero; asked for in order.
template <class Element, class At>
__device__ inline void bring_elements(Chunk& chunk, At at) {
  if constexpr (sizeof(Element) == 4) {
    for (unsigned i = 0; i < 4; ++i) {  // the i-th of the four chunks, which a swizzle has permuted
      const auto other = reinterpret_cast<uintptr_t>(&chunk) ^ (threadIdx.x ^ i) % 4 * sizeof(Chunk);
      const Element* const element = at(4 * i);
      async_copy_or_zero<4>(&reinterpret_cast<Chunk*>(other)->words[threadIdx.x % 4], element, element != nullptr);
    }
  } else {  // too small for an asynchronous copy
    Chunk elements{};
    for (int i = 0; i < 8; ++i) {
      const Element* const element = at(i);
      if (element != nullptr) elements.words[i / 2] |= uint32_t(element->bits) << 16 * (i % 2);
    }
    chunk = elements;
  }
}

// A cursor over a matrix, k below k_end.
template <class MINE, Copies COPIES>
class MatrixChunks {
 public:
  using Mine = MINE;
  using Layout = typename Mine::Layout;
  using Element = typename Layout::Element;

  __device__ MatrixChunks(const Operand<Layout::along, Element>& operand, int first_outer, int first_k, int k_end,
                          bool in_chunks)
      : pitch_(operand.pitch), in_chunks_(in_chunks) {
    const bool chunks = COPIES == Copies::chunks || in_chunks;
    const int outer = first_outer + Mine::outer(chunks), k = first_k + Mine::k(chunks);
    first_ = operand.at(outer, k);
    rows_left_ = BY_K ? operand.extent - outer : k_end - k;
    row_left_ = BY_K ? k_end - k : operand.extent - outer;
  }

  __device__ void bring(int i, Chunk& chunk) const {
    const int row = i * Mine::ROWS_APART, count = row < rows_left_ ? row_left_ : 0;
    const Element* const source = first_ + int64_t(row) * pitch_;
    if (COPIES == Copies::chunks || in_chunks_)
      async_copy_or_zero<16>(&chunk, source, count > 0);
    else
      bring_elements<Element>(chunk, [=](int e) { return e < count ? source + e : nullptr; });
  }

  __device__ void advance() {
    first_ += BY_K ? Layout::DEPTH : int64_t(Layout::DEPTH) * pitch_;
    (BY_K ? row_left_ : rows_left_) -= Layout::DEPTH;
  }

 private:
  static constexpr bool BY_K = Layout::along == Along::reduction;
  const Element* first_;
  int pitch_;
  int rows_left_, row_left_;  // from the first chunk to the end of the operand: rows, and elements of a row
  bool in_chunks_;
};

// Which of the block's sums a warp has, of two above one another, and which of those a lane: d of device/mma.h, tile by
// tile.
template <int TILE, int THREADS>
struct WarpSums {
  static constexpr int WARPS = THREADS / 32, WARPS_ACROSS = WARPS / 2;
  static constexpr int HEIGHT = TILE / 2, WIDTH = TILE / WARPS_ACROSS, ROWS = HEIGHT / 16, COLUMNS = WIDTH / 8;
  float values[ROWS][COLUMNS][4] = {};

  __device__ static unsigned first_row() { return threadIdx.x / 32 / WARPS_ACROSS * HEIGHT; }
  __device__ static unsigned first_column() { return threadIdx.x / 32 % WARPS_ACROSS * WIDTH; }
  __device__ static unsigned row(int i, int half) { return first_row() + 16 * i + 8 * half + threadIdx.x % 32 / 4; }
  __device__ static unsigned column(int j) { return first_column() + 8 * j + threadIdx.x % 4 * 2; }
};

// Of one arithmetic.
template <class Arithmetic, int TILE>
using WarpSumsOf = WarpSums<TILE, TENSOR_CORE_THREADS<Arithmetic, TILE>>;

enum class Side { a, b };

// The fragments of 16 outer indices by 32 bytes of the reduction, the step-th of the slice: four matrices of eight
// outer indices by 16 bytes, in the order in which device/mma.h wants one fragment of a, or two of b.
template <Side SIDE, class Layout>
__device__ inline void load_fragments(uint32_t (&bits)[4], const Chunk* slice, unsigned outer, unsigned step) {
  const unsigned lane = threadIdx.x % 32;
  const auto outer_half = [](unsigned matrix) { return SIDE == Side::a ? matrix % 2 : matrix / 2; };
  const auto k_half = [](unsigned matrix) { return SIDE == Side::a ? matrix / 2 : matrix % 2; };
  if constexpr (Layout::along == Along::reduction) {
    const unsigned row = outer + 8 * outer_half(lane / 8) + lane % 8, chunk = 2 * step + k_half(lane / 8);
    ldmatrix(bits, &slice[Layout::chunk_at(row, chunk)]);
  } else if constexpr (sizeof(typename Layout::Element) == 2) {
    const unsigned row = 16 * step + 8 * k_half(lane / 8) + lane % 8, chunk = outer / 8 + outer_half(lane / 8);
    ldmatrix_trans(bits, &slice[Layout::chunk_at(row, chunk)]);
  } else {  // ldmatrix transposes elements of 16 bits only
    for (unsigned matrix = 0; matrix < 4; ++matrix) {
      const unsigned k = 8 * step + 4 * k_half(matrix) + lane % 4;
      const unsigned offset = Layout::offset(outer + 8 * outer_half(matrix) + lane / 4, k);
      bits[matrix] = slice[offset / 4].words[offset % 4];
    }
  }
}

// A tile of 16 rows, or a pair of tiles of 8 columns, by 32 bytes of the reduction: of a slice, as the tensor cores
// take them.
template <class Arithmetic>
struct Fragments {
  typename Arithmetic::Number numbers[4];

  Fragments() = default;
  __device__ explicit Fragments(const uint32_t (&bits)[4]) {
    for (int word = 0; word < 4; ++word) numbers[word] = Arithmetic::number(bits[word]);
  }
};

// sums += rows times columns, of the i-th tile of rows and the pair-th pair of columns.
template <class Arithmetic, class Sums>
__device__ inline void multiply_fragments(const Fragments<Arithmetic>& rows, const Fragments<Arithmetic>& columns,
                                          int i, int pair, Sums& sums) {
  for (int half = 0; half < 2; ++half) {
    const typename Arithmetic::Number b[2] = {columns.numbers[2 * half], columns.numbers[2 * half + 1]};
    Arithmetic::multiply(sums.values[i][2 * pair + half], rows.numbers, b);
  }
}

// sums += the product of two slices. All fragments are read before the first product, so that the second step's loads
// are hidden behind the first one's products.
template <class Arithmetic, class A, class B, class Sums>
__device__ inline void multiply_slice_ahead(const Chunk* a, const Chunk* b, Sums& sums) {
  constexpr int PAIRS = Sums::COLUMNS / 2;
  uint32_t rows[2][Sums::ROWS][4], columns[2][PAIRS][4];
#pragma unroll
  for (int step = 0; step < 2; ++step) {
    for (int i = 0; i < Sums::ROWS; ++i) load_fragments<Side::a, A>(rows[step][i], a, Sums::first_row() + 16 * i, step);
    for (int pair = 0; pair < PAIRS; ++pair)
      load_fragments<Side::b, B>(columns[step][pair], b, Sums::first_column() + 16 * pair, step);
  }
#pragma unroll
  for (int step = 0; step < 2; ++step) {
    Fragments<Arithmetic> of_rows[Sums::ROWS];
    for (int i = 0; i < Sums::ROWS; ++i) of_rows[i] = Fragments<Arithmetic>(rows[step][i]);
    for (int pair = 0; pair < PAIRS; ++pair) {
      const Fragments<Arithmetic> of_columns(columns[step][pair]);
      for (int i = 0; i < Sums::ROWS; ++i) multiply_fragments(of_rows[i], of_columns, i, pair, sums);
    }
  }
}

// The same with few registers, for numbers that take more than one: the columns of a step, and a tile of rows at a
// time.
template <class Arithmetic, class A, class B, class Sums>
__device__ inline void multiply_slice_by_rows(const Chunk* a, const Chunk* b, Sums& sums) {
  constexpr int PAIRS = Sums::COLUMNS / 2;
  uint32_t bits[4];
#pragma unroll 1
  for (int step = 0; step < 2; ++step) {
    Fragments<Arithmetic> columns[PAIRS];
    for (int pair = 0; pair < PAIRS; ++pair) {
      load_fragments<Side::b, B>(bits, b, Sums::first_column() + 16 * pair, step);
      columns[pair] = Fragments<Arithmetic>(bits);
    }
#pragma unroll
    for (int i = 0; i < Sums::ROWS; ++i) {
      load_fragments<Side::a, A>(bits, a, Sums::first_row() + 16 * i, step);
      const Fragments<Arithmetic> rows(bits);
      for (int pair = 0; pair < PAIRS; ++pair) multiply_fragments(rows, columns[pair], i, pair, sums);
    }
  }
}

template <class Cursor>
__device__ inline void bring_slice(Cursor& cursor, Chunk* slice) {
  using Layout = typename Cursor::Layout;
  using Mine = typename Cursor::Mine;
  Chunk* const first = slice + Layout::offset(Mine::outer(), Mine::k()) / Layout::CHUNK;
#pragma unroll
  for (int i = 0; i < Mine::EACH; ++i) cursor.bring(i, first[i * Mine::ROWS_APART * Layout::CHUNKS_A_ROW]);
  cursor.advance();
}

// Calls multiply(a's slice, b's slice) for the next `slices` slices of the operands. All threads of the block take
// part.
//
// The code that brings a slice is long, to run and to compile: it is there once, in a loop whose first rounds only
// bring.
template <int TILE, class ACursor, class BCursor, class Multiply>
__device__ inline void for_each_slice(ACursor a, BCursor b, int slices, TensorCoreStorage<TILE>& shared,
                                      const Multiply& multiply) {
  constexpr int AHEAD = STAGES - 1;
  int stage = 0;
#pragma unroll 1
  for (int rounds = slices + AHEAD; rounds > 0; --rounds) {
    const bool is_there = rounds <= slices;
    if (is_there) {
      async_copy_wait<AHEAD - 1>();
      __syncthreads();  // this slice is there for all; and nobody reads the one before any more, whose stage is next
    }
    if (rounds > AHEAD) {
      bring_slice(a, shared.a[stage]);
      bring_slice(b, shared.b[stage]);
    }
    async_copy_commit();  // an empty group too, so that the age of a slice counts groups
    stage = stage + 1 == STAGES ? 0 : stage + 1;
    if (is_there) multiply(shared.a[stage], shared.b[stage]);
  }
}

// sums += the product of two slices of float32, by float32 arithmetic: rarely called, and short in place of fast.
template <class A, class B, class Sums>
__device__ inline void multiply_slice_in_float32(const Chunk* a, const Chunk* b, Sums& sums) {
  const auto element = [](const Chunk* slice, unsigned offset) {
    return __uint_as_float(slice[offset / 4].words[offset % 4]);
  };
#pragma unroll 1
  for (int k = 0; k < A::DEPTH; ++k)
#pragma unroll
    for (int j = 0; j < Sums::COLUMNS; ++j) {
      const float b_0 = element(b, B::offset(Sums::column(j), k)), b_1 = element(b, B::offset(Sums::column(j) + 1, k));
#pragma unroll
      for (int i = 0; i < 2 * Sums::ROWS; ++i) {
        const float of_a = element(a, A::offset(Sums::row(i / 2, i % 2), k));
        sums.values[i / 2][j][i % 2 * 2] += of_a * b_0;
        sums.values[i / 2][j][i % 2 * 2 + 1] += of_a * b_1;
      }
    }
}

template <class Sums>
__device__ inline bool has_special(const Sums& sums) {
  float nothing = 0.0f;  // 0 times anything finite
  for (const auto& row : sums.values)
    for (const auto& tile : row)
      for (float value : tile) nothing += 0.0f * value;
  return nothing != 0.0f;
}

// sums = the product of the next `slices` slices of the operands, and see(slice) is called for each slice of a. All
// threads of the block take part.
template <class Arithmetic, int TILE, class ACursor, class BCursor, class Sums, class See>
__device__ inline void multiply_on_tensor_cores(const ACursor& a, const BCursor& b, int slices,
                                                TensorCoreStorage<TILE>& shared, Sums& sums, const See& see) {
  using A = typename ACursor::Layout;
  using B = typename BCursor::Layout;
  for_each_slice(a, b, slices, shared, [&](const Chunk* a_slice, const Chunk* b_slice) {
    see(a_slice);
    if constexpr (sizeof(typename Arithmetic::Number) == sizeof(uint32_t))
      multiply_slice_ahead<Arithmetic, A, B>(a_slice, b_slice, sums);
    else
      multiply_slice_by_rows<Arithmetic, A, B>(a_slice, b_slice, sums);
  });
  if constexpr (Arithmetic::IN_FLOAT32_IF_SPECIAL)
    if (__syncthreads_or(has_special(sums))) {
      sums = {};
      for_each_slice(a, b, slices, shared, [&](const Chunk* a_slice, const Chunk* b_slice) {
        multiply_slice_in_float32<A, B>(a_slice, b_slice, sums);
      });
    }
}

template <class Arithmetic, int TILE, class ACursor, class BCursor, class Sums>
__device__ inline void multiply_on_tensor_cores(const ACursor& a, const BCursor& b, int slices,
                                                TensorCoreStorage<TILE>& shared, Sums& sums) {
  multiply_on_tensor_cores<Arithmetic>(a, b, slices, shared, sums, [](const Chunk*) {});
}

}  // namespace minicnn
