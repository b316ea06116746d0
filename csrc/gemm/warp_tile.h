// Rungs 6 and 7: a tile of 128 x 128 sums on the tensor cores, in the registers of eight warps.
#pragma once
#include "gemm/tensor_core_tile.h"
#include "gemm/tile.h"

namespace minicnn {

// A warp's 64 x 32 sums.
using WarpTile = WarpSums<128, 256>;

// The words of the fragments that a warp multiplies over 8 of the reduction: of each tile of rows, and of each two
// tiles of columns.
struct WarpFragments {
  uint32_t rows[WarpTile::ROWS][4], columns[WarpTile::COLUMNS / 2][4];
};

__device__ inline void multiply(const WarpFragments& bits, WarpTile& sums) {
  Fragments<Tf32Arithmetic> rows[WarpTile::ROWS];
  for (int i = 0; i < WarpTile::ROWS; ++i) rows[i] = Fragments<Tf32Arithmetic>(bits.rows[i]);
  for (int pair = 0; pair < WarpTile::COLUMNS / 2; ++pair) {
    const Fragments<Tf32Arithmetic> columns(bits.columns[pair]);
    for (int i = 0; i < WarpTile::ROWS; ++i) multiply_fragments(rows[i], columns, i, pair, sums);
  }
}

// c[i,j] (+)= sums + bias[j], of the tile of which (first_row, first_column) of c is the first.
__device__ inline void write_warp_tile(const WarpTile& sums, const float* bias, float* c, const GemmShape& shape,
                                       Accumulate accumulate, int first_row, int first_column) {
#pragma unroll  // the sums are registers, which no variable can index
  for (int i = 0; i < WarpTile::ROWS; ++i)
#pragma unroll
    for (int j = 0; j < WarpTile::COLUMNS; ++j)
      for (int d = 0; d < 4; ++d) {
        const int row = first_row + int(sums.row(i, d / 2)), column = first_column + int(sums.column(j)) + d % 2;
        if (row < shape.m && column < shape.n)
          write_sum(sums.values[i][j][d], bias, column, c + int64_t(row) * shape.ldc + column, accumulate);
      }
}

}  // namespace minicnn
