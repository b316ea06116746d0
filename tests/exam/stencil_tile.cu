// Stencils with halos, tiles in shared memory, transposes.
//
// Pattern: the tiled kernels, stencils and transposes on which GPUVerify, Simulee and Faial were evaluated.
// A detector must know: interior words may be right while the halo's are not; with a tile loop both barriers count;
// output tiles that overlap by one column race at that column only.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "stencil_tile";

RACE_FREE(halo, 1, 64, "tile and halo are written before the barrier, read after it") {
  shared[1 + t] = global[1 + t];
  if (t == 0) shared[0] = global[0];
  if (t == 63) shared[65] = global[65];
  __syncthreads();
  other[t] = shared[t] + shared[1 + t] + shared[2 + t];
}

RACY(halo_without_barrier, 1, 64, "each thread reads its neighbours' words without a barrier") {
  clear(shared);
  shared[1 + t] = global[1 + t];
  if (t == 0) shared[0] = global[0];
  if (t == 63) shared[65] = global[65];
  other[t] = shared[t] + shared[1 + t] + shared[2 + t];
}

RACY(halo_after_barrier, 1, 64, "thread 63 writes the left halo after the barrier, thread 0 reads it") {
  clear(shared);
  shared[1 + t] = global[1 + t];
  __syncthreads();
  if (t == 63) shared[0] = global[0];
  other[t] = shared[t] + shared[1 + t] + shared[2 + t];
}

RACE_FREE(halo_after_barrier_by_its_reader, 1, 64, "thread 0 alone writes and reads the left halo") {
  clear(shared);
  shared[1 + t] = global[1 + t];
  __syncthreads();
  if (t == 0) shared[0] = global[0];
  other[t] = shared[t] + shared[1 + t] + shared[2 + t];
}

RACY(halo_with_syncwarp, 1, 64, "the neighbours across the warps' border, threads 31 and 32, lack an order") {
  clear(shared);
  shared[1 + t] = global[1 + t];
  __syncwarp();
  other[t] = shared[t] + shared[1 + t] + shared[2 + t];
}

RACY(halo_loaded_twice, 1, 64, "threads 0 and 32 both load the left halo") {
  shared[1 + t] = global[1 + t];
  if (t % 32 == 0) shared[0] = global[t];
  if (t == 63) shared[65] = global[65];
  __syncthreads();
  other[t] = shared[t] + shared[1 + t] + shared[2 + t];
}

RACY(in_place, 1, 64, "thread t writes the word that its neighbours read") {
  clear(shared);
  shared[1 + t] = shared[t] + shared[2 + t];
}

RACE_FREE(in_place_with_barrier, 1, 64, "the barrier lies between all reads and all writes") {
  clear(shared);
  const int sum = shared[t] + shared[2 + t];
  __syncthreads();
  shared[1 + t] = sum;
}

RACY(in_place_in_steps, 1, 64, "a step's reads meet the writes of the step before") {
  clear(shared);
  for (int step = 0; step < 3; ++step) {
    const int sum = shared[t] + shared[2 + t] + 1;
    __syncthreads();
    shared[1 + t] = sum;
  }
}

RACE_FREE(in_place_in_steps_with_barriers, 1, 64, "barriers after each step's reads and after its writes") {
  clear(shared);
  for (int step = 0; step < 3; ++step) {
    const int sum = shared[t] + shared[2 + t] + 1;
    __syncthreads();
    shared[1 + t] = sum;
    __syncthreads();
  }
}

RACY(global_in_place, 2, 64, "at the blocks' border a word is read by one block and written by the other") {
  const int i = block * 64 + t;
  const int sum = global[i] + global[i + 2];
  __syncthreads();
  global[i + 1] = sum;
}

RACE_FREE(global_out_of_place, 2, 64, "what is read is not written") {
  const int i = block * 64 + t;
  other[i] = global[i] + global[i + 1] + global[i + 2];
}

RACE_FREE(transpose, 1, 64, "the barrier lies between the rows' writes and the columns' reads") {
  const int row = t / 8, column = t % 8;
  shared[row * 9 + column] = global[t];
  __syncthreads();
  other[t] = shared[column * 9 + row];
}

RACY(transpose_without_barrier, 1, 64, "thread (column, row) writes the word that thread (row, column) reads") {
  clear(shared);
  const int row = t / 8, column = t % 8;
  shared[row * 9 + column] = global[t];
  other[t] = shared[column * 9 + row];
}

RACY(transpose_in_place, 1, 64, "both threads of a pair swap its words") {
  const int row = t / 8, column = t % 8;
  const int here = global[row * 8 + column], there = global[column * 8 + row];
  global[row * 8 + column] = there + 1;
  global[column * 8 + row] = here + 1;
}

RACE_FREE(transpose_in_place_above_diagonal, 1, 64, "the thread above the diagonal swaps for both") {
  const int row = t / 8, column = t % 8;
  if (row < column) {
    const int here = global[row * 8 + column], there = global[column * 8 + row];
    global[row * 8 + column] = there + 1;
    global[column * 8 + row] = here + 1;
  }
}

RACE_FREE(tile_loop, 1, dim3(8, 8), "a barrier after each tile's writes and after its reads") {
  int* const x = shared + threadIdx.y * 8;
  int sum = 0;
  for (int tile = 0; tile < 3; ++tile) {
    x[t] = global[tile * 64 + threadIdx.y * 8 + t];
    __syncthreads();
    for (int k = 0; k < 8; ++k) sum += x[k] * shared[k * 8 + t];
    __syncthreads();
  }
  other[threadIdx.y * 8 + t] = sum;
}

RACY(tile_loop_without_second_barrier, 1, dim3(8, 8), "the next tile's writes meet this tile's reads") {
  int* const x = shared + threadIdx.y * 8;
  int sum = 0;
  for (int tile = 0; tile < 3; ++tile) {
    x[t] = global[tile * 64 + threadIdx.y * 8 + t];
    __syncthreads();
    for (int k = 0; k < 8; ++k) sum += x[k] * shared[k * 8 + t];
  }
  other[threadIdx.y * 8 + t] = sum;
}

RACY(tile_loop_without_first_barrier, 1, dim3(8, 8), "a tile's reads meet the same tile's writes") {
  clear(shared);
  int* const x = shared + threadIdx.y * 8;
  int sum = 0;
  for (int tile = 0; tile < 3; ++tile) {
    x[t] = global[tile * 64 + threadIdx.y * 8 + t];
    for (int k = 0; k < 8; ++k) sum += x[k] * shared[k * 8 + t];
    __syncthreads();
  }
  other[threadIdx.y * 8 + t] = sum;
}

// Rows of 32 words, tiles of 8 columns.
RACY(output_tiles_overlap, 2, 64, "block 1's tile begins on the last column of block 0's") {
  global[t / 8 * 32 + block * 7 + t % 8] = t;
}

RACE_FREE(output_tiles_touch, 2, 64, "block 1's tile begins after the last column of block 0's") {
  global[t / 8 * 32 + block * 8 + t % 8] = t;
}

}  // namespace
}  // namespace minicnn::exam
