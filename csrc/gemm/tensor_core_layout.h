// How a slice of an operand lies in shared memory for the tensor cores.
//
// A slice is TILE neighbours along the outer index by 64 bytes of the reduction: 32 elements of 16 bits, 16 of 32 bits.
// It lies by rows in the order of global memory, whatever the operand's layout:
//
//   Along::reduction   TILE rows, one an outer index, of 64 bytes, 4 chunks
//   Along::outer       one row a k, of TILE elements
//
// A chunk is 16 bytes: what one asynchronous copy brings, and a row of a matrix for ldmatrix. Rows are so long that
// chunks above one another would share their banks; therefore a row's chunks are permuted, by exclusive-or with a
// number that the row gives (swizzle), so that
//   - the eight chunks that ldmatrix reads at a time, of eight rows next to one another, lie in different banks;
//   - of elements of 32 bits along the outer index, which ldmatrix cannot transpose, so do the 4 x 8 elements that a
//     warp reads by themselves, of four rows next to one another;
//   - the chunks that eight neighbouring threads bring, of one row or of two, lie in one line of 128 bytes.
// In the small tile, into which elements come one by one where operands do not lie in chunks, the second line of a row
// along the outer index is permuted otherwise than the first: so do the words that a warp copies, four of each of eight
// chunks (ThreadChunks).
#pragma once
#include <cstdint>

#include "device/host_device.h"
#include "gemm/along.h"

namespace minicnn {

struct alignas(16) Chunk {
  uint32_t words[4];
};

template <class T, int TILE, Along ALONG>
struct SliceLayout {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4, "the tensor cores take elements of 16 and of 32 bits here");
  using Element = T;
  static constexpr Along along = ALONG;
  static constexpr int CHUNK = sizeof(Chunk) / sizeof(T);  // elements
  static constexpr int DEPTH = 64 / sizeof(T);             // elements along the reduction
  static constexpr int ROWS = ALONG == Along::reduction ? TILE : DEPTH;
  static constexpr int CHUNKS_A_ROW = (ALONG == Along::reduction ? DEPTH : TILE) / CHUNK;

  static MINICNN_HOST_DEVICE constexpr unsigned swizzle(unsigned row) {
    if (ALONG == Along::reduction) return row / 2 % 4;
    return sizeof(T) == 2 ? row % 8 : row % 4 * 2;
  }

  static MINICNN_HOST_DEVICE constexpr unsigned chunk_at(unsigned row, unsigned chunk) {
    const unsigned line = ALONG == Along::outer && sizeof(T) == 4 && TILE == 64 ? chunk / 8 : 0;
    return row * CHUNKS_A_ROW + (chunk ^ swizzle(row) ^ line);
  }

  // Elements from the beginning of the slice to (outer, k).
  static MINICNN_HOST_DEVICE constexpr unsigned offset(unsigned outer, unsigned k) {
    const unsigned row = ALONG == Along::reduction ? outer : k, column = ALONG == Along::reduction ? k : outer;
    return chunk_at(row, column / CHUNK) * CHUNK + column % CHUNK;
  }
};

}  // namespace minicnn
