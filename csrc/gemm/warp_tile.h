// Rungs 6 and 7: a tile of 128 x 128 sums on the tensor cores, in the registers of eight warps.
#pragma once
#include "gemm/precision.h"
#include "gemm/tile.h"

namespace minicnn {

// A warp's 64 x 32 sums, of which a lane has in each tile of 16 x 8 what d of device/mma.h is.
struct WarpTile {
  static constexpr int ROWS = 4, COLUMNS = 4;  // tiles
  float values[ROWS][COLUMNS][4] = {};

  __device__ static int first_row() { return threadIdx.x / 128 * 64; }
  __device__ static int first_column() { return threadIdx.x / 32 % 4 * 32; }
};

// The words of the fragments that a warp multiplies over 8 of the reduction: of each tile of rows, and of each two
// tiles of columns.
struct WarpFragments {
  uint32_t a[WarpTile::ROWS][4], b[WarpTile::COLUMNS / 2][4];
};

__device__ inline void multiply(const WarpFragments& bits, WarpTile& sums) {
  uint32_t a[WarpTile::ROWS][4];
  for (int i = 0; i < WarpTile::ROWS; ++i)
    for (int word = 0; word < 4; ++word) a[i][word] = Tf32Arithmetic::number(bits.a[i][word]);
  for (int j = 0; j < WarpTile::COLUMNS; ++j) {
    const uint32_t* const two = bits.b[j / 2] + j % 2 * 2;
    const uint32_t b[2] = {Tf32Arithmetic::number(two[0]), Tf32Arithmetic::number(two[1])};
    for (int i = 0; i < WarpTile::ROWS; ++i) Tf32Arithmetic::multiply(sums.values[i][j], a[i], b);
  }
}

// c[i,j] (+)= sums + bias[j], of the tile of which (first_row, first_column) of c is the first.
__device__ inline void write_warp_tile(const WarpTile& sums, const float* bias, float* c, const GemmShape& shape,
                                       Accumulate accumulate, int first_row, int first_column) {
  const int lane = threadIdx.x % 32;
  first_row += WarpTile::first_row() + lane / 4;
  first_column += WarpTile::first_column() + lane % 4 * 2;
#pragma unroll  // the sums are registers, which no variable can index
  for (int i = 0; i < WarpTile::ROWS; ++i)
#pragma unroll
    for (int j = 0; j < WarpTile::COLUMNS; ++j)
      for (int d = 0; d < 4; ++d) {
        const int row = first_row + 16 * i + 8 * (d / 2), column = first_column + 8 * j + d % 2;
        if (row < shape.m && column < shape.n)
          write_sum(sums.values[i][j][d], bias, column, c + int64_t(row) * shape.ldc + column, accumulate);
      }
}

}  // namespace minicnn
