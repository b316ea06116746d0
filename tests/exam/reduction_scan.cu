// Reductions and scans: trees of sums in shared memory, by shuffles, and across blocks.
//
// Pattern: "Optimizing Parallel Reduction in CUDA" (Harris) and what became of its unrolled last warp; the scans of
// Hillis and Steele and of Blelloch.
// A detector must know: levels need a barrier each, also the levels within a warp; storage that is used twice needs one
// between the uses; off-by-one guards make races of one pair of threads.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "reduction_scan";

RACE_FREE(tree, 1, 64, "a barrier before each level and after the last") {
  shared[t] = t;
  for (int half = 32; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) shared[t] += shared[t + half];
  }
  __syncthreads();
  other[t] = shared[0];
}

RACY(tree_without_barriers, 1, 64, "level 16 reads words that other threads write in level 32") {
  clear(shared);
  shared[t] = t;
  __syncthreads();
  for (int half = 32; half > 0; half /= 2)
    if (t < half) shared[t] += shared[t + half];
}

RACY(tree_last_warp, 1, 64, "the levels within warp 0 have neither barrier nor __syncwarp") {
  clear(shared);
  shared[t] = t;
  __syncthreads();
  if (t < 32)
    for (int half = 32; half > 0; half /= 2)
      if (t < half) shared[t] += shared[t + half];
}

RACE_FREE(tree_last_warp_with_syncwarp, 1, 64, "__syncwarp before each level within warp 0") {
  shared[t] = t;
  __syncthreads();
  if (t < 32) {
    shared[t] += shared[t + 32];
    for (int half = 16; half > 0; half /= 2) {
      __syncwarp();
      if (t < half) shared[t] += shared[t + half];
    }
  }
  if (t == 0) other[0] = shared[0];
}

RACY(tree_guard_off_by_one, 1, 64, "thread `half` writes the word that thread 0 adds in the same level") {
  clear(shared);
  for (int half = 32; half > 0; half /= 2) {
    __syncthreads();
    if (t <= half) shared[t] += shared[t + half];
  }
}

RACY(tree_without_guard, 1, 64, "thread t + half writes the word that thread t reads in the same level") {
  clear(shared);
  for (int half = 32; half > 0; half /= 2) {
    __syncthreads();
    shared[t] += shared[t + half];
  }
}

RACY(tree_result_too_early, 1, 64, "all threads read the result that thread 0 writes after the last barrier") {
  shared[t] = t;
  for (int half = 32; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) shared[t] += shared[t + half];
  }
  other[t] = shared[0];
}

RACE_FREE(tree_result_by_its_writer, 1, 64, "thread 0 alone reads what it wrote itself") {
  shared[t] = t;
  for (int half = 32; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) shared[t] += shared[t + half];
  }
  if (t == 0) other[0] = shared[0];
}

RACY(tree_barrier_in_guard, 1, 64, "only the threads of a level reach its barrier") {
  clear(shared);
  for (int half = 32; half > 0; half /= 2) {
    if (t < half) {
      shared[t] += shared[t + half];
      __syncthreads();
    }
  }
}

RACY(storage_reused_too_early, 1, 64, "the second sum's store meets the reads of the first sum's result") {
  shared[t] = t;
  for (int half = 32; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) shared[t] += shared[t + half];
  }
  __syncthreads();
  other[t] = shared[0];
  shared[t] = 2 * t;
}

__device__ int warp_sum(int value) {
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL_LANES, value, distance);
  return value;
}

RACE_FREE(warp_sums, 1, 64, "shuffles within the warps, a barrier before their sums are read") {
  const int sum = warp_sum(t);
  if (t % 32 == 0) shared[t / 32] = sum;
  __syncthreads();
  other[t] = shared[0] + shared[1];
}

RACY(warp_sums_without_barrier, 1, 64, "a warp reads the other warp's sum, which its lane 0 writes") {
  clear(shared);
  const int sum = warp_sum(t);
  if (t % 32 == 0) shared[t / 32] = sum;
  other[t] = shared[0] + shared[1];
}

RACY(warp_sums_twice_in_one_storage, 1, 64, "the second sums' store meets the reads of the first sums") {
  int total = 0;
  for (int i = 0; i < 2; ++i) {
    const int sum = warp_sum(i * t);
    if (t % 32 == 0) shared[t / 32] = sum;
    __syncthreads();
    total += shared[0] + shared[1];
  }
  other[t] = total;
}

RACY(block_sums_added_plainly, 2, 64, "the blocks add their sums to one word without atomics") {
  const int sum = warp_sum(t);
  if (t % 32 == 0) shared[t / 32] = sum;
  __syncthreads();
  if (t == 0) global[0] += shared[0] + shared[1];
}

RACE_FREE(block_sums_added_atomically, 2, 64, "the blocks add their sums to one word by atomics") {
  const int sum = warp_sum(t);
  if (t % 32 == 0) shared[t / 32] = sum;
  __syncthreads();
  if (t == 0) atomicAdd(&global[0], shared[0] + shared[1]);
}

RACE_FREE(scan, 1, 64, "a barrier after each level's reads and after its writes") {
  shared[t] = t;
  __syncthreads();
  for (int distance = 1; distance < 64; distance *= 2) {
    const int left = t >= distance ? shared[t - distance] : 0;
    __syncthreads();
    shared[t] += left;
    __syncthreads();
  }
  other[t] = shared[t];
}

RACY(scan_in_place, 1, 64, "thread t - distance writes the word that thread t reads in the same level") {
  shared[t] = t;
  __syncthreads();
  for (int distance = 1; distance < 64; distance *= 2) {
    const int left = t >= distance ? shared[t - distance] : 0;
    shared[t] += left;
    __syncthreads();
  }
  other[t] = shared[t];
}

RACE_FREE(scan_in_two_buffers, 1, 64, "a level reads one buffer, writes the other, and ends in a barrier") {
  int *from = shared, *to = shared + 64;
  from[t] = t;
  __syncthreads();
  for (int distance = 1; distance < 64; distance *= 2) {
    to[t] = from[t] + (t >= distance ? from[t - distance] : 0);
    __syncthreads();
    int* const next = from;
    from = to;
    to = next;
  }
  other[t] = from[63 - t];
}

RACY(scan_up_sweep, 1, 64, "a level of the up-sweep reads what the level before has just written, no barrier between") {
  clear(shared);
  for (int stride = 1; stride < 64; stride *= 2)
    if (t % (2 * stride) == 2 * stride - 1) shared[t] += shared[t - stride] + 1;
}

RACE_FREE(scan_up_sweep_with_barriers, 1, 64, "a barrier before each level") {
  shared[t] = t;
  for (int stride = 1; stride < 64; stride *= 2) {
    __syncthreads();
    if (t % (2 * stride) == 2 * stride - 1) shared[t] += shared[t - stride];
  }
}

RACY(scan_carry_of_other_block, 2, 64, "block 1 adds the last sum of block 0, for which it does not wait") {
  shared[t] = t;
  __syncthreads();
  int sum = 0;
  for (int i = 0; i <= t; ++i) sum += shared[i];
  global[block * 64 + t] = sum;
  if (block == 1) other[t] = sum + global[63];
}

}  // namespace
}  // namespace minicnn::exam
