// The inner tile that the fast GEMM and the implicit convolution share.
//
// A block computes TILE x TILE sums over the reduction, TILE_K of it at a time: cursors bring a slice of each operand
// from global memory into one of two stages of shared memory, while the threads multiply out of the other. What differs
// between a matrix and a convolution is the cursor alone.
//
// A cursor stands on a quad, the four elements that its thread carries of each slice, and walks along the reduction:
//
//   static constexpr Along along   whether the four are neighbours along the reduction or along the outer index
//   static QuadPlace place()       where in a slice they lie, if not at quad_place
//   Vec4 load() const              their values, zeros outside of the operand
//   void advance()                 TILE_K further along the reduction
//
// Two tiles: 128 x 128 by 256 threads, 8 x 8 sums a thread; 64 x 64 by 128 threads, 8 x 4 sums a thread, where the
// large one would leave processors idle or reach far over the result's edge, and where operands do not lie in quads.
#pragma once
#include "device/relu.h"
#include "device/vec4.h"
#include "gemm/kept_tile.h"
#include "gemm/operand.h"

namespace minicnn {

constexpr int TILE_K = 8;

template <int TILE>
constexpr int tile_threads() {
  static_assert(TILE == 64 || TILE == 128, "a thread carries one quad of each operand a slice: 2 * TILE threads");
  return 2 * TILE;
}

// Blocks that should share an SM: 512 threads of at most 128 registers.
template <int TILE>
constexpr int tile_blocks_per_sm() {
  return 512 / tile_threads<TILE>();
}

// The pad keeps rows on 16-byte boundaries and spreads the stores of a warp (16 neighbours at two k four apart) over
// all 32 banks.
template <int TILE>
struct alignas(Vec4) TileStorage {
  float a[2][TILE_K][TILE + 4];
  float b[2][TILE_K][TILE + 4];
  KeptTile tile;
};

// Where a thread's quad lies in a slice.
struct QuadPlace {
  int outer, k;
};

// Neighbouring threads have neighbours in global memory.
template <int TILE, Along ALONG>
__device__ inline QuadPlace quad_place() {
  const int thread = threadIdx.x;
  if constexpr (ALONG == Along::reduction)
    return {thread / (TILE_K / 4), thread % (TILE_K / 4) * 4};
  else
    return {thread % (TILE / 4) * 4, thread / (TILE / 4)};
}

template <int TILE, class Cursor>
__device__ inline QuadPlace place_of() {
  if constexpr (requires { Cursor::place(); })
    return Cursor::place();
  else
    return quad_place<TILE, Cursor::along>();
}

// Which sums a thread owns: quads of neighbours, TILE / 2 rows or 64 columns apart, so that a warp, 4 x 8 threads,
// reads whole lines of shared memory.
template <int TILE>
struct ThreadSums {
  static constexpr int ROWS = 8, COLUMNS = TILE / 16;
  float values[ROWS][COLUMNS] = {};

  __device__ static int row(int i) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    return i / 4 * (TILE / 2) + 4 * (warp / 2 * 4 + lane / 8) + i % 4;
  }
  __device__ static int column(int j) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    return j / 4 * 64 + 4 * (warp % 2 * 8 + lane % 8) + j % 4;
  }
};

// How cursors read. By quads where every quad is whole and lies on a 16-byte boundary: operands that start on one, and
// whose extent and pitch along memory are multiples of 4. Else element by element. Or by what each quad allows when it
// is loaded: one kernel in place of two, for those that are there to be read.
enum class Access { quads, elements, any };

inline bool is_aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % alignof(Vec4) == 0; }

// The first `count` of the four elements at `quad`, zeros for the rest; count may be any number.
template <Access ACCESS>
__device__ inline Vec4 load_quad(const float* quad, int count) {
  Vec4 result{};
  if constexpr (ACCESS == Access::quads) {
    if (count > 0) result = *reinterpret_cast<const Vec4*>(quad);
  } else if constexpr (ACCESS == Access::any) {
    result = load_vec4(quad, 0, count);
  } else {
    for (int i = 0; i < 4; ++i)
      if (i < count) result.values[i] = quad[i];
  }
  return result;
}

// Slices lie with the outer index along memory: a quad along the reduction is transposed on its way.
template <Along ALONG, int TILE_AND_PAD>
__device__ inline void store_quad(float (&slice)[TILE_K][TILE_AND_PAD], const QuadPlace& place, const Vec4& quad) {
  if constexpr (ALONG == Along::outer)
    *reinterpret_cast<Vec4*>(&slice[place.k][place.outer]) = quad;
  else
    for (int i = 0; i < 4; ++i) slice[place.k + i][place.outer] = quad.values[i];
}

template <int TILE>
__device__ inline void multiply_slice(const float (&a)[TILE_K][TILE + 4], const float (&b)[TILE_K][TILE + 4],
                                      ThreadSums<TILE>& sums) {
  using Sums = ThreadSums<TILE>;
#pragma unroll
  for (int k = 0; k < TILE_K; ++k) {
    Vec4 rows[Sums::ROWS / 4], columns[Sums::COLUMNS / 4];
    for (int i = 0; i < Sums::ROWS; i += 4) rows[i / 4] = *reinterpret_cast<const Vec4*>(&a[k][Sums::row(i)]);
    for (int j = 0; j < Sums::COLUMNS; j += 4) columns[j / 4] = *reinterpret_cast<const Vec4*>(&b[k][Sums::column(j)]);
    for (int i = 0; i < Sums::ROWS; ++i)
      for (int j = 0; j < Sums::COLUMNS; ++j)
        sums.values[i][j] += rows[i / 4].values[i % 4] * columns[j / 4].values[j % 4];
  }
}

// sums += the product of the next `slices` slices of the operands, and see(quad) is called for each quad of a that this
// thread brings. All threads of the block take part. Sums of another kind than ThreadSums bring a multiply_slice of
// their own.
template <int TILE, class ACursor, class BCursor, class Sums, class See>
__device__ inline void multiply_slices(ACursor a, BCursor b, int slices, TileStorage<TILE>& shared, Sums& sums,
                                       const See& see) {
  if (slices == 0) return;
  Vec4 next_a = a.load(), next_b = b.load();
  for (int stage = 0;; stage = 1 - stage) {  // which nobody reads: all have passed the barrier behind its last slice
    store_quad<ACursor::along>(shared.a[stage], place_of<TILE, ACursor>(), next_a);
    store_quad<BCursor::along>(shared.b[stage], place_of<TILE, BCursor>(), next_b);
    see(next_a);
    __syncthreads();
    const bool is_last = --slices == 0;
    a.advance();
    b.advance();
    if (!is_last) next_a = a.load();  // on their way while the threads multiply
    if (!is_last) next_b = b.load();
    multiply_slice(shared.a[stage], shared.b[stage], sums);
    if (is_last) return;
  }
}

template <int TILE, class ACursor, class BCursor, class Sums>
__device__ inline void multiply_slices(ACursor a, BCursor b, int slices, TileStorage<TILE>& shared, Sums& sums) {
  multiply_slices<TILE>(a, b, slices, shared, sums, [](const Vec4&) {});
}

// sums_of_rows[i] (+)= the sum over k of op(a)[i, k], for the tile's first `rows` rows: of the quads of a, which lie
// along the outer index, each thread has added up those that it brought. All threads of the block take part.
template <int TILE>
__device__ inline void write_row_sums(const Vec4& brought, TileStorage<TILE>& shared, float* sums_of_rows,
                                      Accumulate accumulate, int rows) {
  __syncthreads();  // all have multiplied the last slice
  store_quad<Along::outer>(shared.a[0], quad_place<TILE, Along::outer>(), brought);
  __syncthreads();
  const int row = threadIdx.x;
  if (row >= min(TILE, rows)) return;
  float sum = 0.0f;
  for (int k = 0; k < TILE_K; ++k) sum += shared.a[0][k][row];
  write_sum(sum, nullptr, 0, sums_of_rows + row, accumulate);
}

// Rows of a plain matrix, where a tile's results go: pointers or offsets, as `first` is.
template <class Place>
struct MatrixRows {
  Place first;
  int64_t pitch;
  __device__ Place operator()(int row) const { return first + row * pitch; }
};
template <class Place>
MatrixRows(Place, int64_t) -> MatrixRows<Place>;

// Rows may have gaps: then they have has(row).
template <class Rows>
__device__ inline bool has_row(const Rows& rows, int row) {
  if constexpr (requires { rows.has(row); })
    return rows.has(row);
  else
    return true;
}

// sums[i,j] = activation(sums[i,j] + bias[j]), where a bias of null is none: the part of the epilogue that reads
// nothing of the result's size.
template <int TILE>
__device__ inline void finish_sums(ThreadSums<TILE>& sums, const float* bias, Activation activation, int first_column,
                                   int last_column) {
  using Sums = ThreadSums<TILE>;
  if (bias != nullptr)
    for (int j = 0; j < Sums::COLUMNS; ++j) {
      const int column = first_column + Sums::column(j);
      const float value = column < last_column ? bias[column] : 0.0f;
      for (int i = 0; i < Sums::ROWS; ++i) sums.values[i][j] += value;
    }
  if (activation == Activation::relu)
    for (auto& row : sums.values)
      for (float& sum : row) sum = relu(sum);
}

// rows(i)[j] (+)= mask <= 0 ? 0 : sums[i,j], for all i < last_row and j < last_column of the tile at (first_row,
// first_column), but for rows that rows.has(i) denies. The mask, which may be null, lies as the result does, where
// rows() points.
template <int TILE, class Rows>
__device__ inline void write_tile(const ThreadSums<TILE>& sums, float* result, const float* mask, Accumulate accumulate,
                                  const Rows& rows, int first_row, int last_row, int first_column, int last_column) {
  using Sums = ThreadSums<TILE>;
#pragma unroll  // the sums are registers, which no variable can index
  for (int i = 0; i < Sums::ROWS; ++i) {
    const int row = first_row + Sums::row(i);
    if (row >= last_row) continue;
    if constexpr (requires { rows.has(row); })  // a call of has_row() spills registers on sm_80
      if (!rows.has(row)) continue;
    float* const target = rows(row) + first_column;
    const float* const y = mask != nullptr ? mask + (target - result) : nullptr;
    const bool aligned = (reinterpret_cast<uintptr_t>(target) | reinterpret_cast<uintptr_t>(y)) % alignof(Vec4) == 0;
#pragma unroll
    for (int j = 0; j < Sums::COLUMNS; j += 4) {
      const int column = Sums::column(j), count = last_column - first_column - column;
      if (count <= 0) continue;
      if (count >= 4 && aligned) {
        Vec4& quad = *reinterpret_cast<Vec4*>(target + column);
        Vec4 total = accumulate == Accumulate::add ? quad : Vec4{};
        const Vec4 at = y != nullptr ? *reinterpret_cast<const Vec4*>(y + column) : Vec4{1.0f, 1.0f, 1.0f, 1.0f};
        for (int e = 0; e < 4; ++e) total.values[e] += relu_gradient(sums.values[i][j + e], at.values[e]);
        quad = total;
      } else {
        for (int e = 0; e < 4 && e < count; ++e) {
          const float value = relu_gradient(sums.values[i][j + e], y != nullptr ? y[column + e] : 1.0f);
          target[column + e] = value + (accumulate == Accumulate::add ? target[column + e] : 0.0f);
        }
      }
    }
  }
}

// A cursor over a matrix: its quad within rows (or columns) below `extent` and k below `k_end`.
template <Along ALONG, Access ACCESS>
class MatrixCursor;

template <Access ACCESS>
class MatrixCursor<Along::reduction, ACCESS> {
 public:
  static constexpr Along along = Along::reduction;

  __device__ MatrixCursor(const Operand<along>& operand, int outer, int k, int k_end)
      : quad_(operand.at(outer, k)), left_(outer < operand.extent ? k_end - k : 0) {}

  __device__ Vec4 load() const { return load_quad<ACCESS>(quad_, left_); }

  __device__ void advance() {
    quad_ += TILE_K;
    left_ -= TILE_K;
  }

 private:
  const float* quad_;
  int left_;  // elements from the quad's first to the end
};

template <Access ACCESS>
class MatrixCursor<Along::outer, ACCESS> {
 public:
  static constexpr Along along = Along::outer;

  __device__ MatrixCursor(const Operand<along>& operand, int outer, int k, int k_end)
      : quad_(operand.at(outer, k)), pitch_(operand.pitch), count_(operand.extent - outer), left_(k_end - k) {}

  __device__ Vec4 load() const { return load_quad<ACCESS>(quad_, left_ > 0 ? count_ : 0); }

  __device__ void advance() {
    quad_ += int64_t(TILE_K) * pitch_;
    left_ -= TILE_K;
  }

 private:
  const float* quad_;
  int pitch_;
  int count_, left_;  // elements from the quad's first to the end along the outer index, and along the reduction
};

// This thread's cursor over the part of an operand that belongs to the tile at `first_outer`, k in [first_k, k_end).
template <int TILE, Access ACCESS, Along ALONG>
__device__ inline MatrixCursor<ALONG, ACCESS> matrix_cursor(const Operand<ALONG>& operand, int first_outer, int first_k,
                                                            int k_end) {
  const QuadPlace place = quad_place<TILE, ALONG>();
  return {operand, first_outer + place.outer, first_k + place.k, k_end};
}

}  // namespace minicnn
