// Where a block's tile of the result begins: in shared memory, for registers are scarce while the block multiplies.
#pragma once
#include "device/cuda.h"

namespace minicnn {

struct KeptTile {
  int first_row, first_column;

  // All threads of the block take part.
  __device__ void keep(int row, int column) {
    if (threadIdx.x == 0) {
      first_row = row;
      first_column = column;
    }
    __syncthreads();
  }
};

}  // namespace minicnn
