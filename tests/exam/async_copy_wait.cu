// Asynchronous copies whose bytes are read before they are sure to have arrived.
//
// Pattern: the pipelines of cp.async; the faults that Triton's ConSan looks for in them.
// PTX: a copy is performed by no one's program order; cp.async.wait_group N waits for all groups that the thread itself
// has committed but the latest N, and makes their bytes visible to that thread alone.
// A detector must know: a copy that nobody committed is not waited for; an empty group counts; who reads another
// thread's copy needs that thread's wait, then a barrier.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "async_copy_wait";

RACY(no_wait, 1, 64, "a barrier completes no copy: thread 63 - t's is read in flight") {
  clear(shared);
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  __syncthreads();
  other[t] = shared[63 - t];
  async_copy_wait<0>();
}

RACE_FREE(wait_then_barrier, 1, 64, "each thread waits for its copy, then the barrier passes the bytes on") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  async_copy_wait<0>();
  __syncthreads();
  other[t] = shared[63 - t];
}

RACY(read_before_wait, 1, 64, "each thread reads its own copy before its wait") {
  clear(shared);
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  other[t] = shared[t];
  async_copy_wait<0>();
}

RACE_FREE(own_copy_after_wait, 1, 64, "a thread's own copies need its wait and no barrier") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  async_copy_wait<0>();
  other[t] = shared[t];
}

RACY(wait_without_barrier, 1, 64, "thread t's wait says nothing about thread 63 - t's copy") {
  clear(shared);
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  async_copy_wait<0>();
  other[t] = shared[63 - t];
}

RACY(barrier_before_wait, 1, 64, "thread 63 - t may wait for its copy after thread t has read it") {
  clear(shared);
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  __syncthreads();
  async_copy_wait<0>();
  other[t] = shared[63 - t];
}

RACY(one_thread_waits, 1, 64, "only thread 0 waits, and only for its own copy") {
  clear(shared);
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  if (t == 0) async_copy_wait<0>();
  __syncthreads();
  other[t] = shared[63 - t];
  async_copy_wait<0>();
}

RACE_FREE(one_thread_copies, 1, 64, "thread 0 alone copies and waits, then the barrier") {
  if (t == 0) {
    for (int i = 0; i < 64; i += 4) async_copy<16>(&shared[i], &global[i]);
    async_copy_commit();
    async_copy_wait<0>();
  }
  __syncthreads();
  other[t] = shared[63 - t];
}

RACY(one_pair, 1, 64, "thread 40 alone does not wait; thread 23 reads its copy") {
  clear(shared);
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  if (t != 40) async_copy_wait<0>();
  __syncthreads();
  other[t] = shared[63 - t];
  async_copy_wait<0>();
}

RACY(not_committed, 1, 64, "the copy is in no group when the thread waits for its groups") {
  clear(shared);
  async_copy<4>(&shared[t], &global[t]);
  async_copy_wait<0>();
  __syncthreads();
  other[t] = shared[63 - t];
}

RACY(committed_too_early, 1, 64, "the group was closed before the copy was issued") {
  clear(shared);
  async_copy_commit();
  async_copy<4>(&shared[t], &global[t]);
  async_copy_wait<0>();
  __syncthreads();
  other[t] = shared[63 - t];
}

RACY(latest_group_still_pending, 1, 64, "wait<1> leaves the second group in flight, whose words are read") {
  clear(shared);
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  async_copy<4>(&shared[64 + t], &global[64 + t]);
  async_copy_commit();
  async_copy_wait<1>();
  __syncthreads();
  other[t] = shared[64 + 63 - t];
  async_copy_wait<0>();
}

RACE_FREE(older_group_complete, 1, 64, "wait<1> leaves the second group in flight, the first's words are read") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  async_copy<4>(&shared[64 + t], &global[64 + t]);
  async_copy_commit();
  async_copy_wait<1>();
  __syncthreads();
  other[t] = shared[63 - t];
  async_copy_wait<0>();
}

RACY(one_group_for_two_copies, 1, 64, "both copies are in the one group that wait<1> leaves in flight") {
  clear(shared);
  async_copy<4>(&shared[t], &global[t]);
  async_copy<4>(&shared[64 + t], &global[64 + t]);
  async_copy_commit();
  async_copy_wait<1>();
  __syncthreads();
  other[t] = shared[63 - t];
  async_copy_wait<0>();
}

// Four tiles in two stages: tile i + 1 is in flight while tile i is read.
RACY(last_tile_unawaited, 1, 64, "nothing follows the last tile's group, so wait<1> does not wait for it") {
  clear(shared);
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  int sum = 0;
  for (int i = 0; i < 4; ++i) {
    if (i + 1 < 4) {
      async_copy<4>(&shared[(i + 1) % 2 * 64 + t], &global[(i + 1) * 64 + t]);
      async_copy_commit();
    }
    async_copy_wait<1>();
    __syncthreads();
    sum += shared[i % 2 * 64 + 63 - t];
    __syncthreads();
  }
  other[t] = sum;
}

RACE_FREE(last_tile_after_empty_group, 1, 64, "an empty group follows the last tile's, so wait<1> waits for it") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  int sum = 0;
  for (int i = 0; i < 4; ++i) {
    if (i + 1 < 4) async_copy<4>(&shared[(i + 1) % 2 * 64 + t], &global[(i + 1) * 64 + t]);
    async_copy_commit();
    async_copy_wait<1>();
    __syncthreads();
    sum += shared[i % 2 * 64 + 63 - t];
    __syncthreads();
  }
  other[t] = sum;
}

RACE_FREE(last_tile_with_full_wait, 1, 64, "the last tile has a wait<0> of its own") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  int sum = 0;
  for (int i = 0; i < 4; ++i) {
    if (i + 1 < 4) {
      async_copy<4>(&shared[(i + 1) % 2 * 64 + t], &global[(i + 1) * 64 + t]);
      async_copy_commit();
      async_copy_wait<1>();
    } else {
      async_copy_wait<0>();
    }
    __syncthreads();
    sum += shared[i % 2 * 64 + 63 - t];
    __syncthreads();
  }
  other[t] = sum;
}

RACY(three_in_flight_of_two, 1, 64, "wait<2> after three groups completes the first; the second is read") {
  clear(shared);
  for (int i = 0; i < 3; ++i) {
    async_copy<4>(&shared[i * 64 + t], &global[i * 64 + t]);
    async_copy_commit();
  }
  async_copy_wait<2>();
  __syncthreads();
  other[t] = shared[63 - t] + shared[64 + 63 - t];
  async_copy_wait<0>();
}

RACY(warp_barrier_for_block, 1, 64, "after the wait only the warp is waited for; the copy read is the other warp's") {
  clear(shared);
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  async_copy_wait<0>();
  __syncwarp();
  other[t] = shared[(t + 32) % 64];
}

RACE_FREE(warp_barrier_for_warp, 1, 64, "after the wait the warp is waited for; the copy read is its own") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  async_copy_wait<0>();
  __syncwarp();
  other[t] = shared[t ^ 1];
}

RACY(wide_copy, 1, 64, "thread t reads a word of thread t / 4's copy of 16 bytes, without a barrier") {
  clear(shared);
  if (t < 16) {
    async_copy<16>(&shared[4 * t], &global[4 * t]);
    async_copy_commit();
    async_copy_wait<0>();
  }
  other[t] = shared[t];
}

RACY(unawaited_in_block_1, 2, 64, "block 1 does not wait before its barrier") {
  clear(shared);
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  if (block == 0) async_copy_wait<0>();
  __syncthreads();
  other[block * 64 + t] = shared[63 - t];
  async_copy_wait<0>();
}

}  // namespace
}  // namespace minicnn::exam
