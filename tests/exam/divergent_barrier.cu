// A barrier that not all threads of the block reach.
//
// Pattern: barrier divergence of GPUVerify, of Simulee and of compute-sanitizer's synccheck. By the CUDA C++ guide's
// rule, __syncthreads stands in conditional code only where the condition is the same for the whole block. What a GPU
// makes of a breach (it hangs, goes on, or pairs two barriers) does not matter: RACY here means a fault to report.
// A detector must know: which threads wait where, and that a loop's trip count is a condition, too.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "divergent_barrier";

RACY(half_a_warp, 1, 64, "threads 16.. do not reach the barrier") {
  if (t < 16) __syncthreads();
  other[t] = t;
}

RACY(odd_threads, 1, 64, "even threads do not reach the barrier") {
  if (t % 2 == 1) __syncthreads();
  other[t] = t;
}

RACY(one_warp_of_two, 1, 64, "warp 1 does not reach the barrier") {
  if (t < 32) __syncthreads();
  other[t] = t;
}

RACY(all_but_one_thread, 1, 64, "thread 63 does not reach the barrier") {
  shared[t] = t;
  if (t != 63) __syncthreads();
  other[t] = shared[t];
}

RACE_FREE(guarded_work_around_it, 1, 64, "the guards are around the work, all threads reach the barrier") {
  if (t < 48) shared[t] = t;
  __syncthreads();
  if (t < 48) other[t] = shared[47 - t];
}

RACY(trip_count_by_lane, 1, 64, "odd threads meet the barrier twice, even threads once") {
  for (int i = 0; i < 1 + t % 2; ++i) __syncthreads();
  other[t] = t;
}

RACY(trip_count_by_warp, 1, 96, "warp w meets the barrier w + 1 times") {
  for (int i = 0; i < 1 + t / 32; ++i) __syncthreads();
  other[t] = t;
}

RACE_FREE(trip_count_by_block, 3, 64, "the trip count is the same for all threads of a block") {
  for (int i = 0; i < 1 + block; ++i) __syncthreads();
  other[block * 64 + t] = t;
}

RACY(threads_stride_over_tail, 1, 64, "80 items for 64 threads: threads 16.. have no second round, nor its barrier") {
  for (int i = t; i < 80; i += 64) {
    other[i] = i;
    __syncthreads();
  }
}

RACE_FREE(block_strides_over_tail, 1, 64, "the loop counts the block's rounds, a guard is around the work") {
  for (int first = 0; first < 80; first += 64) {
    if (first + t < 80) other[first + t] = t;
    __syncthreads();
  }
}

RACY(a_barrier_in_each_branch, 1, 64, "odd and even threads of a warp wait at different barriers") {
  clear(shared);
  shared[t] = t;
  if (t % 2 == 1) {
    __syncthreads();
    other[t] = shared[t - 1];
  } else {
    __syncthreads();
    other[t] = 2 * shared[t + 1];
  }
}

RACE_FREE(a_barrier_in_each_branch_by_block, 2, 64, "each block takes one branch as a whole") {
  shared[t] = t;
  if (block == 0) {
    __syncthreads();
    other[t] = shared[63 - t];
  } else {
    __syncthreads();
    other[64 + t] = 2 * shared[63 - t];
  }
}

RACY(break_before_it, 1, 64, "thread 20 leaves the loop in round 1 and misses the barriers of rounds 1 and 2") {
  for (int round = 0; round < 3; ++round) {
    if (t == 20 && round == 1) break;
    __syncthreads();
  }
  other[t] = t;
}

RACY(continue_over_it, 1, 64, "thread 5 skips the barrier of round 1") {
  for (int round = 0; round < 3; ++round) {
    other[round * 64 + t] = t;
    if (t == 5 && round == 1) continue;
    __syncthreads();
  }
}

RACY(by_data, 1, 64, "the condition on the data fails for threads 48..") {
  if (global[t] + t < 48) __syncthreads();
  other[t] = t;
}

RACE_FREE(by_data_alike_for_all, 1, 64, "all threads test the same word") {
  if (global[0] == 0) __syncthreads();
  other[t] = t;
}

RACY(only_in_block_1, 2, 64, "in block 1 warp 1 does not reach the barrier") {
  if (block == 0 || t < 32) __syncthreads();
  other[block * 64 + t] = t;
}

RACY(short_circuit, 1, 64, "&& keeps threads 48.. from the voting barrier") {
  other[t] = t < 48 && __syncthreads_or(global[t] == 0);
}

RACE_FREE(vote_before_branch, 1, 64, "the branch is taken on the vote, which all threads share") {
  if (__syncthreads_or(t == 5)) {
    shared[t] = t;
    __syncthreads();
    other[t] = shared[63 - t];
  }
}

RACE_FREE(rounds_by_vote, 1, 64, "all threads go round until the vote says that nobody has work left") {
  int left = t % 3;
  while (__syncthreads_or(left > 0)) --left;
  other[t] = left;
}

RACE_FREE(whole_block_returns, 2, 64, "block 1 returns as a whole, block 0 meets at its barrier") {
  if (block == 1) return;
  shared[t] = t;
  __syncthreads();
  other[t] = shared[63 - t];
}

}  // namespace
}  // namespace minicnn::exam
