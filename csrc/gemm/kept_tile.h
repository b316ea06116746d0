// Where a block's tile of the result begins: in shared memory, for registers are scarce while the block multiplies.
#pragma once
#include "device/cuda.h"

namespace minicnn {

struct KeptTile {
  int first_row, first_column;

  // To be read behind the block's next barrier.
  __device__ void keep(int row, int column) {
    if (threadIdx.x > 0) return;
    first_row = row;
    first_column = column;
  }
};

}  // namespace minicnn
